"""Who may import whom: downward only, and nothing heavy where a command starts."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import selfalign_cli

PACKAGE = Path(__file__).parents[1] / "selfalign_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"torch", "transformers", "tokenizers", "h5py", "nltk", "numpy", "PIL", "safetensors", "pyarrow", "jinja2"}
INSIDE_A_COMMAND = {"assembly", "bench", "data", "demo", "inspection", "metrics", "parallel", "published", "recipe"}
INSIDE_A_COMMAND |= {"explain", "extract", "pages", "report", "scoring", "search", "serve", "training"}

# The floors of the house, from the bottom up: a folder may import from its own floor (itself alone) and from below.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "launch"),
    ("encodings", "bert_folder", "parallel", "recipe", "signals"),
    ("similarity", "data"),
    ("models", "metrics"),
    ("losses",),
    ("assembly",),
    ("scoring", "training", "published", "extract"),
    ("search",),
    ("inspection", "pages"),
    ("explain",),
    ("report", "serve"),
    ("demo",),
    ("bench",),
    ("cli",),
    ("__main__", "__init__"),  # `from selfalign_cli import Retriever`, imported when it is asked for
)
# What a folder does without, though it lies below.
NEVER = {
    "cli": {"models", "losses", "encodings", "similarity"},
    "data": {"recipe", "parallel"},
    "models": {"data", "recipe", "similarity"},
    "metrics": {"data", "recipe", "parallel", "bert_folder"},
    "losses": {"data", "recipe", "metrics", "parallel", "bert_folder"},  # models: layers that only a loss has
}
THEIRS = {
    "cli": {"typer", "rich"},
    "recipe": {"yaml", "pydantic", "pydantic_core"},
    "losses": {"torch"},
    "models": {"torch", "transformers", "safetensors"},
    "metrics": {"torch", "numpy"},
    "encodings": {"torch"},
    "similarity": {"torch"},
    "launch": set(),
    "parallel": {"torch"},
    "signals": set(),
    "errors": set(),
    "__init__": set(),
    "__main__": set(),
}


def floor_of(part):
    return next(number for number, parts in enumerate(FLOORS) if part in parts)


def allowed(part, other):
    """Whether a folder, or a file of the package itself, may import from another."""
    below = floor_of(other) < floor_of(part)
    return other == part or (below and other not in NEVER.get(part, ()))


def part_of(path):
    """`training` for a file in that folder, `errors` for `errors.py` of the package itself."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(tree):
    """Yield (name, at module level?) of every module that a file imports; `if TYPE_CHECKING` does not count."""
    inside = {child for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            inside.update(child for child in ast.walk(node))
        if isinstance(node, ast.Import):
            yield from ((alias.name, node not in inside) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            if node.module == "selfalign_cli":
                yield from ((f"selfalign_cli.{alias.name}", node not in inside) for alias in node.names)
            else:
                yield node.module, node not in inside


def imported(path):
    return list(imports_of(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward(path):
    part = part_of(path)
    for name, _ in imported(path):
        top, _, rest = name.partition(".")
        if top == "selfalign_cli" and not rest.startswith("__"):
            assert allowed(part, rest.split(".")[0]), f"{part} imports {name}"
        elif top != "selfalign_cli" and top not in sys.stdlib_module_names and part in THEIRS:
            assert top in THEIRS[part], f"{part} imports {name}"


@pytest.mark.parametrize(
    "path", [path for path in FILES if part_of(path) in ("cli", "recipe")], ids=lambda path: path.stem
)
def test_commands_start_light(path):
    for name, at_the_top in imported(path):
        parts = name.split(".")
        assert not (at_the_top and parts[0] in HEAVY), f"{name} at module level"
        if part_of(path) == "cli" and parts[0] == "selfalign_cli" and len(parts) > 1 and at_the_top:
            assert parts[1] not in INSIDE_A_COMMAND, f"{name} at module level"


def test_the_package_starts_light():
    """It hands out `Retriever`, which needs torch, and imports nothing before it is asked."""
    heavy = sorted(HEAVY | {"selfalign_cli.assembly"})
    program = f"""
import sys, selfalign_cli
assert not set({heavy}) & set(sys.modules), set({heavy}) & set(sys.modules)
from selfalign_cli import Retriever
assert Retriever.__module__ == "selfalign_cli.assembly.retriever" and "torch" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_has_nothing_else_to_hand_out():
    assert hasattr(selfalign_cli, "Retriever")
    assert not hasattr(selfalign_cli, "Retrieve")


def test_nobody_imports_click():
    assert not [path for path in FILES for name, _ in imported(path) if name.split(".")[0] == "click"]
