"""Do something in a process apart first, to see whether the library that does it survives.

The HDF5 library trusts what it reads: a damaged file can make it end the process with a segmentation fault, or run in
circles for ever. The tokenizers library panics. What a child has lived through, the parent can do too.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import resource
import signal
import warnings
from collections.abc import Callable

SECONDS = 2
"""Processor time that any reading may take, at least."""
BYTES_PER_SECOND = 10_000_000
"""Large files may take longer; libraries read ten times as fast."""


def survives(work: Callable[[], object], *, size: int) -> bool:
    """Whether some reading comes to an end, be it that it raises an error.

    Args:
        work: reads; what it returns or raises is lost.
        size: bytes that are read.

    Returns:
        False when the process that did it crashed, or ran in circles.
    """
    seconds = SECONDS + size // BYTES_PER_SECOND
    process = multiprocessing.get_context("fork").Process(target=_rehearse, args=(work, seconds), daemon=True)
    with warnings.catch_warnings():
        # The child touches nothing that another thread may hold: it reads.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    try:
        process.join()
        return process.exitcode == 0
    finally:
        process.kill()  # when the wait was interrupted
        process.join()
        process.close()


def _rehearse(work: Callable[[], object], seconds: int) -> None:
    """All that the child does, without a word."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    wanted = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        work()
    except Exception:  # the parent will meet it too
        pass
    except BaseException:  # what a library written in Rust calls a panic
        os._exit(1)
    os._exit(0)
