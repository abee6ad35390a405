"""What made the regions of a feature file: the extractor's identity, which travels with features and models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from selfalign_cli.errors import DataError

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
    if one is None or other is None or _decisive(one) == _decisive(other):
        return
    raise DataError(
        f"{what} was made by another extractor than {others}\n"
        f"  {what}: {described(one)}\n  {others}: {described(other)}",
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
            parts.append(f"{name} {model.get('name')}{f' ({weights[:8]})' if weights else ''}{area}")
    return ", ".join([*parts, f"{extractor.get('regions')} regions"])


def _decisive(extractor: Extractor) -> Extractor:
    """An identity without the names of folders."""
    return {
        key: {name: value for name, value in part.items() if name != "name"} if isinstance(part, dict) else part
        for key, part in extractor.items()
    }
