"""The data of all arms: scenes, feature file, and vocabulary or BERT folder, each made once."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from selfalign_cli import __version__
from selfalign_cli.data.atomic import replacing
from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.text.captions import read_vocabulary_captions
from selfalign_cli.data.text.vocab import build_vocabulary
from selfalign_cli.demo.scenes import make_scenes, split_sizes
from selfalign_cli.errors import DataError
from selfalign_cli.recipe.hosts import HOSTS

DATA_SEED = 0
"""Seed of the scenes; only the seeds of the models vary."""

SETTINGS = "settings.json"


class WorldView(Protocol):
    """Displays the progress of data generation."""

    def stage(self, text: str) -> None:
        """Announce a stage."""

    def counting(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Yield a function to call with the number of items done since its last call."""


@dataclass(frozen=True)
class World:
    """Paths of the data.

    Attributes:
        features: the feature file.
        text: the vocabulary, or the BERT folder for a host that reads word pieces; None where there are no captions.
        overrides: keys of the recipes that this text needs otherwise.
    """

    features: Path
    text: Path | None
    overrides: tuple[str, ...] = ()


def claim_folder(out: Path, settings: dict[str, object]) -> None:
    """Claim a new folder for a demo, or check that the demo in it is the same.

    Args:
        out: the folder.
        settings: those that must be the same when a demo is continued, JSON types.

    Raises:
        DataError: the folder is used otherwise, or by a demo with other settings or of another release.
    """
    path = out / SETTINGS
    settings = {"selfalign": __version__, **settings}
    try:
        taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
        found = json.loads(path.read_bytes()) if path.exists() else None
    except (OSError, ValueError) as fault:
        raise DataError(f"{path} cannot be read: {fault}", "choose another folder with --out") from fault
    if found == settings:
        return
    if found is not None or taken:
        message = f"{out} holds something else than a demo"
        if isinstance(found, dict):
            other = [
                f"{name} {found.get(name)}, not {value}"
                for name, value in settings.items()
                if found.get(name) != value
            ]
            message = f"{out} holds a demo of another kind: {'; '.join(other)}"
        raise DataError(message, "choose another folder with --out, or remove this one")
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def make_world(folder: Path, *, model: str, train_images: int, view: WorldView) -> World:
    """Make the missing parts. Each appears under its name only once it is complete.

    Args:
        folder: output folder.
        model: the host, which decides between a vocabulary and a BERT folder.
        train_images: pictures of the train split.
        view: displays the progress.

    Raises:
        DataError: the folder cannot be written to.
        RunError: the disk is full.
    """
    captions = HOSTS[model].captions
    name = "scenes_vocab.json" if captions == "words" else "scenes_bert"  # as in the shipped recipes
    features, text = folder / "scenes.h5", folder / name
    if not features.exists():
        _make_features(folder / "scenes", features, train_images, view)
    if captions == "words" and not text.exists():
        view.stage(f"vocabulary: {text}")
        build_vocabulary(read_vocabulary_captions(features), source=features.name).save(text)
    if captions == "pieces" and not (text / "config.json").exists():  # the last of its files to be written
        view.stage(f"WordPieces and a BERT of random weights: {text}")
        make_bert(features, text)
    return World(features, text)


def _make_features(scenes: Path, features: Path, train_images: int, view: WorldView) -> None:
    if not scenes.exists():
        with view.counting("make scenes: pictures", sum(split_sizes(train_images).values())) as advance:
            shown = 0

            def show(done: int, _total: int) -> None:
                nonlocal shown
                advance(done - shown)
                shown = done

            make_scenes(scenes, train_images=train_images, seed=DATA_SEED, progress=show)
    convert_to_feature_file([scenes], features, progress=view.counting)


def make_bert(features: Path, folder: Path) -> None:
    """Make WordPieces of the captions of a feature file, and a small BERT of random weights beside them."""
    # Only here: `tokenizers` and `transformers` take seconds to import, and hosts that read words need neither.
    from selfalign_cli.data.text.wordpiece import save_tokenizer
    from selfalign_cli.data.text.wordpiece_training import build_wordpieces
    from selfalign_cli.demo.seeded_bert import write_seeded_bert

    save_tokenizer(build_wordpieces(read_vocabulary_captions(features)), folder)
    write_seeded_bert(folder)
