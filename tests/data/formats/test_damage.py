"""Bytes that flip and files that end too early, in every dialect: our error or the same pictures, never anything else."""

from __future__ import annotations

import random
import shutil

import pytest
from support.dialects import DIALECTS, make_pictures, write_captions

from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features import FeatureFile
from selfalign_cli.errors import SelfAlignError

ROUNDS = 40

every_dialect = pytest.mark.parametrize("name", list(DIALECTS))


@pytest.fixture
def damaged(tmp_path, name):
    """A function that changes the bytes of one file of a dialect, and gives what is converted from it, or None."""
    pictures = make_pictures([2, 3, 1] if DIALECTS[name].adaptive else [2, 2, 2], seed=5)
    good = tmp_path / "good"
    good.mkdir()
    sources = DIALECTS[name].write(good, pictures)
    captions = write_captions(tmp_path / "captions.json", pictures)
    bad = tmp_path / "bad"

    def attempt(choose, change):
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(good, bad)
        path = choose(sorted(path for path in bad.rglob("*") if path.is_file()))
        path.write_bytes(change(path.read_bytes()))
        places = [bad / source.relative_to(good) for source in sources]
        try:
            convert_to_feature_file(
                places, tmp_path / "out.h5", captions=captions, overwrite=True, format=DIALECTS[name].format
            )
        except SelfAlignError as fault:
            assert str(tmp_path) in fault.message or fault.message.startswith("picture ")
            assert len(fault.message) < 1000
            assert not list(tmp_path.glob(".*.tmp"))
            return None
        return FeatureFile(tmp_path / "out.h5")

    attempt.whole = attempt(lambda files: files[0], lambda content: content)
    return attempt


@every_dialect
def test_a_file_cut_short(damaged, name):
    """What is left may be enough (a line end was lost, or a file that is not needed): then nothing is missing."""
    chance = random.Random(1)
    for _ in range(ROUNDS):
        file = damaged(chance.choice, lambda content: content[: chance.randrange(len(content))])
        assert file is None or file.content_hash == damaged.whole.content_hash


@every_dialect
def test_flipped_bits(damaged, name):
    """Most dialects have no checksums: a number may become another one, but no picture appears, goes or moves."""

    def flip(content):
        changed = bytearray(content)
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        return bytes(changed)

    chance = random.Random(2)
    for _ in range(ROUNDS):
        file = damaged(chance.choice, flip)
        if file is not None:
            assert (file.image_ids, file.splits) == (damaged.whole.image_ids, damaged.whole.splits)
            assert file.offsets.tolist() == damaged.whole.offsets.tolist()
            assert file.captions == damaged.whole.captions
