"""What a recipe may say: one frozen model per section, each field one sentence with its unit.

The `model` sections are in `selfalign_cli.recipe.hosts`.

Every key that `compat` sets carries the row of the published behaviour it stands for (M1, O1, D6, …); the table is
`selfalign_cli.recipe.compat`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from selfalign_cli.recipe.hosts import HOSTS, AnyHostSection, Host
from selfalign_cli.recipe.section import (
    ChunkSize,
    Count,
    Entropy,
    Epochs,
    Factor,
    FirstEpochs,
    Positive,
    Probability,
    Rate,
    Section,
    StepSize,
    Text,
    TokenCount,
    Weight,
)


class RunSection(Section):
    """Where a run lives and how it is watched."""

    dir: Text = Field(description="Folder of the run; relative paths start at the working directory.")
    seed: Count = Field(default=1024, description="Seed of weights, shuffling and dropout.")
    log_every: Positive = Field(default=10, description="Optimizer steps between two lines of metrics.jsonl.")
    save_every: Positive = Field(default=500, description="Optimizer steps between two writes of last.ckpt.")
    gradient_shares: bool = Field(
        default=True, description="Log once an epoch how much of the gradient each term of the loss is."
    )
    tensorboard: bool = Field(default=True, description="Write TensorBoard events when the extra is installed.")


class DataSection(Section):
    """Which files are read and how they are batched."""

    features: Text = Field(description="Feature file (HDF5) with captions, made by convert-features.")
    vocab: Text | None = Field(
        default=None, description="Vocabulary JSON made by build-vocab, for hosts that read words (VSRN)."
    )
    tokenizer: Literal["auto", "treebank", "treebank-line", "nltk-punkt"] = Field(
        default="auto", description="Word splitter; auto takes the one that the vocabulary names."
    )
    lowercase: Literal["unicode", "ascii"] = Field(default="unicode", description="Letters that are lower-cased (D2).")
    train_split: Text = Field(default="train", description="Split the optimizer sees.")
    dev_split: Text = Field(default="dev", description="Split that validation scores and selection looks at.")
    dev_limit: Positive | None = Field(
        default=None, description="Captions of the dev split that are used; null for all (D1)."
    )
    batch_size: Positive = Field(default=128, description="Pairs in one optimizer step.")
    drop_last: bool = Field(default=False, description="Leave out an epoch's last batch if it is smaller.")
    drop_regions: Probability = Field(
        default=0.0, description="Chance that training leaves out a region, drawn anew each time; one always stays."
    )
    alter_words: Probability = Field(
        default=0.0,
        description="Chance that training alters a word: half of those are masked, a tenth become any word of the "
        "vocabulary, the others are left out; one always stays.",
    )
    workers: Count = Field(default=0, description="Threads that read batches ahead; 0 reads each when it is needed.")
    max_words: TokenCount | None = Field(
        default=None,
        description="Longest caption in tokens, marks included; longer ones are cut and counted. null: no limit.",
    )
    pad_to_max_words: bool = Field(
        default=False, description="Pad every batch to max_words instead of its longest caption."
    )
    cache_words: bool = Field(
        default=False,
        description="Compute the token states of a frozen BERT once, into run.dir/cache: "
        "4 bytes x BERT's width for every token of train and dev.",
    )


class SelfAlignSection(Section):
    """The SelfAlign module on top of the host; `enabled: false` is the host alone."""

    enabled: bool = Field(default=True, description="Build SelfAlign and its two losses.")
    context_embedding: bool = Field(
        default=True, description="Append context and mean local to the retrieval vectors."
    )
    relu: bool = Field(default=True, description="ReLU on guides and locals.")
    image_context_weight: Rate = Field(default=0.5, description="Factor on the picture's context block.")


class PaddingSection(Section):
    """Whether padded positions stay out of the arithmetic (corrected) or take part in it (published)."""

    masked_means: bool = Field(default=True, description="Text means run over real tokens only (M2).")
    masked_batchnorm: bool = Field(default=True, description="Batch normalisation sees real tokens only (M3).")
    masked_attention: bool = Field(default=True, description="Attention and context keys see real tokens only (M4).")


class RankingSection(Section):
    """The loss on similarities: a hinge, a softmax over the batch (InfoNCE), or a sigmoid for every pair (SigLIP)."""

    kind: Literal["hinge", "infonce", "sigmoid"] = Field(
        default="hinge", description="Hinge; softmax over the batch, both ways; or one sigmoid for each pair."
    )
    weight: Rate = Field(default=1.0, description="Factor in the total.")
    temperature: Rate | None = Field(
        default=None, description="Start value for infonce (null: 0.07) and sigmoid (null: 0.1), in similarity units."
    )
    learn_temperature: bool = Field(
        default=True, description="Train the temperature, and the bias of sigmoid; false keeps their start values."
    )
    bias: float | None = Field(default=None, description="Start value of the bias of sigmoid; null: -10.")
    margin: Weight = Field(default=0.2, description="Margin, in units of the similarity.")
    hardest_negative: bool = Field(
        default=True, description="Only the hardest negative counts; false sums all violations."
    )
    warmup_epochs: FirstEpochs = Field(
        default=0,
        description="First epochs on all violations instead of the hardest; below 1: that fraction of all.",
    )
    warmup_mode: Literal["mean", "sum"] = Field(
        default="mean", description="Mean or sum of a pair's violations in those epochs (G10)."
    )
    similarity: Literal["dot", "order"] = Field(
        default="dot", description="Inner product, or minus the order violation."
    )
    reduction: Literal["sum", "mean"] = Field(default="sum", description="Over the batch (M12).")


class ConceptSection(Section):
    """The concept-level loss: words learn the prototype assignment of their region."""

    enabled: bool = Field(default=True, description="Use this loss.")
    weight: Weight = Field(default=1.0, description="Factor in the total.")
    prototypes: Positive = Field(default=1024, description="Number K of concept prototypes.")
    temperature: Rate = Field(default=0.1, description="Student temperature, in cosine units.")
    sinkhorn_epsilon: Entropy = Field(
        default=0.05,
        description="Entropy of the assignment, in cosine units; below 0.02, sums of exp(1/epsilon) may overflow.",
    )
    sinkhorn_iterations: Count = Field(default=2, description="Row and column normalisations.")
    image_gradient: bool = Field(
        default=False, description="Let gradient reach the regions through the assignment (M8)."
    )
    frozen_epochs: FirstEpochs = Field(
        default=0,
        description="First epochs in which prototypes keep their start values (M9); below 1: that fraction of all.",
    )


class ContextSection(Section):
    """The context-level loss: a side's guide against the other side's locals."""

    enabled: bool = Field(default=True, description="Use this loss.")
    weight: Weight = Field(default=1.0, description="Factor on the mean of both directions.")
    image_temperature: Rate = Field(default=0.7, description="Temperature of picture locals as keys.")
    text_temperature: Rate = Field(default=0.7, description="Temperature of word locals as keys.")
    negatives: Positive | None = Field(default=512, description="Hardest negatives per query; null for all.")
    exclude_own: bool = Field(default=True, description="Own logits leave the negatives instead of becoming -10 (M6).")


class CaptioningSection(Section):
    """The caption generator (VSRN, training only)."""

    weight: Weight = Field(default=1.0, description="Factor in the total.")
    hidden_dim: Positive | None = Field(
        default=512, description="Width of generator states; null for model.embed_dim."
    )
    word_dim: Positive = Field(default=300, description="Width of the generator's word table.")
    max_len: TokenCount = Field(default=60, description="Longest caption, in tokens with marks.")
    dropout: Probability = Field(default=0.2, description="Dropout on generator inputs.")


class DiversitySection(Section):
    """The penalty that keeps views apart (CAMERA)."""

    weight: Weight = Field(default=0.01, description="Factor in the total.")
    reduction: Literal["sum", "mean"] = Field(default="sum", description="Over the batch (M12).")


class LossSection(Section):
    """Every term of the training loss."""

    ranking: RankingSection = Field(default_factory=RankingSection)
    concept: ConceptSection = Field(default_factory=ConceptSection)
    context: ContextSection = Field(default_factory=ContextSection)
    captioning: CaptioningSection | None = Field(
        default=None, description="VSRN's caption generator; null leaves it out."
    )
    diversity: DiversitySection | None = Field(default=None, description="CAMERA's view penalty; null leaves it out.")
    same_image_negatives: bool = Field(
        default=False, description="Captions of one picture are each other's negatives (M7)."
    )


class OptimSection(Section):
    """Adam, or AdamW where weights decay, with step decay of the rate and clipping."""

    learning_rate: StepSize = Field(default=2.0e-4, description="Start value of Adam's step size.")
    bert_learning_rate: StepSize | None = Field(
        default=None, description="Step size of BERT when model.finetune is true; null for learning_rate."
    )
    epochs: Positive = Field(default=30, description="Passes over the training captions.")
    decay_every: Epochs = Field(
        default=10, description="Epochs between two decays; below 1: that fraction of optim.epochs."
    )
    decay_factor: Factor = Field(default=0.1, description="Factor of one decay.")
    weight_decay: Weight = Field(
        default=0.0,
        description="Part of every weight, times the step size, that a step takes off (AdamW); prototypes are spared.",
    )
    grad_clip_norm: Weight = Field(default=2.0, description="Largest total gradient length; 0 switches clipping off.")
    chunk_size: ChunkSize | None = Field(
        default=None, description="Pairs encoded at once (gradient caching), to save memory; null for all."
    )
    captioner_twice: bool = Field(
        default=False, description="Step and clip generator parameters twice per iteration (O1)."
    )


class ValidationSection(Section):
    """When the dev split is scored and what the best checkpoint is."""

    every: Positive = Field(
        default=500, description="Optimizer steps between validations; each epoch ends with one too."
    )
    batch_size: Positive = Field(default=128, description="Rows encoded at once in validation, eval and export.")
    select_by: Literal["rsum", "r1+r5"] = Field(default="rsum", description="Score that best.ckpt maximises (D6).")


class Recipe(Section):
    """A whole experiment."""

    compat: Literal["corrected", "published"] = Field(
        default="corrected", description="Preset of the keys marked M, O, D."
    )
    run: RunSection
    data: DataSection
    model: AnyHostSection
    selfalign: SelfAlignSection = Field(default_factory=SelfAlignSection)
    padding: PaddingSection = Field(default_factory=PaddingSection)
    loss: LossSection = Field(default_factory=LossSection)
    optim: OptimSection = Field(default_factory=OptimSection)
    validation: ValidationSection = Field(default_factory=ValidationSection)

    @property
    def host(self) -> Host:
        """What the table says about the recipe's host."""
        return HOSTS[self.model.name]

    @property
    def embed_dim(self) -> int:
        """Width D of a recipe whose widths are numbers, as all are once the features are known (`with_widths`)."""
        if self.model.embed_dim is None:
            raise TypeError("model.embed_dim is still left to the features")
        return self.model.embed_dim
