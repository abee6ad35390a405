"""What a recipe may say: one frozen model per section, each field one sentence with its unit.

Every key that `compat` sets carries the row of the published behaviour it stands for (M1, O1, D6, …); the table is
`selfalign_cli.recipe.compat`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Strict, frozen, and closed: unknown keys are faults, text is not a number, `yes` is not a word."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]


class RunSection(Section):
    """Where a run lives and how it is watched."""

    dir: str = Field(min_length=1, description="Folder of the run; relative paths start at the working directory.")
    seed: Count = Field(1024, description="Seed of weights, shuffling and dropout.")
    log_every: Positive = Field(10, description="Optimizer steps between two lines of metrics.jsonl.")
    save_every: Positive = Field(500, description="Optimizer steps between two writes of last.ckpt.")
    tensorboard: bool = Field(True, description="Write TensorBoard events when the extra is installed.")


class DataSection(Section):
    """Which files are read and how they are batched."""

    features: str = Field(min_length=1, description="Feature file (HDF5) with captions, made by convert-features.")
    vocab: str | None = Field(None, description="Vocabulary JSON made by build-vocab; VSRN needs one, CAMERA none.")
    tokenizer: Literal["auto", "treebank", "treebank-line", "nltk-punkt"] = Field(
        "auto", description="Word splitter; auto takes the one that the vocabulary names."
    )
    lowercase: Literal["unicode", "ascii"] = Field("unicode", description="Letters that are lower-cased (D2).")
    train_split: str = Field("train", description="Split the optimizer sees.")
    dev_split: str = Field("dev", description="Split that validation scores and selection looks at.")
    dev_limit: Positive | None = Field(None, description="Captions of the dev split that are used; null for all (D1).")
    batch_size: Positive = Field(128, description="Pairs in one optimizer step.")
    workers: Count = Field(0, description="Loader processes; 0 reads in the training process.")
    max_words: Annotated[int, Field(ge=3)] | None = Field(
        None, description="Longest caption in tokens, marks included; longer ones are cut and counted. null: no limit."
    )
    pad_to_max_words: bool = Field(False, description="Pad every batch to max_words instead of its longest caption.")


class VsrnSection(Section):
    """The VSRN encoders: region graph and GRU over regions, GRU over words."""

    name: Literal["vsrn"]
    embed_dim: Positive = Field(2048, description="Width D of region states, word states and pooled vectors.")
    word_dim: Positive = Field(300, description="Width of the word table.")
    graph_layers: Count = Field(4, description="Region graph layers.")
    normalize_regions: bool = Field(False, description="Normalise after the first map (COCO; not Flickr30K).")
    final_batchnorm: bool = Field(False, description="Batch normalisation of the pooled picture (Flickr30K only).")
    normalize_over: Literal["places", "embedding"] = Field(
        "places", description="Axis of the 3-D normalisations: over regions as published, or over the embedding (M1)."
    )
    bounded_norm: bool = Field(True, description="Bound those lengths below by 1e-12 (M1).")
    absolute: bool = Field(False, description="Take absolute values of the pooled vectors.")
    normalize_image: bool = Field(True, description="Give pooled picture vectors unit length.")


class CameraSection(Section):
    """The CAMERA encoders: gated self-attention over regions and words, views, BERT below the words."""

    name: Literal["camera"]
    embed_dim: Positive = Field(2048, description="Width D of region states, word states and views.")
    heads: Positive = Field(64, description="Attention heads; they divide embed_dim.")
    views: Positive = Field(12, description="View vectors per picture.")
    attention_layers: Positive = Field(1, description="Gated self-attention layers.")
    dropout: Probability = Field(0.0, description="Dropout in attention and feed-forward layers.")
    bert: str = Field(min_length=1, description="BERT folder, current or older layout, or a hub name.")
    finetune_bert: bool = Field(False, description="Train BERT too, at optim.bert_learning_rate.")
    bert_eval_mode: bool = Field(True, description="Keep a frozen BERT in evaluation mode while training (M5).")
    equal_start: bool = Field(True, description="Query, key and value maps start as equal copies (M10).")
    guard_boxes: bool = Field(True, description="Bound box heights away from zero in w/h (M11).")
    normalize_over: Literal["places", "embedding"] = Field(
        "places", description="Axis of the 3-D normalisations: over places as published, or over the embedding (M1)."
    )
    bounded_norm: bool = Field(True, description="Bound those lengths below by 1e-12 (M1).")


class SelfAlignSection(Section):
    """The SelfAlign module on top of the host; `enabled: false` is the host alone."""

    enabled: bool = Field(True, description="Build SelfAlign and its two losses.")
    context_embedding: bool = Field(True, description="Append context and mean local to the retrieval vectors.")
    relu: bool = Field(True, description="ReLU on guides and locals.")
    image_context_weight: Rate = Field(0.5, description="Factor on the picture's context block.")


class PaddingSection(Section):
    """Whether padded places stay out of the arithmetic (corrected) or take part in it (published)."""

    masked_means: bool = Field(True, description="Text means run over real tokens only (M2).")
    masked_batchnorm: bool = Field(True, description="Batch normalisation sees real tokens only (M3).")
    masked_attention: bool = Field(True, description="Attention and context keys see real tokens only (M4).")


class RankingSection(Section):
    """The hinge on similarities."""

    margin: Weight = Field(0.2, description="Margin, in units of the similarity.")
    hardest_negative: bool = Field(True, description="Only the hardest negative counts; false sums all violations.")
    warmup_epochs: Count = Field(0, description="First epochs on the mean violation instead of the hardest.")
    similarity: Literal["dot", "order"] = Field("dot", description="Inner product, or minus the order violation.")
    reduction: Literal["sum", "mean"] = Field("sum", description="Over the batch (M12).")


class ConceptSection(Section):
    """The concept-level loss: words learn the prototype assignment of their region."""

    enabled: bool = Field(True, description="Use this loss.")
    weight: Weight = Field(1.0, description="Factor in the total.")
    prototypes: Positive = Field(1024, description="Number K of concept prototypes.")
    temperature: Rate = Field(0.1, description="Student temperature, in cosine units.")
    sinkhorn_epsilon: Rate = Field(0.05, description="Entropy of the assignment, in cosine units.")
    sinkhorn_iterations: Count = Field(2, description="Row and column normalisations.")
    image_gradient: bool = Field(False, description="Let gradient reach the regions through the assignment (M8).")
    frozen_epochs: Count = Field(0, description="First epochs in which prototypes keep their start values (M9).")


class ContextSection(Section):
    """The context-level loss: a side's guide against the other side's locals."""

    enabled: bool = Field(True, description="Use this loss.")
    weight: Weight = Field(1.0, description="Factor on the mean of both directions.")
    image_temperature: Rate = Field(0.7, description="Temperature of picture locals as keys.")
    text_temperature: Rate = Field(0.7, description="Temperature of word locals as keys.")
    negatives: Positive | None = Field(512, description="Hardest negatives per query; null for all.")
    exclude_own: bool = Field(True, description="Own logits leave the negatives instead of becoming -10 (M6).")


class CaptioningSection(Section):
    """The caption generator (VSRN, training only)."""

    weight: Weight = Field(1.0, description="Factor in the total.")
    hidden_dim: Positive = Field(512, description="Width of generator states.")
    word_dim: Positive = Field(300, description="Width of the generator's word table.")
    max_len: Annotated[int, Field(ge=3)] = Field(60, description="Longest caption, in tokens with marks.")
    dropout: Probability = Field(0.2, description="Dropout on generator inputs.")


class DiversitySection(Section):
    """The penalty that keeps views apart (CAMERA)."""

    weight: Weight = Field(0.01, description="Factor in the total.")
    reduction: Literal["sum", "mean"] = Field("sum", description="Over the batch (M12).")


class LossSection(Section):
    """Every term of the training loss."""

    ranking: RankingSection = Field(default_factory=RankingSection)
    concept: ConceptSection = Field(default_factory=ConceptSection)
    context: ContextSection = Field(default_factory=ContextSection)
    captioning: CaptioningSection | None = Field(None, description="VSRN's caption generator; null leaves it out.")
    diversity: DiversitySection | None = Field(None, description="CAMERA's view penalty; null leaves it out.")
    same_image_negatives: bool = Field(False, description="Captions of one picture are each other's negatives (M7).")


class OptimSection(Section):
    """Adam, step decay and clipping."""

    learning_rate: Rate = Field(2.0e-4, description="Start value of Adam's step size.")
    bert_learning_rate: Rate | None = Field(None, description="Step size of BERT when model.finetune_bert is true.")
    epochs: Positive = Field(30, description="Passes over the training captions.")
    decay_every: Positive = Field(10, description="Epochs between two decays.")
    decay_factor: Rate = Field(0.1, description="Factor of one decay.")
    grad_clip_norm: Weight = Field(2.0, description="Largest total gradient length; 0 switches clipping off.")
    captioner_twice: bool = Field(False, description="Step and clip generator parameters twice per iteration (O1).")


class ValidationSection(Section):
    """When the dev split is scored and what the best checkpoint is."""

    every: Positive = Field(500, description="Optimizer steps between validations; each epoch ends with one too.")
    batch_size: Positive = Field(128, description="Rows encoded at once in validation, eval and export.")
    select_by: Literal["rsum", "r1+r5"] = Field("rsum", description="Score that best.ckpt maximises (D6).")


class Recipe(Section):
    """A whole experiment."""

    compat: Literal["corrected", "published"] = Field("corrected", description="Preset of the keys marked M, O, D.")
    run: RunSection
    data: DataSection
    model: VsrnSection | CameraSection = Field(discriminator="name")
    selfalign: SelfAlignSection = Field(default_factory=SelfAlignSection)
    padding: PaddingSection = Field(default_factory=PaddingSection)
    loss: LossSection = Field(default_factory=LossSection)
    optim: OptimSection = Field(default_factory=OptimSection)
    validation: ValidationSection = Field(default_factory=ValidationSection)
