"""Printing: tables and JSON on stdout, progress and messages on stderr, live on a terminal and plain in a log."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

import pytest

from selfalign_cli.cli import progress as progress_module
from selfalign_cli.cli.console import printable, show_json, show_message, show_table
from selfalign_cli.cli.progress import duration, progress
from selfalign_cli.cli.training_view import TrainingView

TRAINING = """
from selfalign_cli.cli.console import show_table
from selfalign_cli.cli.progress import progress
from selfalign_cli.cli.training_view import TrainingView
from selfalign_cli.errors import RunError
with TrainingView() as view:
    view.start(total_steps=4, start_step=0, epochs=2, steps_per_epoch=2)
    for step in range(1, 5):
        view.step(epoch=1 + step // 3, step=step, terms={"total": 3.5}, learning_rate=2e-4, grad_norm=1.0)
        view.message("a [bold]message[/bold] \\x1b[31m")
    view.validation(epoch=2, step=4, scores={"rsum": 123.4}, best=True)
    view.finish({"best": "runs/[x]/best.ckpt", "seconds": 12.0})
with progress("convert: [pictures]", 3) as advance:
    advance(2)
    advance()
show_table(["name", "R@1"], [["[red]a", "12.5"], ["b", "7.0"]], title="test")
"""


def on_a_terminal(code):
    """Run code with both streams on a pseudo-terminal, and return what it showed."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end was closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait(timeout=600) == 0, shown.decode()
    return shown.decode()


def test_a_table_in_a_pipe_is_aligned(capsys):
    show_table(["name", "R@1", "n"], [["a", "12.5 ±1.0", "1,000"], ["longer", "7.0 ±0.5", "20"]], title="two rows")
    assert capsys.readouterr().out.splitlines() == [
        "two rows",
        "name          R@1      n",
        "a       12.5 ±1.0  1,000",
        "longer   7.0 ±0.5     20",
    ]


def test_a_table_without_rows_or_headings(capsys):
    show_table(["a", "b"], [])
    show_table(["", ""], [["key", "value"]])
    assert capsys.readouterr().out.splitlines() == ["a  b", "key  value"]


def test_long_cells_are_folded_on_a_terminal_only(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    show_table(["name", "n"], [["a long name " * 3, "1,000"]])
    assert len(capsys.readouterr().out.splitlines()) == 2
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show_table(["name", "n"], [["a long name " * 3, "1,000"]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["name               n", "a long name a  1,000"]
    assert all(len(line) <= 20 for line in lines)


def test_json_is_one_document(capsys):
    show_json({"rsum": 1.5, "split": "tést"})
    assert json.loads(capsys.readouterr().out) == {"rsum": 1.5, "split": "tést"}


def test_json_has_no_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        show_json({"rsum": float("nan")})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, tést →\nline", "plain, tést →\nline"),
        ("\x1b[2J\r\t", "\\x1b[2J\\r\\t"),
        ("a\u202eb\u200b", "a\\u202eb\\u200b"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3661, "1:01:01")])
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_messages_go_to_stderr(capsys):
    show_message("taking [runs]/best.ckpt")
    assert capsys.readouterr() == ("", "taking [runs]/best.ckpt\n")


def test_progress_on_a_terminal_shows_rate_and_time_left():
    code = "import time\nfrom selfalign_cli.cli.progress import progress\nwith progress('convert', 900) as advance:\n"
    shown = on_a_terminal(code + "    for _ in range(9):\n        advance(50)\n        time.sleep(0.06)\n")
    assert re.search(r"convert .*450/900 +[0-9,]+/s +0:00:0[0-2]", shown)


def test_progress_in_a_log_shows_rate_and_time_left(capsys, monkeypatch):
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.0)
    with progress("encode", 5_000_000_000) as advance:
        advance(10)
    assert re.match(r"encode: 10 of 5,000,000,000, [0-9,]+/s, [0-9:]+ left\n", capsys.readouterr().err)


def test_progress_in_a_log_ends_with_a_count(capsys):
    with progress("encode", 5) as advance:
        advance(2)
        advance(3)
    assert capsys.readouterr() == ("", "encode: 5 in 0:00\n")


def test_progress_that_fails_says_nothing_of_success(capsys):
    with pytest.raises(RuntimeError), progress("encode", 5):
        raise RuntimeError
    assert capsys.readouterr().err == ""


def test_training_in_a_log(capsys):
    with TrainingView() as view:
        view.start(total_steps=40, start_step=0, epochs=2, steps_per_epoch=20)
        view.step(epoch=1, step=10, terms={"total": 12.345678, "ranking": 3.0}, learning_rate=2e-4, grad_norm=1.5)
        view.validation(epoch=1, step=20, scores={"rsum": 210.04}, best=True)
        view.validation(epoch=2, step=40, scores={"rsum": 200.0}, best=False)
    out, err = capsys.readouterr()
    first, second, third, fourth = err.splitlines()
    assert out == ""
    assert first == "training: 2 epochs of 20 steps, 40 in all"
    assert second.startswith("epoch 1/2 step 10/40: total 12.35, ranking 3, gradient 1.5, learning rate 0.0002, ")
    assert second.endswith(" left")
    assert third == "epoch 1/2 step 20/40: validation rsum 210.0 (best so far)"
    assert fourth == "epoch 2/2 step 40/40: validation rsum 200.0"


def test_a_resumed_training_says_where_it_goes_on(capsys):
    TrainingView().start(total_steps=40, start_step=30, epochs=2, steps_per_epoch=20)
    assert capsys.readouterr().err == "resuming after step 30: 2 epochs of 20 steps, 40 in all\n"


def test_the_summary_of_a_training_goes_to_stdout(capsys):
    TrainingView().finish({"best": "runs/a/best.ckpt", "seconds": 1234.56, "steps": 40})
    assert capsys.readouterr().out.splitlines() == ["best     runs/a/best.ckpt", "seconds  1,234.6", "steps    40"]


def test_everything_on_a_terminal():
    shown = on_a_terminal(TRAINING)
    assert "epoch 2/2" in shown
    assert "4/4" in shown
    assert "total 3.5" in shown
    assert "a [bold]message[/bold] \\x1b[31m" in shown
    assert "validation rsum 123.4 (best so far)" in shown
    assert "runs/[x]/best.ckpt" in shown
    assert "convert: [pictures]" in shown
    assert "[red]a" in shown


def test_the_cursor_comes_back_after_an_error():
    """A live bar hides the cursor; leaving the view by an error must show it again."""
    code = TRAINING.replace("    view.finish(", "    raise SystemExit(0)\n    view.finish(")
    shown = on_a_terminal(code)
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l") > -1
