"""Run work in a child process, where a library may crash or loop forever without harm to this one.

The HDF5 library trusts what it reads: some damaged files make it end the process with a segmentation fault, or loop
forever. The tokenizers library panics.
"""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import resource
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from selfalign_cli.data.progress import Advance, Progress, no_progress
from selfalign_cli.errors import DataError, SelfAlignError

Result = TypeVar("Result")

CALL_SECONDS = 20
"""Processor time that a library may take for one call; the longest honest one, listing 370,000 names, takes one."""
READING_SECONDS = 2
BYTES_PER_SECOND = 10_000_000
"""What a reading of a file in one call may take: so long at least, and longer for large files; libraries are ten times
as fast."""
MEMORY = 2 * 1024**3
MEMORY_PER_BYTE = 8
"""Address space that the work may take beyond what this process has, for itself and for each byte that it reads: a
damaged size may claim any amount."""
KILL_SECONDS = 5.0
"""How long to wait for a killed child; one that waits for a disk that is gone cannot end."""
STATM = Path("/proc/self/statm")
PARENT_DEATH_SIGNAL = 1  # Linux: prctl's PR_SET_PDEATHSIG


class ChildDied(Exception):
    """The child process ended before its work did.

    Args:
        code: exit code; minus the signal that ended it.
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(f"failed (exit code {code})" if code != -signal.SIGXCPU else "runs in circles")


def run_in_child(
    work: Callable[[Progress], Result],
    *,
    source: str,
    size: int,
    progress: Progress = no_progress,
    seconds: int = CALL_SECONDS,
) -> Result:
    """Run work in a child process that shares nothing with this one but the disk.

    When this process is interrupted or dies, the child is killed.

    Args:
        work: is given what shows its progress; its result is pickled.
        source: what is read, for the message.
        size: bytes that are read.
        progress: shows here how far the child is.
        seconds: processor time that a library may take for one call.

    Raises:
        DataError: the child crashed, or ran in circles.
        SelfAlignError: what the work raised; likewise OSError and MemoryError.
        RuntimeError: it raised something else, a bug; with the child's traceback.
    """
    try:
        return _run(work, progress, seconds, size)
    except ChildDied as fault:
        raise DataError(f"{source} is so damaged that the library which reads it {fault}", "fetch it again") from fault


def completes_in_child(work: Callable[[], object], *, size: int) -> bool:
    """Whether a reading comes to an end, be it in an error: what a child survives, this process can do too.

    Args:
        work: reads; what it returns or raises is lost.
        size: bytes that are read.

    Returns:
        False when the child crashed or ran in circles.
    """

    def read(_: Progress) -> None:
        with suppress(Exception):
            work()

    try:
        _run(read, no_progress, READING_SECONDS + size // BYTES_PER_SECOND, size)
    except ChildDied:
        return False
    return True


def _run(work: Callable[[Progress], Result], progress: Progress, seconds: int, size: int) -> Result:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(ours, theirs, work, seconds, size, os.getpid()), daemon=True)
    with warnings.catch_warnings():
        # The child touches nothing that another thread may hold: it reads and writes files of its own.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    try:
        result: Result = _result(ours, progress)
        return result
    except EOFError:
        process.join()
        raise ChildDied(process.exitcode) from None
    finally:
        process.kill()
        ours.close()
        process.join(KILL_SECONDS)
        if process.exitcode is not None:
            process.close()


def _result(pipe: Connection, progress: Progress) -> Any:
    """Show the progress that the child sends, up to its result."""
    advance: Advance
    with ExitStack() as shown:
        while True:
            kind, content = _receive(pipe)
            if kind == "start":
                shown.close()
                advance = shown.enter_context(progress(*content))
            elif kind == "advance":
                advance(content)
            elif kind == "error":
                raise content
            else:
                return content


def _receive(pipe: Connection) -> tuple[str, Any]:
    try:
        message: tuple[str, Any] = pipe.recv()
    except OSError as fault:  # the child died in the middle of a message
        raise EOFError from fault
    return message


def _child(
    ours: Connection, theirs: Connection, work: Callable[[Progress], object], seconds: int, size: int, parent: int
) -> None:
    """All that the child does: send ("start", description and total), ("advance", count), and a result or an error."""
    ours.close()  # so that a parent that is gone is noticed

    @contextmanager
    def progress(description: str, total: int) -> Iterator[Advance]:
        theirs.send(("start", (description, total)))
        yield lambda count: theirs.send(("advance", count))

    try:
        _depend_on(parent)
        _silence()
        _limit_memory(MEMORY + MEMORY_PER_BYTE * size)
        _limit_calls(seconds)
        answer: tuple[str, object] = ("result", work(progress))
    except Exception as fault:
        answer = ("error", _sendable(fault))
    except BaseException:  # what a library written in Rust calls a panic
        os._exit(1)
    with suppress(OSError):  # the parent is gone
        theirs.send(answer)


def _sendable(fault: Exception) -> Exception:
    """Errors of ours, of the system and of memory as they are; for any other, a bug, its traceback."""
    if isinstance(fault, SelfAlignError | MemoryError):
        return fault
    if isinstance(fault, OSError) and fault.errno is not None:
        return OSError(fault.errno, fault.strerror, fault.filename)
    return RuntimeError("".join(traceback.format_exception(fault)))


def _depend_on(parent: int) -> None:
    """Leave Ctrl-C to the parent, which then kills this process, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _silence() -> None:
    """End without messages or a core file."""
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    _lower(resource.RLIMIT_CORE, 0)


def _limit_memory(more: int) -> None:
    with suppress(OSError):  # only Linux has the file
        used = int(STATM.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _lower(resource.RLIMIT_AS, used + more)


def _lower(limit: int, value: int) -> None:
    """Set a soft limit, up to the hard one."""
    hard = resource.getrlimit(limit)[1]
    resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _limit_calls(seconds: int) -> None:
    """Let the system end this process when it computes for so long without a step of Python's."""

    def allow_more_time(*_: object) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + seconds)

    allow_more_time()
    # Python answers a signal between two of its own steps, so never while a library runs in circles.
    signal.signal(signal.SIGPROF, allow_more_time)
    signal.siginterrupt(signal.SIGPROF, False)
    signal.setitimer(signal.ITIMER_PROF, 0.25, 0.25)
