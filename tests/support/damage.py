"""Damage files at random, equally in every run of the tests."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from selfalign_cli.errors import SelfAlignError

T = TypeVar("T")
Change = Callable[[random.Random, bytes], bytes]


def unchanged(chance: random.Random, content: bytes) -> bytes:
    """No damage."""
    return content


def cut_short(chance: random.Random, content: bytes) -> bytes:
    """Without its end; often nothing at all is left, or nearly all."""
    length = chance.choice([0, len(content) - 1, chance.randrange(max(1, len(content)))])
    return content[: max(0, length)]


def flipped(chance: random.Random, content: bytes) -> bytes:
    """One to three bits, or one byte, are others."""
    changed = bytearray(content)
    if changed and chance.random() < 0.3:
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    elif changed:
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


@contextmanager
def damaged_copies(good: Path, bad: Path, chance: random.Random, change: Change) -> Iterator[Path]:
    """A copy of a folder in which one file, chosen at random, is changed; it is gone behind the block."""
    shutil.copytree(good, bad)
    path = chance.choice(sorted(path for path in bad.rglob("*") if path.is_file()))
    path.write_bytes(change(chance, path.read_bytes()))
    try:
        yield bad
    finally:
        shutil.rmtree(bad)


def attempted(work: Callable[[], T], folder: Path) -> T | None:
    """What some work gives; None if it ends in our error, which must be short, and name a file or a picture."""
    try:
        return work()
    except SelfAlignError as error:
        message = error.message
    assert str(folder) in message or message.startswith("picture "), message
    assert len(message) < 1000
    return None
