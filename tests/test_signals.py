"""Ctrl-C is neither lost in a library nor in a run. What commands make of it: `training/test_interrupt.py`."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from selfalign_cli.signals import RunInterrupted, StopRequest, no_lost_interrupt

STOPS = pytest.mark.parametrize(("which", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


def send(which: signal.Signals) -> None:
    os.kill(os.getpid(), which)


def test_a_swallowed_interrupt_is_raised_again():
    with pytest.raises(KeyboardInterrupt), no_lost_interrupt(), contextlib.suppress(KeyboardInterrupt):
        send(signal.SIGINT)


def test_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with no_lost_interrupt():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


@STOPS
def test_a_run_that_starts_up_ends_on_the_spot(which: signal.Signals, code: int) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with (
        pytest.raises(RunInterrupted, match=f"stopped by {which.name} before the first step") as caught,
        StopRequest(),
    ):
        send(which)
    assert caught.value.exit_code == code
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@STOPS
def test_a_deferred_stop_only_sets_the_number(which: signal.Signals, code: int) -> None:
    with StopRequest() as stop:
        stop.defer()
        assert stop.number is None
        send(which)
        assert stop.number == which


def test_a_stop_that_was_swallowed_before_it_was_deferred_is_raised_again():
    def swallow(stop: StopRequest) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            send(signal.SIGINT)
        stop.defer()

    with pytest.raises(RunInterrupted), StopRequest() as stop:
        swallow(stop)


@STOPS
@pytest.mark.parametrize("torchrun", [False, True])
def test_a_second_signal_ends_the_process_unless_torchrun_sends_it(
    monkeypatch: pytest.MonkeyPatch, which: signal.Signals, code: int, torchrun: bool
) -> None:
    if torchrun:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
    child = os.fork()
    if child == 0:
        with StopRequest() as stop:
            stop.defer()
            send(signal.SIGINT)
            send(which)
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (7 if torchrun else code)
