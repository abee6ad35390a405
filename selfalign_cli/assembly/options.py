"""Keyword arguments of constructors and functions, from a section of the recipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

from selfalign_cli.recipe.section import Section


def options_of(
    section: Section, *functions: Callable[..., object], elsewhere: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Select the keyword arguments of each constructor or function from the keys of a section.

    Args:
        section: a section of the recipe.
        functions: constructors or functions; a key may be an argument of several.
        elsewhere: the keys that are an argument of none, because other code reads them.

    Raises:
        TypeError: `elsewhere` is not exactly that: a key would be dropped in silence.
    """
    found = []
    for function in functions:
        parameters = inspect.signature(function).parameters
        found.append({key: value for key, value in section if key in parameters})
    unused = set(type(section).model_fields) - {key for options in found for key in options}
    if unused != set(elsewhere):
        raise TypeError(f"{type(section).__name__}: no argument takes {sorted(unused)}; expected {sorted(elsewhere)}")
    return found
