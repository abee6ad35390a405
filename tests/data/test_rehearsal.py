"""What a child does first: it may end in any way, and its parent only learns whether it lived."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from selfalign_cli.data import rehearsal
from selfalign_cli.data.rehearsal import survives
from selfalign_cli.errors import DataError


class Panic(BaseException):
    """What a library written in Rust raises."""


def raises(error: BaseException) -> Callable[[], object]:
    def work() -> None:
        raise error

    return work


def circle() -> None:
    while True:
        pass


@pytest.mark.parametrize(
    "work", [lambda: 3, raises(ValueError("bad")), raises(DataError("bad")), raises(MemoryError())]
)
def test_what_comes_to_an_end_survives(work: Callable[[], object]) -> None:
    assert survives(work, size=0)


@pytest.mark.parametrize(
    "work",
    [
        lambda: os.kill(os.getpid(), signal.SIGSEGV),
        lambda: os.abort(),
        lambda: os._exit(7),
        raises(Panic()),
    ],
)
def test_what_crashes_does_not(work: Callable[[], object], capfd: pytest.CaptureFixture[str]) -> None:
    assert not survives(work, size=0)
    assert capfd.readouterr() == ("", "")


def test_what_runs_in_circles_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "SECONDS", 0)
    assert not survives(circle, size=0)


def test_nothing_is_changed_here(tmp_path: Path) -> None:
    found: list[int] = []
    assert survives(lambda: found.append(1), size=0)
    assert found == []
