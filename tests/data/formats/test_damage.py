"""Bytes that flip and files that end too early, in every dialect: our error, or the same pictures."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass

import pytest
from support.dialects import DIALECTS, make_pictures, write_captions

from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features import FeatureFile
from selfalign_cli.errors import SelfAlignError

ROUNDS = 40

every_dialect = pytest.mark.parametrize("name", list(DIALECTS))


@dataclass(frozen=True)
class Outcome:
    """What was converted: all of it as a hash, and what no damage may change."""

    content_hash: str
    rows: tuple[object, ...]


@pytest.fixture
def damaged(tmp_path, name):
    """A function that changes the bytes of one file of a dialect, and gives what is converted from it, or None."""
    pictures = make_pictures([2, 3, 1] if DIALECTS[name].adaptive else [2, 2, 2], seed=5)
    good, bad, out = tmp_path / "good", tmp_path / "bad", tmp_path / "out.h5"
    good.mkdir()
    sources = DIALECTS[name].write(good, pictures)
    captions = write_captions(tmp_path / "captions.json", pictures)

    def attempt(choose, change) -> Outcome | None:
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(good, bad)
        path = choose(sorted(path for path in bad.rglob("*") if path.is_file()))
        path.write_bytes(change(path.read_bytes()))
        places = [bad / source.relative_to(good) for source in sources]
        format = DIALECTS[name].format
        try:
            convert_to_feature_file(places, out, captions=captions, overwrite=True, format=format)
        except SelfAlignError as error:
            message = error.message
        else:
            file = FeatureFile(out)
            rows = (file.image_ids, file.splits, file.offsets.tolist(), file.captions, file.caption_image.tolist())
            return Outcome(file.content_hash, rows)
        assert str(tmp_path) in message or message.startswith("picture ")
        assert len(message) < 1000
        assert not list(tmp_path.glob(".*.tmp"))
        return None

    return attempt


def unchanged(content: bytes) -> bytes:
    return content


@every_dialect
def test_a_file_cut_short(damaged, name):
    """What is left may be enough (a line end was lost, or a file that is not needed): then nothing is missing."""
    chance = random.Random(1)
    whole = damaged(chance.choice, unchanged)
    for _ in range(ROUNDS):
        assert damaged(chance.choice, lambda content: content[: chance.randrange(len(content))]) in (None, whole)


@every_dialect
def test_flipped_bits(damaged, name):
    """Most dialects have no checksums: a number may become another one, but no picture appears, goes or moves."""

    def flip(content: bytes) -> bytes:
        changed = bytearray(content)
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        return bytes(changed)

    chance = random.Random(2)
    whole = damaged(chance.choice, unchanged)
    for _ in range(ROUNDS):
        found = damaged(chance.choice, flip)
        assert found is None or found.rows == whole.rows
