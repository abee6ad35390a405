"""YAML text → plain dictionaries, without YAML 1.1's surprises.

Nothing is guessed: duplicate keys, odd tags and deep or explosive nesting are faults, and a bare word that YAML 1.1
reads as something else than it looks like (`no`, `010`, `1:30`, `1_000`, a date) stays an `Unclear`, to be refused
later in words that fit the key it stands under.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

MAX_DEPTH = 20
MAX_NODES = 10_000
EXPLODES = f"nested too deeply, or more than {MAX_NODES:,} values (does an alias contain itself?)"
STANDARD = "tag:yaml.org,2002:"
DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,30})")
FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
BASES = (("0b", 2, "binary"), ("0x", 16, "hexadecimal"), ("0", 8, "octal"))


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a recipe.

    Attributes:
        label: where, as the reader sees it: a key path, `line 3`, or `--set key=value`.
        message: what was found, what was expected, what to write.
    """

    label: str
    message: str


@dataclass(frozen=True)
class Unclear:
    """A bare word that YAML 1.1 reads as something else than it looks like.

    Attributes:
        text: the word as written.
        reading: what YAML takes it for, e.g. `the octal number 8`.
        number: the plain number to write instead, if a number was meant.
    """

    text: str
    reading: str
    number: str | None = None


class _RecipeLoader(yaml.SafeLoader):
    """The safe loader with a limit on nesting, so that a hostile file is a fault and not a stack overflow."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node, counting how deep it lies."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            problem = f"nested more than {MAX_DEPTH} levels deep"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.get_mark())
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_yaml(text: str) -> tuple[Any, list[Fault]]:
    """Read one YAML document.

    Args:
        text: the document.

    Returns:
        The value (dictionaries, lists, text, numbers, booleans, None and `Unclear`), and the faults found on the way.
        After a syntax fault the value is None.
    """
    loader = None
    try:
        loader = _RecipeLoader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        return None, [_syntax_fault(error)]
    except (ValueError, OverflowError):  # PyYAML itself, on an escape like "\UFFFFFFFF"
        return None, [Fault("text", "an escape or number that stands for no character")]
    finally:
        if loader is not None:
            loader.dispose()
    builder = _Builder()
    value = None if node is None else builder.build(node, "", 0)
    return value, builder.faults


def _syntax_fault(error: yaml.YAMLError) -> Fault:
    if isinstance(error, yaml.reader.ReaderError):
        return Fault("text", f"character number {error.position:,} is one that YAML does not allow ({_code(error)})")
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "context", None) or "not YAML"
    if "'\\t'" in problem:
        problem = "a tab where only blanks may stand"
    if problem == "but found another document":
        problem = "a second document starts here (a recipe is one)"
    return Fault(f"line {mark.line + 1}, column {mark.column + 1}" if mark else "text", problem)


def _code(error: yaml.reader.ReaderError) -> str:
    return f"U+{error.character if isinstance(error.character, int) else ord(error.character):04X}"


class _Builder:
    """Turns a node graph into plain values and collects what is wrong with it."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.nodes = 0
        self.exploded = False

    def build(self, node: yaml.Node, path: str, depth: int) -> Any:
        """Build the value of a node; `path` is its key path for messages."""
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            if not self.exploded:
                self.fault(node, EXPLODES)
            self.exploded = True
            return None
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == STANDARD + "seq":
            return [self.build(item, f"{path}.{place}", depth + 1) for place, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == STANDARD + "map":
            return self.mapping(node, path, depth)
        self.fault(node, f"tag {node.tag.replace(STANDARD, '!!')!r} is not allowed in a recipe")
        return None

    def fault(self, node: yaml.Node, message: str) -> None:
        self.faults.append(Fault(f"line {node.start_mark.line + 1}", message))

    def scalar(self, node: yaml.ScalarNode) -> Any:
        kind = node.tag.removeprefix(STANDARD)
        if kind == "str":
            return node.value
        if node.style is None and kind in ("null", "bool", "int", "float", "timestamp", "value", "merge"):
            return plain_value(node.value, kind)
        self.fault(node, f"tag {node.tag.replace(STANDARD, '!!')!r} is not allowed in a recipe")
        return None

    def mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Any]:
        """Build a section; merged keys (`<<`) come first, so that the section's own keys replace them."""
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == STANDARD + "merge":
                merged = {**self.merged(value_node, path, depth), **merged}
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != STANDARD + "str":
                found = repr(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "a section or list"
                self.fault(key_node, f"expected a key{f' of {path}' if path else ''}, got {found} (a key is a word)")
                continue
            key, line = key_node.value, key_node.start_mark.line + 1
            full = f"{path}.{spelled(key)}" if path else spelled(key)
            if key in lines:
                self.faults.append(Fault(full, f"stands twice, in line {lines[key]} and in line {line} (keep one)"))
                continue
            lines[key] = line
            own[key] = self.build(value_node, full, depth + 1)
        return {**merged, **own}

    def merged(self, node: yaml.Node, path: str, depth: int) -> dict[str, Any]:
        """Build what `<<` merges: one section or a list of sections, of which earlier ones win."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        result: dict[str, Any] = {}
        for part in parts:
            value = self.build(part, path, depth + 1)
            if not isinstance(value, dict):
                self.fault(part, "expected a section (or a list of sections) after '<<'")
                continue
            result = {**value, **result}
        return result


def spelled(key: str) -> str:
    """A key as messages show it: as it is, or quoted and escaped where that would not be readable."""
    return key if key.isprintable() and 0 < len(key) <= 80 else repr(key[:80])


def plain_value(text: str, kind: str) -> Any:
    """Value of a bare word that YAML 1.1 takes for something else than text.

    Args:
        text: the word.
        kind: what YAML takes it for: null, bool, int, float, timestamp, value or merge.

    Returns:
        None, a boolean, a number or text where all readers agree; an `Unclear` where they do not.
    """
    if kind == "null":
        return None
    if kind in ("value", "merge"):
        return text
    if kind == "bool":
        return text.lower() == "true" if text.lower() in ("true", "false") else Unclear(text, _truth(text))
    if kind == "timestamp":
        return Unclear(text, "a date")
    if DECIMAL.fullmatch(text):
        return int(text) if kind == "int" else float(text)
    if kind == "float" and FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return _odd_number(text)


def _truth(text: str) -> str:
    return "true" if text.lower() in ("yes", "on") else "false"


def _odd_number(text: str) -> Unclear:
    """Explain a number that is written in one of YAML 1.1's other ways (or is forced to be one by a tag)."""
    plain = text.replace("_", "")
    digits = plain.lstrip("-+")
    sign = "-" if plain.startswith("-") else ""
    if ":" in digits:
        try:
            value = 0.0
            for part in digits.split(":"):
                value = value * 60 + float(part)
        except ValueError:
            return Unclear(text, "a number")
        return Unclear(text, "a base-60 number", f"{sign}{value:g}")
    if not plain.isascii() or len(plain) > 30:
        return Unclear(text, "a very long number")
    if DECIMAL.fullmatch(plain) or FLOAT.fullmatch(plain):
        return Unclear(text, f"the number {plain}", plain)
    for prefix, base, name in BASES:
        if digits.lower().startswith(prefix):
            try:
                value = int(digits[len(prefix) :], base)
            except ValueError:
                break
            meant = f" or {sign}{digits.lstrip('0')}" if name == "octal" else ""
            return Unclear(text, f"the {name} number {sign}{value}", f"{sign}{value}{meant}")
    return Unclear(text, "a number")
