"""Damage: random, repeatable, and of every kind; repacked archives are valid archives."""

from __future__ import annotations

import io
import random
import zipfile

import pytest
from campaigns.damage import CHANGES, damaged

CONTENT = bytes(range(200))


@pytest.mark.parametrize("change", sorted(set(CHANGES), key=CHANGES.index), ids=lambda change: change.__name__)
def test_every_change_is_a_change(change) -> None:
    made = [change(CONTENT, b"donor" * 9, random.Random(seed)) for seed in range(20)]
    assert len(set(made) - {CONTENT}) > 10
    assert made == [change(CONTENT, b"donor" * 9, random.Random(seed)) for seed in range(20)]


@pytest.mark.parametrize("change", sorted(set(CHANGES), key=CHANGES.index), ids=lambda change: change.__name__)
def test_nothing_is_too_short_to_be_damaged(change) -> None:
    for content in (b"", b"a"):
        for seed in range(20):
            assert isinstance(change(content, b"", random.Random(seed)), bytes)


def test_most_damage_is_small() -> None:
    sizes = [len(damaged(CONTENT, CONTENT, random.Random(seed))) for seed in range(200)]
    assert sum(150 < size < 250 for size in sizes) > 100


def test_archives_are_damaged_inside_too() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a/data.pkl", CONTENT)
        archive.writestr("a/data/0", bytes(50))
    whole = 0
    for seed in range(60):
        content = damaged(packed.getvalue(), b"", random.Random(seed))
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                whole += archive.testzip() is None and content != packed.getvalue()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            pass
    assert whole > 15
