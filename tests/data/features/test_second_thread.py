"""Work beside the caller: in order, all of it, and faults come back."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from selfalign_cli.data.features.second_thread import AHEAD, SecondThread


def test_calls_are_done_in_order_and_all_of_them():
    done: list[int] = []
    with SecondThread() as thread:
        for number in range(5 * AHEAD):
            thread.run(done.append, number)
        thread.wait()
        assert done == list(range(5 * AHEAD))
        thread.run(done.append, -1)
    assert done[-1] == -1


def test_the_caller_is_never_far_ahead():
    may_go, done = threading.Event(), threading.Event()
    with SecondThread() as thread:
        thread.run(may_go.wait)
        for _ in range(AHEAD - 1):
            thread.run(lambda: None)
        other = threading.Thread(target=lambda: (thread.run(lambda: None), done.set()))
        other.start()
        assert not done.wait(0.05)
        may_go.set()
        assert done.wait(10)
        other.join()


def test_a_fault_comes_back():
    with SecondThread() as thread:
        thread.run(lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            thread.wait()


def test_nothing_is_left_running():
    before = threading.active_count()
    with suppress(KeyError), SecondThread() as thread:
        thread.run(lambda: None)
        raise KeyError
    assert threading.active_count() == before
