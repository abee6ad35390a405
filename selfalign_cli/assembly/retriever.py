"""The public Python interface: a loaded model that encodes pictures and texts, scores and searches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from selfalign_cli.assembly.checkpoint import load_checkpoint, load_state
from selfalign_cli.assembly.device import choose_device
from selfalign_cli.assembly.encode import (
    OnRows,
    batching_of,
    encode_batches,
    encode_captions,
    encode_pictures,
    rows_are_independent,
)
from selfalign_cli.assembly.features import expect_fit, needs_boxes
from selfalign_cli.assembly.identity import Identity, TrainedOn, identity_of
from selfalign_cli.assembly.language import CaptionEncoder, untrained_model
from selfalign_cli.assembly.split import SplitData, open_split
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.features.origin import require_same_extractor
from selfalign_cli.data.text.token_table import TokenTable
from selfalign_cli.encodings import ImageBatch, RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.metrics.top_k import Top, top_k
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.recipe.compat import Preset
from selfalign_cli.recipe.hashes import recipe_hash
from selfalign_cli.recipe.load import with_compat
from selfalign_cli.recipe.schema import Recipe
from selfalign_cli.similarity import similarity


class Retriever:
    """A loaded model: pictures and texts to vectors that can be stored, compared and searched.

    ```python
    from selfalign_cli import Retriever

    retriever = Retriever.load("runs/demo/runs/selfalign-1024/best.ckpt")
    pictures = retriever.encode_pictures("runs/demo/data/scenes.h5", split="test")
    texts = retriever.encode_texts(["a red star left of a ring", "two blue squares"])
    print(retriever.score(pictures, texts).shape)  # (500, 2)
    found = retriever.search(["a red star left of a ring"], pictures, k=5)
    for row, score in zip(found.candidates[0].tolist(), found.scores[0].tolist()):
        print(f"picture row {row}: {score:.3f}")
    print(retriever.identity.weights[:8], retriever.unknown_words("a red zebra"))
    ```

    The vectors are those that `selfalign export-embeddings` writes. With `compat: corrected` a text's vector does not
    depend on the texts beside it; with `published` it may, as `rows_are_independent` says, and batches then are
    consecutive rows. Nothing here trains: the model stays in evaluation mode.

    Shapes: N pictures, M texts, V views per picture, D and C the widths of a vector and of its context block.

    Attributes:
        identity: hashes of weights, recipe and vocabulary, the preset, and how pairs are scored.

    Args:
        recipe: what the model was built from; decides batches, similarity and the longest text.
        model: the model with its weights; moved to `device`.
        captions: texts to token ids.
        feature_dim: F, width of the regions it reads.
        device: where to compute.
        trained_on: the features it was trained on, if they are known.
        name: what messages call it.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: RetrievalModel,
        captions: CaptionEncoder,
        *,
        feature_dim: int,
        device: torch.device | str = "cpu",
        trained_on: TrainedOn | None = None,
        name: str = "the model",
    ) -> None:
        self.recipe = recipe
        self.captions = captions
        self.feature_dim = feature_dim
        self.device = torch.device(device)
        self.trained_on = trained_on
        self.name = name
        self.model = model.to(self.device).eval()

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device = "auto", compat: Preset | None = None) -> Retriever:
        """Load a checkpoint, `best.ckpt` of a run for one.

        Args:
            path: the checkpoint.
            device: "auto" takes a GPU when there is one; "cpu", "cuda" or a torch device.
            compat: encode under this preset in place of the one the checkpoint was trained with.

        Raises:
            CheckpointError: the file is missing, damaged, of another kind, or its weights do not fit its recipe.
            RecipeError: there is no such device.
        """
        checkpoint = load_checkpoint(Path(path))
        recipe = with_compat(checkpoint.recipe, compat) if compat else checkpoint.recipe
        language, model = untrained_model(checkpoint, recipe)
        load_state(model, checkpoint.model, what=str(path))
        return cls(
            recipe,
            model,
            language.captions,
            feature_dim=checkpoint.feature_dim,
            device=choose_device(device) if isinstance(device, str) else device,
            trained_on=TrainedOn(
                checkpoint.data["features"],
                str(checkpoint.data.get("content_hash", "")),
                checkpoint.data.get("extractor"),
            ),
            name=str(path),
        )

    @cached_property
    def identity(self) -> Identity:
        """What decides the vectors; computed when it is first asked for, since it reads all weights."""
        return identity_of(self.recipe, self.model, self.captions)

    @property
    def recipe_hash(self) -> str:
        """Eight hexadecimal digits that tell recipes apart."""
        return recipe_hash(self.recipe)

    @property
    def rows_are_independent(self) -> bool:
        """Whether a text's vector depends on the text alone, not on the batch it is encoded in."""
        return rows_are_independent(self.recipe)

    def batch_size(self, size: int | None = None) -> int:
        """Rows encoded at once: `size`, or where it is None the recipe's `validation.batch_size`."""
        return batching_of(self.recipe, size).size

    def tokenize(self, texts: Sequence[str]) -> TokenTable:
        """Token ids of M texts. Those longer than the recipe's `data.max_words` are cut, and counted in `cut`."""
        if isinstance(texts, str):
            raise TypeError("expected a list of texts, got one text")
        return TokenTable.encode(texts, self.captions.encode, self.recipe.data.max_words)

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that the vocabulary does not know, each once; the model reads them all alike."""
        return self.captions.unknown_words(text)

    def encode_texts(
        self, texts: Sequence[str] | TokenTable, *, batch_size: int | None = None, progress: OnRows | None = None
    ) -> RetrievalVectors:
        """Encode texts.

        Args:
            texts: M texts, or what `tokenize` made of them.
            batch_size: texts encoded at once; None for the recipe's `validation.batch_size`.
            progress: called with the number of texts done, after each batch. May raise to stop.

        Returns:
            Pooled (M, D) and shared (M, C), float32 on the CPU, in the order of the texts.
        """
        tokens = texts if isinstance(texts, TokenTable) else self.tokenize(texts)
        batching = batching_of(self.recipe, batch_size)
        return encode_captions(self.model, tokens, batching, device=self.device, progress=progress)

    def encode_pictures(
        self,
        pictures: str | Path | FeatureFile | Iterable[ImageBatch],
        split: str | None = None,
        *,
        rows: npt.ArrayLike | None = None,
        batch_size: int | None = None,
        progress: OnRows | None = None,
    ) -> RetrievalVectors:
        """Encode pictures; their captions, if there are any, play no part.

        Args:
            pictures: a feature file or its path; or batches of regions, which are encoded as they come.
            split: of a feature file, the split to encode; None for all pictures.
            rows: of a feature file, the rows to encode, in this order; None for all of the split or file.
            batch_size: of a feature file, pictures encoded at once; None for the recipe's `validation.batch_size`.
            progress: called with the number of pictures done, after each batch. May raise to stop.

        Returns:
            Pooled (N, V, D) and shared (N, C), float32 on the CPU.

        Raises:
            DataError: the file is missing or damaged, has no such split, other features than the model reads, or
                values that are not finite; or there is no picture.
            RunError: the file was replaced or cut short meanwhile.
        """
        if not isinstance(pictures, str | Path | FeatureFile):
            if split is not None or rows is not None or batch_size is not None:
                raise TypeError("split, rows and batch_size are for feature files; batches are encoded as they come")
            batches = self._fitting(pictures)
            return encode_batches(self.model, batches, device=self.device, progress=progress)
        file = self._fit(pictures if isinstance(pictures, FeatureFile) else FeatureFile(pictures))
        if split is not None and rows is not None:
            raise TypeError("split and rows exclude each other: rows count over the whole file")
        chosen = np.arange(len(file)) if split is None else file.split_images(split)
        if rows is not None:
            chosen = np.asarray(rows, dtype=np.int64)
        return encode_pictures(
            self.model,
            file,
            chosen,
            batch_size=self.batch_size(batch_size),
            device=self.device,
            progress=progress,
        )

    def score(self, pictures: RetrievalVectors, texts: RetrievalVectors) -> Tensor:
        """Score every picture against every text; larger is a better match.

        Args:
            pictures: from `encode_pictures`.
            texts: from `encode_texts`.

        Returns:
            (N, M) float32; of many pictures and texts it is large, and `search` needs less.

        Raises:
            ValueError: the widths of the two sides differ.
        """
        return similarity(pictures, texts, self.recipe.loss.ranking.similarity).float()

    def search(self, queries: Sequence[str] | RetrievalVectors, gallery: RetrievalVectors, k: int = 10) -> Top:
        """Find the k best rows of a gallery for each query: pictures for texts, or texts for pictures.

        Args:
            queries: Q texts; or vectors of texts or of pictures.
            gallery: vectors of the other side.
            k: how many; all where the gallery has fewer rows.

        Returns:
            Rows and scores, (Q, k) each, best first, equal scores in the order of the gallery; see `top_k`.

        Raises:
            DataError: both sides are texts or pictures, or their widths differ.
        """
        vectors = queries if isinstance(queries, RetrievalVectors) else self.encode_texts(queries)
        return top_k(vectors, gallery, k, kind=self.recipe.loss.ranking.similarity, device=self.device)

    def open_features(self, path: str | Path | None = None) -> FeatureFile:
        """Open a feature file, and make sure that the model can read it.

        Args:
            path: the file; None for the one that the model was trained on.

        Raises:
            DataError: there is no such file, it is damaged, or it holds other features than the model reads.
        """
        if path is not None:
            return self._fit(FeatureFile(path))
        if self.trained_on is None or not self.trained_on.features:
            raise DataError(f"{self.name} was imported and names no feature file", "name one with --data")
        known = Path(self.trained_on.features)
        if not known.exists():
            raise DataError(
                f"{known}, which the checkpoint was trained on, does not exist any more",
                "name a feature file with --data",
            )
        return self._fit(FeatureFile(known))

    def open_split(self, file: FeatureFile, split: str, *, captions_required: bool = True) -> SplitData:
        """Pictures and captions of a split as the recipe reads them; of the dev split no more than validation does.

        Raises:
            DataError: there is no such split, or no captions where they are required.
        """
        data = self.recipe.data
        return open_split(
            file,
            split,
            self.captions.encode,
            max_words=data.max_words,
            limit=data.dev_limit if split == data.dev_split else None,
            captions_required=captions_required,
        )

    def _fit(self, file: FeatureFile) -> FeatureFile:
        expect_fit(file, feature_dim=self.feature_dim, boxes=needs_boxes(self.recipe))
        known = None if self.trained_on is None else self.trained_on.extractor
        require_same_extractor(file.extractor, known, what=str(file.path), others=self.name)
        return file

    def _fitting(self, batches: Iterable[ImageBatch]) -> Iterator[ImageBatch]:
        """The same batches, each looked at before it is encoded."""
        for number, batch in enumerate(batches, start=1):
            if batch.features.shape[-1] != self.feature_dim:
                raise DataError(
                    f"batch {number} has features of width {batch.features.shape[-1]}; {self.name} reads width "
                    f"{self.feature_dim}"
                )
            if needs_boxes(self.recipe) and (batch.boxes is None or batch.size is None):
                raise DataError(f"batch {number} has no boxes or picture sizes, which {self.name} needs")
            yield batch
