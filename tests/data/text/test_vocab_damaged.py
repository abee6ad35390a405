"""Damaged vocabularies, ours and those of others: our error, or a vocabulary of as many words."""

from __future__ import annotations

import random
from functools import partial

import pytest
from support.damage import attempted, cut_short, flipped
from support.published_files import WORDS, write_vocabulary

from selfalign_cli.data.text.vocab import Vocabulary
from selfalign_cli.published.vocabulary import read_vocabulary

ROUNDS = 150


def write_own(path):
    Vocabulary(WORDS).save(path)
    return path


KINDS = {"own.json": write_own, "scan.json": write_vocabulary, "vsrn.pkl": write_vocabulary}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("change", [cut_short, flipped])
def test_a_damaged_vocabulary(tmp_path, name, change):
    """A letter of a word may be another one; no word may go, come or move."""
    path = KINDS[name](tmp_path / name)
    content, chance = path.read_bytes(), random.Random(name)
    for _ in range(ROUNDS):
        path.write_bytes(change(chance, content))
        found = attempted(partial(read_vocabulary, path), tmp_path)
        if found is not None:
            assert len(found) == len(WORDS)
            assert sum(ours != theirs for ours, theirs in zip(found.words, WORDS, strict=True)) <= 3
