"""YAML text → plain dictionaries, by the core schema of YAML 1.2: `2e-4` is a number; `no`, `1:30` and dates are text.

PyYAML reads YAML 1.1; the loader here replaces its implicit types (https://yaml.org/spec/1.2.2/#103-core-schema), and
reports what PyYAML lets pass: keys given twice, keys that are not text, foreign tags, and nesting or aliases without
end. Merge keys (`<<`) are kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

MAX_DEPTH = 20
MAX_NODES = 10_000
TAG = "tag:yaml.org,2002:"
TOO_LARGE = f"nested more than {MAX_DEPTH} levels deep, or more than {MAX_NODES:,} values (is an alias inside itself?)"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a recipe.

    Attributes:
        label: where, as the reader sees it: a key path, `line 3`, or `--set key=value`.
        message: what was found, what was expected, what to write.
    """

    label: str
    message: str


def _whole_number(word: str) -> int:
    return int(word, {"0o": 8, "0x": 16}.get(word[:2], 10))


def _number(word: str) -> float:
    return float(word.lower().replace(".inf", "inf").replace(".nan", "nan"))


SHORT = r"(?=.{1,40}$)"  # longer numbers are slips, and Python refuses to print very long ones
SCALARS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "null": (r"~|null|Null|NULL|", lambda word: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", lambda word: word.lower() == "true"),
    "int": (rf"{SHORT}([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)", _whole_number),
    "float": (
        rf"{SHORT}([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))",
        _number,
    ),
    "merge": (r"<<", str),
    "str": (r"(?s:.*)", str),
}
"""Types of bare words: pattern and value, by the last part of the tag. Of several that fit, the first is taken."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the core schema's types, and with an end to nesting."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.faults: list[Fault] = []
        self.depth = 0
        self.nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        with self._counted(self.get_mark()):
            node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def read(self) -> Any:
        """Value of the document; an alias is a copy of what it stands for."""
        node = self.get_single_node()
        self.nodes = 0
        return None if node is None else self._value(node, "")

    @contextmanager
    def _counted(self, mark: Any) -> Iterator[None]:
        self.depth += 1
        self.nodes += 1
        if self.depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise yaml.MarkedYAMLError(problem=TOO_LARGE, problem_mark=mark)
        yield
        self.depth -= 1

    def _value(self, node: yaml.Node, path: str) -> Any:
        """Value of a node; `path` is its key path, for messages."""
        with self._counted(node.start_mark):
            if isinstance(node, yaml.MappingNode) and node.tag == TAG + "map":
                return self._section(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == TAG + "seq":
                return [self._value(item, f"{path}.{position}") for position, item in enumerate(node.value)]
            name = node.tag.removeprefix(TAG)
            if not isinstance(node, yaml.ScalarNode) or name not in SCALARS:
                self._fault(node, f"tag {node.tag.replace(TAG, '!!')!r} is not allowed in a recipe")
                return None
            pattern, value = SCALARS[name]
            if not re.fullmatch(pattern, node.value):  # a tag that was written out
                self._fault(node, f"expected a value of type {name}, got {node.value[:60]!r}")
                return None
            return value(node.value)

    def _section(self, node: yaml.MappingNode, path: str) -> dict[str, Any]:
        """Keys of a section; its own win over merged ones, and of several merged sections the first wins."""
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == TAG + "merge":
                merged = {**self._merged(value_node, path), **merged}
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != TAG + "str":
                found = repr(key_node.value[:60]) if isinstance(key_node, yaml.ScalarNode) else "a section or list"
                self._fault(key_node, f"expected a key{f' of {path}' if path else ''}, got {found} (a key is a word)")
                continue
            key, line = key_node.value, key_node.start_mark.line + 1
            key_path = f"{path}.{readable(key)}" if path else readable(key)
            value = self._value(value_node, key_path)
            if key in own:
                message = f"given twice, in line {lines[key]} and in line {line} (keep one)"
                self.faults.append(Fault(key_path, message))
                continue
            own[key], lines[key] = value, line
        return {**merged, **own}

    def _merged(self, node: yaml.Node, path: str) -> dict[str, Any]:
        """Keys of what `<<` merges: one section, or a list of them."""
        result: dict[str, Any] = {}
        for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            value = self._value(part, path)
            if isinstance(value, dict):
                result = {**value, **result}
            else:
                self._fault(part, "expected a section (or a list of sections) after '<<'")
        return result

    def _fault(self, node: yaml.Node, message: str) -> None:
        self.faults.append(Fault(f"line {node.start_mark.line + 1}", message))


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper that also quotes text which YAML 1.2 would read as a number, e.g. '2e-4'."""


for _name, (_pattern, _) in SCALARS.items():
    if _name != "str":
        for _class in (_Loader, _Dumper):
            _class.add_implicit_resolver(TAG + _name, re.compile(rf"({_pattern})\Z"), [None])


def read_yaml(text: str) -> tuple[Any, list[Fault]]:
    """Read one YAML document.

    Returns:
        The value (dictionaries, lists, text, numbers, booleans and None), and the faults found on the way. After a
        syntax fault the value is None.
    """
    loader = None
    try:
        loader = _Loader(text)
        return loader.read(), loader.faults
    except yaml.YAMLError as error:
        return None, [_syntax_fault(error)]
    except (ValueError, OverflowError):  # PyYAML itself, on an escape like "\UFFFFFFFF"
        return None, [Fault("text", "an escape that stands for no character")]
    finally:
        if loader is not None:
            loader.dispose()


def write_yaml(tree: dict[str, Any]) -> str:
    """Write plain dictionaries as YAML that readers of YAML 1.1 and 1.2 read alike."""
    text: str = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def readable(key: str) -> str:
    """A key for messages: unchanged, or quoted and escaped where it is empty, long or not printable."""
    return key if key.isprintable() and 0 < len(key) <= 80 else repr(key[:80])


def _syntax_fault(error: yaml.YAMLError) -> Fault:
    if isinstance(error, yaml.reader.ReaderError):
        code = error.character if isinstance(error.character, int) else ord(error.character)
        return Fault("text", f"character number {error.position:,} is one that YAML does not allow (U+{code:04X})")
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "context", None) or "not YAML"
    if "'\\t'" in problem:
        problem = "a tab where only blanks may stand"
    if problem == "but found another document":
        problem = "a second document starts here (a recipe is one)"
    return Fault(f"line {mark.line + 1}, column {mark.column + 1}" if mark else "text", problem)
