"""What made the regions of a feature file: the extractor's identity, which travels with features and models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from selfalign_cli.errors import DataError

HASH_LENGTH, HASH_DIGITS = 64, 8

Extractor = dict[str, Any]
"""All that decides the numbers of an extractor, in JSON types: kind, models with hashes of their files, rules."""


@dataclass(frozen=True)
class Origin:
    """Where regions come from.

    Attributes:
        extractor: what made them.
        label_names: names of the classes that labels number; empty where regions have no labels.
        pictures: folder below which picture ids are paths, for display; empty where it is not known.
    """

    extractor: Extractor
    label_names: tuple[str, ...] = ()
    pictures: str = ""


def require_same_extractor(one: Extractor | None, other: Extractor | None, *, what: str, others: str) -> None:
    """Refuse features of another extractor.

    Args:
        one, other: identities; None where none is known, which matches all.
        what, others: what they belong to, for the message.

    Raises:
        DataError: both are known and differ; names of folders do not count, hashes decide.
    """
    if one is None or other is None:
        return
    own, known = (dict(_decisive(extractor)) for extractor in (one, other))
    changed = [name for name in sorted({*own, *known}) if own.get(name) != known.get(name)]
    if not changed:
        return
    found = "".join(f"\n  {name}: {_shown(own.get(name))} against {_shown(known.get(name))}" for name in changed)
    raise DataError(
        f"{what} was made by another extractor than {others}\n"
        f"  {what}: {described(one)}\n  {others}: {described(other)}{found}",
        "extract the pictures again the way the model knows: selfalign extract PICTURES --out FILE.h5 --like CKPT",
    )


def described(extractor: Extractor) -> str:
    """One line for messages: kind, models with the start of their hashes, area, number of regions."""
    parts = [str(extractor.get("kind", "unknown"))]
    for name in ("detector", "backbone"):
        model = extractor.get(name)
        if isinstance(model, dict):
            weights = next((str(value) for key, value in model.items() if key.startswith(("model.", "pytorch_"))), "")
            area = f", area {model['area']}" if "area" in model else ""
            parts.append(f"{name} {model.get('name')}{f' ({weights[:HASH_DIGITS]})' if weights else ''}{area}")
    return ", ".join([*parts, f"{extractor.get('regions')} regions"])


def _decisive(extractor: Extractor, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its path, without the names of folders."""
    for key, value in extractor.items():
        if isinstance(value, dict):
            yield from _decisive(value, f"{path}{key} ")
        elif not (path and key == "name"):
            yield f"{path}{key}", value


def _shown(value: object) -> str:
    """A setting, hashes cut to their start."""
    text = "nothing" if value is None else str(value)
    return text if len(text) < HASH_LENGTH else f"{text[:HASH_DIGITS]}…"
