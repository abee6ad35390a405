"""A Ctrl-C that a library swallows is raised again."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from selfalign_cli.cli.interrupts import no_lost_interrupt


def test_a_swallowed_interrupt_is_raised_again():
    with pytest.raises(KeyboardInterrupt), no_lost_interrupt(), contextlib.suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with no_lost_interrupt():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
