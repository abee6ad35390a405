"""Pydantic's errors as messages for the person who wrote the recipe."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from typing import get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from selfalign_cli.recipe.hosts import HOSTS, HostSection
from selfalign_cli.recipe.relative import EPOCH_KEYS
from selfalign_cli.recipe.schema import Recipe
from selfalign_cli.recipe.yaml12 import read_yaml

EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_unicode": "text",
    "model_type": "a section of keys",
    "model_attributes_type": "a section of keys",
}
BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def key_path(error: ErrorDetails) -> tuple[str, ...]:
    """Key path of an error in the recipe: without pydantic's tag for the kind of model."""
    path = tuple(str(part) for part in error["loc"])
    if path == ("model",) and error["type"].startswith("union_tag"):
        return ("model", "name")
    return path[:1] + path[2:] if path[0] == "model" and len(path) > 1 else path


def explain(error: ErrorDetails) -> str:
    """What was expected, what was found and, where it can be known, what to write."""
    kind, found, path = error["type"], error["input"], key_path(error)
    if kind == "missing":
        return "required key is missing"
    if kind == "union_tag_not_found":
        return f"required key is missing ({listed(list(HOSTS))})"
    if kind == "extra_forbidden":
        return f"unknown key{_elsewhere(path, str(error['loc'][1]) if path[0] == 'model' else None)}"
    if kind in ("union_tag_invalid", "literal_error"):
        name = found.get("name") if isinstance(found, dict) and kind == "union_tag_invalid" else found
        options = list(HOSTS) if kind == "union_tag_invalid" else re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return _not_an_option(name, options)
    if kind in BOUNDS:
        words, limit = BOUNDS[kind]
        bound = error["ctx"][limit]
        return f"expected {words} {bound:{',' if isinstance(bound, int) else 'g'}}, got {shown(found)}"
    if kind == "string_too_short":
        return "expected text, got an empty one"
    if kind == "string_pattern_mismatch":
        return f"expected text without control characters, got {shown(found)}"
    if kind in EXPECTED:
        or_fraction = " or a fraction of optim.epochs below 1" if ".".join(path) in EPOCH_KEYS else ""
        return f"expected {EXPECTED[kind]}{or_fraction}, got {_got(kind, found)}{_advice(kind, found)}"
    return error["msg"]


def shown(value: object) -> str:
    """A value from a recipe, short and printable."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:50]}…{text[-5:]}"
    text = repr(value)
    return text if len(text) <= 40 else f"a number of {len(text)} digits"


def _got(kind: str, found: object) -> str:
    if isinstance(found, str):
        return f"text {shown(found)}"
    if isinstance(found, (int, float)) and not isinstance(found, bool) and kind in ("string_type", "bool_type"):
        return f"the number {shown(found)}"
    return shown(found)


def _advice(kind: str, found: object) -> str:
    """What to write instead, in brackets; empty when nobody can know."""
    if kind == "string_type" and isinstance(found, (bool, int, float)):
        return " (quote it)"
    if kind == "bool_type" and isinstance(found, (str, int)):
        return " (write true or false)"
    if kind.startswith("model") and found is None:
        return " (remove the key to keep its defaults)"
    if kind == "int_type" and isinstance(found, float):
        return f" (write {int(found)})" if found.is_integer() and abs(found) < 1e15 else ""
    if kind in ("int_type", "float_type") and isinstance(found, str) and type(read_yaml(found)[0]) in (int, float):
        return " (write it without quotes)"
    return ""


def listed(names: list[str], word: str = "or") -> str:
    """Names in a sentence: `a`, `a or b`, `a, b or c`."""
    return f"{', '.join(names[:-1])} {word} {names[-1]}" if len(names) > 1 else names[0]


def _not_an_option(found: object, options: list[str]) -> str:
    return f"expected {listed(options)}, got {shown(found)}{did_you_mean(found, options)}"


def closest(word: str, known: Iterable[str]) -> list[str]:
    """The names that somebody who wrote `word` may have meant, the likeliest first, at most two.

    Near spellings count, and so do initials (`lr` for `learning_rate`).
    """
    names = list(known)
    initials = [name for name in names if "_" in name and "".join(part[:1] for part in name.split("_")) == word]
    near = get_close_matches(word[:80], names, n=2)
    if len(near) == 2 and _likeness(word, near[0]) - _likeness(word, near[1]) > 0.08:
        near = near[:1]
    return near or initials[:2]


def likeliest_host(section: dict[str, object]) -> str:
    """The model that a `model` section without a valid name most resembles: by its name, else by its keys."""
    near = closest(str(section.get("name")), HOSTS)
    if near:
        return near[0]
    return max(HOSTS, key=lambda host: len(HOSTS[host].section.model_fields.keys() & section.keys()))


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """` (did you mean 'epochs'?)`, or nothing when no name is close."""
    found = closest(word, known) if isinstance(word, str) else []
    return f" (did you mean {' or '.join(repr(name) for name in found)}?)" if found else ""


def _likeness(word: str, name: str) -> float:
    return SequenceMatcher(None, word, name).ratio()


def sections(model: type[BaseModel] = Recipe, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], list[str]]:
    """Every section of a recipe and the names of its keys; the `model` section has those of all hosts."""
    result: dict[tuple[str, ...], list[str]] = {path: list(model.model_fields)}
    for name, field in model.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        if HostSection in kinds:
            kinds = [host.section for host in HOSTS.values()]
        for kind in kinds:
            if issubclass(kind, BaseModel):
                for inner, keys in sections(kind, (*path, name)).items():
                    known = result.setdefault(inner, [])
                    known.extend(key for key in keys if key not in known)
    return result


def _elsewhere(path: tuple[str, ...], host: str | None) -> str:
    """Advice on an unknown key: a near spelling in its section, or the section that has it."""
    *section, key = path
    known = sections()
    here = list(HOSTS[host].section.model_fields) if host in HOSTS else known.get(tuple(section), [])
    others = [other for other, row in HOSTS.items() if other != host and key in row.section.model_fields]
    if host in HOSTS and len(path) == 2 and others:
        return f" ({listed(others, 'and')} {'has' if len(others) == 1 else 'have'} it, {host} has not)"
    if advice := did_you_mean(key, here):
        return advice
    elsewhere = [".".join((*other, key)) for other, keys in known.items() if key in keys and other != tuple(section)]
    return f" (did you mean {' or '.join(map(repr, elsewhere[:2]))}?)" if elsewhere else ""
