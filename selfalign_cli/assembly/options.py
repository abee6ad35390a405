"""Keyword arguments of constructors and functions, from the section of a recipe that names them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

from selfalign_cli.recipe.section import Section


def options_of(
    section: Section, *takers: Callable[..., object], elsewhere: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The keys of a section that each of some constructors or functions takes.

    Args:
        section: a section of the recipe.
        takers: what is called with them.
        elsewhere: keys that are none of their arguments: somebody else reads them.

    Raises:
        TypeError: a key is taken by nobody, or by both a taker and `elsewhere`.
    """
    found = [{key: value for key, value in section if key in inspect.signature(taker).parameters} for taker in takers]
    taken = {key for options in found for key in options}
    wrong = (set(type(section).model_fields) - taken) ^ set(elsewhere)
    if wrong:
        raise TypeError(f"{type(section).__name__}: who takes {', '.join(sorted(wrong))}?")
    return found
