"""Every command has help with an example, and help is instant: it loads none of the heavy packages."""

from __future__ import annotations

import os
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


def test_help_loads_no_heavy_package():
    """Of all commands one after another, in a process that has loaded nothing else."""
    code = (
        "import sys\n"
        "from selfalign_cli.cli.app import app\n"
        f"for command in {[[], *[[command] for command in COMMANDS]]!r}:\n"
        "    try: app([*command, '--help'])\n"
        "    except SystemExit as end: assert end.code == 0\n"
        f"    print(*command, *sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["", *COMMANDS]


def test_shell_completion_prints_a_script(monkeypatch):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    result = run("--show-completion", "bash")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "_SELFALIGN_COMPLETE=complete_bash" in result.stdout
    unknown = run("--show-completion", "tcsh")
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert unknown.stderr.startswith("error: Invalid value for '--show-completion'")


def test_shell_completion_is_installed_into_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    result = run("--install-completion", "bash")
    assert result.exit_code == 0
    script = tmp_path / ".bash_completions" / "selfalign.sh"
    assert "complete -o default -F _selfalign_completion selfalign" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()


@pytest.mark.parametrize(("words", "completed"), [("selfalign tr", "train"), ("selfalign eval --fo", "--folds")])
def test_a_word_is_completed(words, completed):
    """As the script of the shell asks: in a process of its own, by the environment."""
    asked = {"_SELFALIGN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [sys.executable, "-m", "selfalign_cli"]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [completed]
