"""Every command has help with an example, and help is instant: it loads none of the heavy packages."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from selfalign_cli import __version__
from selfalign_cli.cli.app import app

COMMANDS = sorted(get_command(app).commands)
HEAVY = ["torch", "transformers", "tokenizers", "h5py", "nltk", "numpy", "pandas", "PIL", "safetensors", "yaml"]


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_the_commands_are_there():
    assert {"train", "eval", "export-embeddings"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_of_a_command_has_an_example(command, option):
    result = run(command, option)
    assert result.exit_code == 0
    assert "Usage: selfalign" in result.stdout or f" {command} " in result.stdout
    assert f"Example: selfalign {command}" in " ".join(result.stdout.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_described(command):
    for parameter in get_command(app).commands[command].params:
        assert parameter.help, f"{command} {parameter.name} has no help"


def test_selfalign_alone_prints_its_help():
    alone, asked = run(), run("--help")
    assert alone.exit_code == asked.exit_code == 0
    assert alone.stdout.split() == asked.stdout.split()
    assert all(command in alone.stdout for command in COMMANDS)


def test_version():
    assert run("--version").stdout == f"selfalign {__version__}\n"


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_loads_no_heavy_package(command):
    arguments = ["--help"] if command is None else [command, "--help"]
    code = (
        "import sys\n"
        "from selfalign_cli.cli.app import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit as end: assert end.code == 0\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
