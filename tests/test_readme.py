"""The README: every command is in it, every example parses, its tables are those of the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from selfalign_cli.cli.app import app
from selfalign_cli.recipe.compat import PRESET_KEYS
from selfalign_cli.recipe.schema import Recipe

CHECKOUT = Path(__file__).parents[1]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
COMMANDS = get_command(app).commands
FENCED = re.findall(r"^ *```sh\n(.*?)^ *```", README, re.M | re.S)
INSTALL = 'pip install -c constraints.txt -e ".[dev]"'
TESTS = "python -m pytest -n 2 -q"


def examples():
    """Yield the words of every `selfalign …` command in a fenced shell block."""
    for block in FENCED:
        for line in block.splitlines():
            for command in re.split(r"&&|[|;]", line):
                words = shlex.split(command.partition(" > ")[0], comments=True)
                if words and Path(words[0]).name == "selfalign":
                    yield words[1:]


EXAMPLES = list(examples())


def test_the_two_commands_stand_on_the_first_screen():
    first = "\n".join(README.splitlines()[:25])
    assert f"python3 -m venv .venv && .venv/bin/{INSTALL} && .venv/bin/selfalign demo\n" in first
    assert f".venv/bin/{TESTS}\n" in first


def test_the_checks_install_and_test_as_the_readme_says():
    script = (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8")
    assert INSTALL.replace("pip install", 'pip" install --quiet') in script
    assert f"\n{TESTS}\n" in script


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_a_section_an_example_and_a_row(command):
    assert f"\n### {command}\n" in README
    assert any(example[0] == command for example in EXAMPLES)
    assert f"\n| `selfalign {command}` |" in README


@pytest.mark.parametrize("words", EXAMPLES, ids=" ".join)
def test_examples_parse(words):
    assert words[0] in COMMANDS
    COMMANDS[words[0]].make_context(words[0], words[1:])


def test_recipes_that_are_named_exist():
    for name in set(re.findall(r"recipes/\w+\.yaml", README)):
        assert (CHECKOUT / name).is_file(), name


def test_files_of_the_code_that_are_named_exist():
    for line in re.findall(r"^\| `selfalign_cli/(\w+)/` \| (.*) \|$", README, re.M):
        folder, text = line
        for name in re.findall(r"`(\w+(?:\.py|/))`", text):
            assert (CHECKOUT / "selfalign_cli" / folder / name).exists(), f"{folder}/{name}"


def test_every_section_of_a_recipe_is_described():
    rows = re.findall(r"^\| `(\w+)` \|", README.partition("\n## Recipes\n")[2], re.M)
    assert rows == list(Recipe.model_fields)


def compat_table() -> str:
    """The table of presets, as the README holds it."""
    lines = ["| | key | corrected | published | what the published programs do |", "|---|---|---|---|---|"]
    for row in PRESET_KEYS:
        values = ["null" if value is None else str(value).lower() for value in (row.corrected, row.published)]
        only = f" ({row.hosts[0]} only)" if len(row.hosts) == 1 else ""
        lines.append(f"| {row.row} | `{row.path}` | {values[0]} | {values[1]} | {row.sentence}{only} |")
    return "\n".join(lines)


def test_the_table_of_presets_is_that_of_the_code():
    assert f"a test compares them -->\n\n{compat_table()}\n" in README, f"expected:\n{compat_table()}"


def test_no_number_is_left_out():
    """Every placeholder has been replaced by what the program printed."""
    assert re.findall(r"<!-- results:.*?-->", README) == []
