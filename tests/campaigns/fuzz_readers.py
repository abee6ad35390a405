"""Read a file that may be damaged as the commands do, and check the result.

A reader returns or raises a `SelfAlignError`; anything else that it raises is a fault. A result must be consistent:
`expect` checks that as far as possible without knowing the damage.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from campaigns.outcome import differences

from selfalign_cli.assembly.checkpoint import Checkpoint, load_checkpoint
from selfalign_cli.assembly.language import language_of_checkpoint
from selfalign_cli.assembly.retriever import Retriever
from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.formats.caption_tables import read_caption_table
from selfalign_cli.data.pairs import collate_images
from selfalign_cli.data.text.captions import read_vocabulary_captions
from selfalign_cli.data.text.vocab import Vocabulary
from selfalign_cli.data.text.wordpiece import WordPieceTokenizer, load_tokenizer
from selfalign_cli.inspection.files import inspect_any
from selfalign_cli.published.importing import ImportSources, import_checkpoint
from selfalign_cli.published.vocabulary import read_vocabulary
from selfalign_cli.recipe.hashes import recipe_hash
from selfalign_cli.recipe.load import dump_recipe, load_recipe, parse_recipe
from selfalign_cli.scoring.compare import compare_files
from selfalign_cli.scoring.embeddings import read_embeddings
from selfalign_cli.training.train_state import begin_state, restore_state

CPU = torch.device("cpu")
CAPTION = "A red ball, two dogs and a café."

Reader = Callable[[Path], None]
"""Reads one file, or its folder."""


class Wrong(Exception):
    """A file was accepted, and the result is inconsistent."""


def expect(true: bool, what: str) -> None:
    """Raise `Wrong` unless a condition holds."""
    if not true:
        raise Wrong(what)


def recipe(path: Path) -> None:
    """An accepted recipe can be written, and reads the same again."""
    found = load_recipe(path)
    expect(parse_recipe(dump_recipe(found), [], "again") == found, "written and read again, it is another recipe")
    expect(len(recipe_hash(found)) == 8, "its hash is odd")


def vocabulary(path: Path) -> None:
    """Ids of a caption exist, and the vocabulary can be saved."""
    found = read_vocabulary(path)
    expect(all(0 <= number < len(found) for number in found.encode(CAPTION)), "it gives ids that it does not have")
    again = path.with_name("again.json")
    found.save(again, overwrite=True)
    expect(Vocabulary.load(again) == found, "saved and loaded again, it is another vocabulary")


def tokenizer(path: Path) -> None:
    """Ids of a caption exist, and the tokenizer is the same after being stored in a checkpoint."""
    found = load_tokenizer(str(path.parent))
    expect(all(0 <= number < len(found) for number in found.encode(CAPTION)), "it gives ids that it does not have")
    again = WordPieceTokenizer.from_dict(found.to_dict())
    expect(again.encode(CAPTION) == found.encode(CAPTION), "stored, it is another tokenizer")


def features(path: Path) -> None:
    """A feature file is consistent, and its pictures make a batch."""
    file = FeatureFile(path)
    images, captions = len(file), len(file.facts.caption_image)
    expect(len(file.image_ids) == images and len(file.captions) == captions, "texts are missing")
    expect(file.file_names is None or len(file.file_names) == images, "file names are missing")
    expect(file.caption_ids is None or len(file.caption_ids) == captions, "caption ids are missing")
    expect(sum(map(len, file.facts.splits.values())) == images, "splits do not cover the pictures")
    expect(sum(len(file.split_captions(split)) for split in file.facts.splits) == captions, "captions without a split")
    if images * file.feature_dim < 1 << 20:
        batch = collate_images(file, np.arange(images))
        expect(bool(batch.features.isfinite().all()), "a batch is not finite")


def inspected(path: Path) -> None:
    """The result of `inspect` can be printed as JSON."""
    json.dumps(inspect_any(path), allow_nan=False)


def source(path: Path) -> None:
    """The result of a conversion is a whole feature file."""
    out = path.parent.with_name("out.h5")
    convert_to_feature_file([path.parent], out, overwrite=True)
    features(out)


def vocabulary_captions(path: Path) -> None:
    """Captions are texts."""
    texts = read_vocabulary_captions(_captions(path))
    expect(all(isinstance(text, str) for text in texts), "a caption is no text")


def caption_table(path: Path) -> None:
    """Captions are texts, and each picture has a name."""
    for picture in read_caption_table(_captions(path)):
        texts = [*picture.captions, *picture.names.values(), picture.split]
        expect(all(isinstance(text, str) for text in texts), "a caption or a name is no text")
        expect(picture.size is None or all(0 < side < math.inf for side in picture.size), "a size is odd")


def _captions(path: Path) -> Path:
    """A JSON file, or the folder of a text file."""
    return path if path.suffix == ".json" else path.parent


def checkpoint(path: Path) -> None:
    """An accepted checkpoint makes a model, and training can resume from it."""
    found = load_checkpoint(path)
    Retriever.load(path, device=CPU)
    if found.training is not None:
        state = begin_state(found.recipe, language_of_checkpoint(found), found.feature_dim, device=CPU)
        restore_state(state, found, what=str(path))
        expect(state.not_finite() is None, f"{state.not_finite()} is not finite")


def published(path: Path) -> None:
    """The result of an import is a whole checkpoint."""
    out = path.with_name("imported.ckpt")
    imported = import_checkpoint(
        path.with_name("old.pth.tar"), out, ImportSources(path.with_name("v.json")), overwrite=True
    )
    same = differences(_content(imported.checkpoint), _content(load_checkpoint(out)))
    expect(not same, f"what was written differs: {same[:3]}")


def _content(found: Checkpoint) -> dict[str, object]:
    return {"recipe": found.recipe.model_dump(), "text": found.text, "model": found.model}


def embeddings(path: Path) -> None:
    """Vectors are finite and of one width, and every caption has a picture."""
    found = read_embeddings(path)
    images, captions, truth = found.images, found.captions, found.image_of_caption
    expect(images.pooled.shape[2] == captions.pooled.shape[1], "widths differ")
    expect(bool(images.pooled.isfinite().all() and captions.pooled.isfinite().all()), "vectors are not finite")
    expect(len(truth) == len(captions.pooled) and bool((truth >= 0).all()), "a caption without a picture")
    expect(bool((truth < len(images.pooled)).all()), "a caption of a picture that is not there")


def compared(path: Path) -> None:
    """A result does not differ from itself."""
    found = compare_files(path, path, resamples=10)
    expect(all(part.difference == 0 for part in found.differences), "it differs from itself")


READERS: dict[str, tuple[Reader, ...]] = {
    "recipe": (recipe,),
    "vocabulary": (vocabulary, inspected),
    "tokenizer": (tokenizer,),
    "features": (features, inspected),
    "source": (source,),
    "captions": (vocabulary_captions, caption_table),
    "checkpoint": (checkpoint, inspected),
    "published": (published,),
    "embeddings": (embeddings, inspected),
    "result": (compared,),
}
"""Readers of the files of every target of `fuzz_samples`."""
