"""Bytes that flip and files that end too early, in every dialect: our error, or the same pictures."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial

import pytest
from support.damage import attempted, cut_short, damaged_copies, flipped, unchanged
from support.dialects import make_pictures
from support.scan_dialects import EVERY_DIALECT

from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.file import FeatureFile

ROUNDS = 8

every_dialect = pytest.mark.parametrize("name", list(EVERY_DIALECT))


@dataclass(frozen=True)
class Outcome:
    """What was converted: all of it as a hash, what no damage may change, and whether the user was warned."""

    content_hash: str
    rows: tuple[object, ...]
    warned: bool


@pytest.fixture
def convert_damaged(tmp_path, name):
    """A function that damages one file of a dialect, and gives what is converted from it, or None.

    Each split has one picture. Of SCAN's files, lines are captions and ids themselves, so both may become others; and
    one of two lines may be lost or merged with the other, and the user is warned.
    """
    dialect = EVERY_DIALECT[name]
    good, out = tmp_path / "good", tmp_path / "out.h5"
    good.mkdir()
    sources, captions = dialect.save(good, make_pictures([2, 3, 1] if dialect.adaptive else [2, 2, 2], seed=5))
    if captions is not None:
        captions = captions.rename(tmp_path / "captions.json")

    def attempt(chance, change) -> Outcome | None:
        with damaged_copies(good, tmp_path / "bad", chance, change) as bad:
            copies = [bad / source.relative_to(good) for source in sources]
            convert = partial(convert_to_feature_file, copies, out, captions=captions, overwrite=True)
            made = attempted(partial(convert, format=dialect.format), tmp_path)
        if made:
            file = FeatureFile(out)
            rows = file.facts.splits, file.facts.offsets.tolist(), file.facts.caption_image.tolist()
            texts = () if dialect.own_captions else (file.image_ids, file.captions)
            return Outcome(file.content_hash, (*rows, *texts), any("cut short" in note for note in made.notes))
        assert not list(tmp_path.glob(".*.tmp"))
        return None

    return attempt


@every_dialect
def test_a_file_cut_short(convert_damaged, name):
    """What is left may be enough (a line end was lost, or a file that is not needed): then nothing is missing."""
    chance = random.Random(name)
    whole = convert_damaged(chance, unchanged)
    for _ in range(ROUNDS):
        found = convert_damaged(chance, cut_short)
        # SCAN's last caption or id may lack its last letters
        same_rows = EVERY_DIALECT[name].own_captions and found and found.rows == whole.rows
        assert same_rows or found in (None, whole) or found.warned


@every_dialect
def test_flipped_bits(convert_damaged, name):
    """Most dialects have no checksums: a number may become another one, but no picture appears, goes or moves."""
    chance = random.Random(name)
    whole = convert_damaged(chance, unchanged)
    for _ in range(ROUNDS):
        found = convert_damaged(chance, flipped)
        assert found is None or found.rows == whole.rows or found.warned
