"""Damage a file: flipped bits; lost, doubled or foreign pieces; damage inside archives.

All draws come from one generator, so that the same seed gives the same damage.
"""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Callable, Sequence

ZIP_START = b"PK\x03\x04"
LONGEST_PIECE = 4096
TIMES = (1, 1, 1, 1, 2, 4)
"""Numbers of changes to a file: mostly one, since a reader stops at the first fault that it finds."""
NUMBERS = (0, 1, -1, 127, -128, 255, 32767, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63))
"""Limits of the integers of various widths."""
TOKENS = (
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-1",
    b"99999999999999999999",
    b"0.0",
    b'""',
    b"[]",
    b"{}",
    b"[" * 2000,
    b"{" * 50,
    b'"',
    b"'",
    b"\\",
    b"\\ud800",
    b"\\u0000",
    b"\0",
    b"\n",
    b"\r",
    b"\t",
    b",",
    b":",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    "é".encode(),
    "\u202e".encode(),
    b"\x1b[31m",
    b"%s",
    b"../",
    b"!!python/object/apply:os.getpid []",
    b"&a [*a]",
    b"<<: *a",
    b"---\n",
    b"# ",
    b"- ",
    b": ",
)
"""Words with a meaning in some text format."""

Change = Callable[[bytes, bytes, random.Random], bytes]


def damaged(content: bytes, donor: bytes, chance: random.Random) -> bytes:
    """Damage the content of a file, once or a few times.

    Args:
        content: the whole file; may be empty.
        donor: another file, for pieces to insert.
        chance: the generator.
    """
    if content.startswith(ZIP_START) and chance.random() < 0.5:
        return _repacked(content, donor, chance)
    for _ in range(chance.choice(TIMES)):
        content = chance.choice(CHANGES)(content, donor, chance)
    return content


def _flip(content: bytes, donor: bytes, chance: random.Random) -> bytes:
    """Flip some bits."""
    changed = bytearray(content)
    for _ in range(chance.choice(TIMES) if changed else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _overwrite(content: bytes, donor: bytes, chance: random.Random) -> bytes:
    """Overwrite a few bytes with random ones."""
    start, stop = _piece(content, chance, longest=16)
    return content[:start] + chance.randbytes(stop - start) + content[stop:]


def _cut(content: bytes, donor: bytes, chance: random.Random) -> bytes:
    """Cut off the end."""
    return content[: chance.randint(0, len(content))]


def _lose(content: bytes, donor: bytes, chance: random.Random) -> bytes:
    """Leave a piece out."""
    start, stop = _piece(content, chance)
    return content[:start] + content[stop:]


def _double(content: bytes, donor: bytes, chance: random.Random) -> bytes:
    """Repeat a piece."""
    start, stop = _piece(content, chance)
    return content[:stop] + content[start:]


def _erase(content: bytes, donor: bytes, chance: random.Random) -> bytes:
    """Overwrite a piece with zeros or ones, as a broken disk does."""
    start, stop = _piece(content, chance)
    return content[:start] + chance.choice((b"\0", b"\xff")) * (stop - start) + content[stop:]


def _splice(content: bytes, donor: bytes, chance: random.Random) -> bytes:
    """Insert a piece of another file, or overwrite with it."""
    start, stop = _piece(donor, chance)
    target = chance.randint(0, len(content))
    behind = target + chance.choice((0, stop - start))
    return content[:target] + donor[start:stop] + content[behind:]


def _number(content: bytes, donor: bytes, chance: random.Random) -> bytes:
    """Overwrite some bytes with a number at the limits of its type."""
    width, form = chance.choice(((1, "b"), (2, "h"), (4, "i"), (8, "q")))
    limit = 1 << (8 * width - 1)
    value = (chance.choice(NUMBERS) + limit) % (2 * limit) - limit
    start = chance.randint(0, max(0, len(content) - width))
    return content[:start] + struct.pack(chance.choice("<>") + form, value) + content[start + width :]


def _token(content: bytes, donor: bytes, chance: random.Random) -> bytes:
    """Insert a word, or overwrite with it."""
    token = chance.choice(TOKENS)
    start = chance.randint(0, len(content))
    return content[:start] + token + content[start + chance.choice((0, len(token))) :]


CHANGES: Sequence[Change] = (
    _flip,
    _flip,
    _flip,
    _overwrite,
    _overwrite,
    _number,
    _number,
    _token,
    _token,
    _cut,
    _lose,
    _double,
    _erase,
    _splice,
)
"""Small changes more often than large ones, which every reader notices at once."""


def _piece(content: bytes, chance: random.Random, longest: int = LONGEST_PIECE) -> tuple[int, int]:
    """Start and end of a random piece; most are short."""
    start = chance.randint(0, len(content))
    length = int(min(longest, len(content) - start) * chance.random() ** 3)
    return start, start + max(1, length)


def _repacked(content: bytes, donor: bytes, chance: random.Random) -> bytes:
    """Damage one member of an archive, and write a new archive with correct checksums."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = chance.choice(list(members))
    largest = max(members, key=lambda name: len(members[name]))
    members[name] = chance.choice(CHANGES)(members[name], chance.choice((donor, members[largest])), chance)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for member, data in members.items():
            archive.writestr(zipfile.ZipInfo(member), data)
    return packed.getvalue()
