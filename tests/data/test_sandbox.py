"""Libraries that crash or loop forever do so in a child process, and the parent raises one error."""

from __future__ import annotations

import collections
import errno
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.processes import until

from selfalign_cli.data import sandbox
from selfalign_cli.data.sandbox import completes_in_child, run_in_child
from selfalign_cli.errors import DataError, RunError


class Panic(BaseException):
    """What a library written in Rust raises."""


def raising(error: BaseException) -> Callable[..., object]:
    def work(*_: object) -> None:
        raise error

    return work


def crash(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def abort(*_: object) -> None:
    os.write(2, b"free(): invalid pointer")
    os.abort()


def leave(*_: object) -> None:
    os._exit(7)


def loop(*_: object) -> None:
    """As a library in C does: signals are noticed, and never answered."""
    collections.deque(itertools.repeat(0), maxlen=0)


def test_a_result_comes_over_whole():
    features = run_in_child(lambda progress: np.full((3, 2), 1.5, np.float16), source="a.h5", size=0)
    assert (features.dtype, features.tolist()) == (np.float16, [[1.5, 1.5]] * 3)


def test_progress_is_shown_here():
    shown: list[object] = []

    @contextmanager
    def progress(description: str, total: int):
        shown.append((description, total, os.getpid()))
        yield shown.append
        shown.append("end")

    def work(progress) -> None:
        with progress("pictures", 3) as advance:
            advance(1)
            advance(2)

    run_in_child(work, source="a.h5", size=0, progress=progress)
    assert shown == [("pictures", 3, os.getpid()), 1, 2, "end"]


@pytest.mark.parametrize(
    ("work", "how"),
    [(crash, "exit code -9"), (abort, "exit code -6"), (leave, "exit code 7"), (raising(Panic()), "exit code 1")],
)
def test_a_crash_is_one_message(work: Callable[..., object], how: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=rf"a.h5 is so damaged that the library which reads it failed \({how}\)"):
        run_in_child(work, source="a.h5", size=0)
    assert not completes_in_child(work, size=0)
    assert capfd.readouterr() == ("", "")


def test_an_endless_loop_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "READING_SECONDS", 0)
    with pytest.raises(DataError, match="a.h5 is so damaged that the library which reads it runs in circles"):
        run_in_child(loop, source="a.h5", size=0, seconds=0)
    assert not completes_in_child(loop, size=0)


def test_many_short_calls_may_take_longer():
    def slow(*_: object) -> bool:
        while time.process_time() < 2.2:
            pass
        return True

    assert run_in_child(slow, source="a.h5", size=0, seconds=1)


def test_a_size_that_no_memory_holds_is_an_error_of_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MEMORY", 2**27)

    def take(_: object) -> int:
        return len(bytes(2**28))

    with pytest.raises(MemoryError):
        run_in_child(take, source="a.h5", size=0)
    assert run_in_child(take, source="a.h5", size=2**28) == 2**28


def test_the_child_does_not_outlive_its_parent(tmp_path: Path) -> None:
    mark = tmp_path / "child"

    def settle(*_: object) -> None:
        mark.with_suffix(".new").write_text(str(os.getpid()))
        mark.with_suffix(".new").rename(mark)
        signal.pause()

    parent = os.fork()
    if parent == 0:
        run_in_child(settle, source="a.h5", size=0)
        os._exit(0)
    until(mark.exists)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    until(lambda: has_ended(int(mark.read_text())))


def has_ended(number: int) -> bool:
    """Whether a process is gone, or waits only to be reaped."""
    try:
        return "State:\tZ" in Path(f"/proc/{number}/status").read_text()
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(
    "error", [DataError("what", "hint"), RunError("full", None), OSError(errno.EIO, "broken", "a.h5"), MemoryError()]
)
def test_errors_come_over_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        run_in_child(raising(error), source="a.h5", size=0)
    assert (str(caught.value), getattr(caught.value, "hint", None)) == (str(error), getattr(error, "hint", None))


def test_a_bug_stays_a_bug():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        run_in_child(lambda progress: 1 / 0, source="a.h5", size=0)


@pytest.mark.parametrize("error", [ValueError("bad"), DataError("bad"), MemoryError(), OSError("no number")])
def test_a_reading_that_ends_in_an_error_completes(error: Exception) -> None:
    assert completes_in_child(raising(error), size=0)


def test_nothing_is_changed_here():
    found: list[int] = []
    assert completes_in_child(lambda: found.append(1), size=0)
    assert found == []


@pytest.mark.parametrize("work", [lambda progress: 1, raising(ValueError()), crash])
def test_nothing_is_left_running(work: Callable[..., object]) -> None:
    try:
        run_in_child(work, source="a.h5", size=0)
    except (RuntimeError, DataError):
        pass
    assert not multiprocessing.active_children()
