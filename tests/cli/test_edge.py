"""What a fault looks like from outside: one message on stderr, an exit code, no traceback."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from selfalign_cli.cli.app import CommandGroup, app
from selfalign_cli.errors import CheckpointError, DataError, RecipeError, RunError, SelfAlignError


def failing_app(error):
    """An application with our edge and one command that raises."""
    failing = typer.Typer(cls=CommandGroup, pretty_exceptions_show_locals=False)
    failing.callback()(lambda: None)

    @failing.command("fail")
    def fail() -> None:
        raise error

    return failing


def run_failing(error):
    return CliRunner().invoke(failing_app(error), ["fail"])


def selfalign(*arguments, **options):
    """Run the real command in a process of its own."""
    command = [sys.executable, "-m", "selfalign_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, **options)


@pytest.mark.parametrize("kind", [SelfAlignError, RecipeError, DataError, CheckpointError])
def test_wrong_input_exits_2(kind):
    result = run_failing(kind("x.h5 has 3 rows, expected 4", "fetch it again"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: x.h5 has 3 rows, expected 4\nhint: fetch it again\n"


def test_a_failed_run_exits_1():
    result = run_failing(RunError("step 3: loss is nan"))
    assert (result.exit_code, result.stderr) == (1, "error: step 3: loss is nan\n")


def test_an_error_may_choose_its_own_exit_code():
    error = RunError("stopped by SIGTERM")
    error.exit_code = 143
    assert run_failing(error).exit_code == 143


def test_ctrl_c_exits_130():
    result = run_failing(KeyboardInterrupt())
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "No space left on device"), (errno.EACCES, "Permission denied")]
)
def test_faults_of_the_machine_end_in_one_line(number, words):
    result = run_failing(OSError(number, words, "runs/[a]/last.ckpt"))
    assert (result.exit_code, result.stderr) == (1, f"error: runs/[a]/last.ckpt: {words}\n")


def test_lack_of_memory_ends_in_one_line():
    result = run_failing(MemoryError())
    assert (result.exit_code, result.stderr.splitlines()[0]) == (1, "error: out of memory")


@pytest.mark.parametrize("bug", [ValueError("a bug"), FileNotFoundError(errno.ENOENT, "gone", "x")])
def test_a_bug_stays_an_exception(bug):
    assert run_failing(bug).exception is bug


def test_a_bug_shows_its_traceback_without_locals():
    code = (
        "import typer\nfrom selfalign_cli.cli import app as module\n"
        "@module.app.command('fail')\ndef fail() -> None:\n    secret = 'hunter2'\n    raise ValueError('a bug')\n"
        "module.app(['fail'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a bug" in done.stderr
    assert "Traceback" in done.stderr
    assert "hunter2" not in done.stderr


def test_brackets_are_printed_and_terminal_sequences_escaped():
    result = run_failing(DataError("[red]data[/red]/\x1b[31mx\x07 and a\u202eb", "line one\nline two"))
    assert result.stderr == "error: [red]data[/red]/\\x1b[31mx\\x07 and a\\u202eb\nhint: line one\nline two\n"


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["trian"], "error: No such command 'trian'. Did you mean 'train'?", "hint: selfalign --help"),
        (["--bogus"], "error: No such option: --bogus", "hint: selfalign --help"),
        (["train"], "error: Missing argument 'RECIPE'.", "hint: selfalign train --help"),
        (["train", "r.yaml", "--bogus"], "error: No such option: --bogus", "hint: selfalign train --help"),
    ],
)
def test_wrong_usage(arguments, message, hint):
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [message, hint]


@pytest.mark.parametrize("option", [["--device", "tpu"], ["--folds", "0"], ["--compat", "old"], ["--batch-size", "x"]])
def test_wrong_values_of_options_name_the_option(option):
    result = CliRunner().invoke(app, ["eval", *option])
    assert result.exit_code == 2
    assert option[0] in result.stderr


def test_all_faults_of_a_recipe_reach_the_terminal(tmp_path):
    """The text of the style guide, through the real command, from a path with brackets."""
    path = tmp_path / "[my] vsrn.yaml"
    path.write_text(
        "run: {dir: r}\ndata: {features: f, vocab: v}\nmodel: {name: vsrn}\n"
        "loss: {concept: {temprature: 0.1}}\noptim: {learning_rate: fast}\n"
    )
    done = selfalign("train", path, "--set", "optim.epochs=0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"error: {path} has 3 faults",
        "  loss.concept.temprature: unknown key (did you mean 'temperature'?)",
        "  optim.learning_rate: expected a number, got text 'fast'",
        "  --set optim.epochs=0: expected at least 1, got 0",
    ]


def test_a_full_disk_behind_stdout(tmp_path):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "selfalign_cli", "--version"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: No space left on device\n"


@pytest.mark.parametrize("arguments", [["--version"], ["eval", "--help"]])
def test_a_reader_that_went_away(arguments):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "selfalign_cli", *arguments]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_closed_streams():
    command = f"exec {sys.executable} -m selfalign_cli train nowhere.yaml >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 2


def test_terminals_that_are_not_utf_8(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = selfalign("train", tmp_path / "→.yaml")
    assert done.returncode == 2
    assert "\\u2192.yaml does not exist" in done.stderr
