"""Start `selfalign` in real processes that may be killed: cold, as a user starts it, or forked, without the imports.

A forked command runs the same module by the same name, from its first line; only its imports are loaded already.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PRELOADED = [
    "torch._dynamo",
    "selfalign_cli.cli.app",
    "selfalign_cli.cli.training_view",
    "selfalign_cli.training.train",
]
PATIENCE = 600.0
"""Seconds after which a command that has not ended counts as hanging."""


class Command:
    """A running command; its output goes to a file.

    Args:
        arguments: of `selfalign`.
        folder: its working directory.
        printed: where stdout and stderr go.
        cold: start a new interpreter.
        threads: of torch.
    """

    def __init__(self, arguments: Sequence[str], *, folder: Path, printed: Path, cold: bool, threads: int) -> None:
        self.printed = printed
        printed.touch()
        self._process = _cold(arguments, folder, printed, threads) if cold else _forked(arguments, folder, printed)

    def code(self) -> int | None:
        """Exit code, or minus the signal that ended it; None while it runs."""
        if isinstance(self._process, subprocess.Popen):
            return self._process.poll()
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL: the process does not execute another instruction."""
        self._process.kill()

    def wait(self) -> int | None:
        """Wait for its end and return the exit code; None if it hangs, in which case it is killed."""
        if isinstance(self._process, subprocess.Popen):
            try:
                return self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                code = None
        else:
            self._process.join(PATIENCE)
            code = self._process.exitcode
        if code is None:
            self.kill()
        return code


def prepare_forks(threads: int, folder: Path) -> None:
    """Start the process that commands are forked from, and wait until it has loaded the libraries.

    Args:
        threads: of torch, in all of them, for the lifetime of this process.
        folder: for the output of the first command.
    """
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = before
    Command(["--version"], folder=folder, printed=folder / "version.txt", cold=False, threads=threads).wait()


def _cold(arguments: Sequence[str], folder: Path, printed: Path, threads: int) -> subprocess.Popen[bytes]:
    known = os.environ.get("PYTHONPATH")
    paths = os.pathsep.join([str(CHECKOUT), *([known] if known else [])])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "selfalign_cli", *arguments]
    with open(printed, "wb") as target:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=target, stderr=target
        )


def _forked(arguments: Sequence[str], folder: Path, printed: Path) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=become, args=(list(arguments), str(folder), str(printed)), daemon=True)
    process.start()
    return process


def become(arguments: list[str], folder: str, printed: str) -> None:
    """Be the command, in a process that was just forked."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    target = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(target, stream)
    sys.argv = ["selfalign", *arguments]
    runpy.run_module("selfalign_cli", run_name="__main__", alter_sys=True)
