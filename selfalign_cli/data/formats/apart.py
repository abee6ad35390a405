"""Read files of others in a process apart.

The HDF5 library trusts what it reads: some damaged files make it end the process with a segmentation fault, or run in
circles for ever. Here this happens to a child process, and becomes an error of one line.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import multiprocessing
import os
import resource
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from selfalign_cli.data.features.layout import starts_as_hdf5
from selfalign_cli.data.formats.pictures import Array, Pictures, ReadPicture, Regions, named
from selfalign_cli.errors import DataError

# Seconds to wait for an answer; the longest honest one lists the names of 370,000 data sets.
PATIENCE = 600.0
SOON = 5.0
# Seconds that the library may compute without coming back. Its longest honest call lists 370,000 names, in one second.
CIRCLES = 20
PARENT_DEATH_SIGNAL = 1  # Linux: prctl's PR_SET_PDEATHSIG

OpenPictures = Callable[[Sequence[Path]], Pictures]


def recognising(recognises: Callable[[Path], bool]) -> Callable[[Path], bool]:
    """Make a function that recognises HDF5 files of a kind in a process apart.

    Args:
        recognises: the function to run there.
    """

    def ask(source: Path) -> bool:
        if not source.is_file() or not starts_as_hdf5(source):
            return False
        try:
            with _child(lambda pipe: _send(pipe, recognises(source)), [source]) as answers:
                return bool(answers.document())
        except DataError:
            return False

    return ask


def opening(open_pictures: OpenPictures) -> OpenPictures:
    """Make a function that counts and reads pictures in a process apart.

    Args:
        open_pictures: the function to run there.
    """
    return partial(_open, open_pictures)


def _open(open_pictures: OpenPictures, sources: Sequence[Path]) -> Pictures:
    with _child(lambda pipe: _tell(pipe, open_pictures(sources)), sources) as answers:
        told = answers.document()
    return Pictures(**told, reading=partial(_reading, open_pictures, sources, told))


@contextmanager
def _reading(open_pictures: OpenPictures, sources: Sequence[Path], expected: dict[str, Any]) -> Iterator[ReadPicture]:
    with _child(partial(_serve, open_pictures, sources), sources) as answers:
        if answers.document() != expected:
            raise DataError(f"{answers.source} changed while it was read", "start again")
        yield answers.regions


def _tell(pipe: Connection, pictures: Pictures) -> None:
    names = ("source", "feature_dim", "ids", "regions", "notes")
    _send(pipe, {name: getattr(pictures, name) for name in names})


def _serve(open_pictures: OpenPictures, sources: Sequence[Path], pipe: Connection) -> None:
    """The child's part: tell what there is, then read row after row as asked."""
    pictures = open_pictures(sources)
    _tell(pipe, pictures)
    with pictures.reading() as read:
        while True:
            found = read(int(pipe.recv_bytes()))
            arrays = [array for array in (found.features, found.boxes) if array is not None]
            _send(pipe, {"arrays": [[array.dtype.str, array.shape] for array in arrays], "size": found.size})
            for array in arrays:
                pipe.send_bytes(np.ascontiguousarray(array).tobytes())


def _send(pipe: Connection, answer: object) -> None:
    pipe.send_bytes(json.dumps({"answer": answer}).encode())


class _Answers:
    """The parent's end of the pipe."""

    def __init__(self, pipe: Connection, process: BaseProcess, source: str) -> None:
        self.pipe, self.process, self.source = pipe, process, source

    def document(self) -> Any:
        """The next answer.

        Raises:
            DataError: the child found a fault, died, or does not answer.
        """
        told = json.loads(self._bytes())
        if "fault" in told:
            raise DataError(*told["fault"])
        if "bug" in told:
            raise RuntimeError(told["bug"])
        return told["answer"]

    def regions(self, row: int) -> Regions:
        """Ask for one picture."""
        try:
            self.pipe.send_bytes(str(row).encode())
        except OSError:
            pass  # it died; reading its answer says how
        told = self.document()
        arrays: list[Array] = [np.frombuffer(self._bytes(), dtype).reshape(shape) for dtype, shape in told["arrays"]]
        size = told["size"]
        boxes = arrays[1] if len(arrays) > 1 else None
        return Regions(arrays[0], boxes, None if size is None else (size[0], size[1]))

    def _bytes(self) -> bytes:
        try:
            if self.pipe.poll(PATIENCE):
                return self.pipe.recv_bytes()
        except (EOFError, OSError) as fault:
            self.process.join(SOON)
            code = self.process.exitcode
            runs = "runs in circles" if code == -signal.SIGXCPU else f"failed (exit code {code})"
            raise DataError(
                f"{self.source} is so damaged that the library which reads it {runs}", "fetch it again"
            ) from fault
        raise DataError(
            f"{self.source} gives no answer for {PATIENCE:.0f} seconds", "it is damaged, or its disk is gone"
        )


@contextmanager
def _child(work: Callable[[Connection], None], sources: Sequence[Path]) -> Iterator[_Answers]:
    """A process that does some work and answers; it ends with the block."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(ours, theirs, work, os.getpid()), daemon=True)
    with warnings.catch_warnings():
        # The child touches nothing that another thread may hold: it reads files and writes to a pipe.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    try:
        yield _Answers(ours, process, named(sources))
    finally:
        process.kill()  # it only reads, so it may be stopped anywhere
        ours.close()
        process.join(SOON)
        if process.exitcode is not None:  # else it waits for a disk that is gone
            process.close()


def _run(ours: Connection, theirs: Connection, work: Callable[[Connection], None], parent: int) -> None:
    """All that the child does."""
    ours.close()  # so that it notices when the parent is gone
    _live_and_die_quietly(parent)
    _end_in_circles(CIRCLES)
    with suppress(OSError, EOFError):  # the parent is gone
        try:
            work(theirs)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
        except DataError as fault:
            theirs.send_bytes(json.dumps({"fault": [fault.message, fault.hint]}).encode())
        except Exception:
            theirs.send_bytes(json.dumps({"bug": traceback.format_exc()}).encode())


def _live_and_die_quietly(parent: int) -> None:
    """Leave Ctrl-C to the parent, do not outlive it, and end without words or a core file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _end_in_circles(seconds: int) -> None:
    """Let the system end this process when it computes so long without a step of Python's."""

    def allow_more_time(*_: object) -> None:
        spent, most = resource.getrusage(resource.RUSAGE_SELF), resource.getrlimit(resource.RLIMIT_CPU)[1]
        wanted = int(spent.ru_utime + spent.ru_stime) + 1 + seconds
        resource.setrlimit(
            resource.RLIMIT_CPU, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most)
        )

    allow_more_time()
    # Python answers a signal between two of its own steps, so never while the library runs in circles.
    signal.signal(signal.SIGPROF, allow_more_time)
    signal.siginterrupt(signal.SIGPROF, False)
    signal.setitimer(signal.ITIMER_PROF, 0.25, 0.25)
