"""Run `selfalign` in two processes under the real `torchrun`.

As a module (`-m support.torchrun BEFORE ARGUMENTS…`) it is what each process runs: Python first, then the command.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

from support.processes import REPOSITORY, TIMEOUT, Done

RUNNER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
OWN = ("error: ", "hint: ")


def environment() -> dict[str, str]:
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def start(*arguments: object, cwd: Path, before: str = "", restarts: int = 0) -> subprocess.Popen[str]:
    """Start `torchrun … selfalign ARGUMENTS`; `before` is Python that each process runs first."""
    command = [*RUNNER, "--max-restarts", str(restarts), "-m", "support.torchrun", before, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=cwd, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[str]) -> Done:
    """Wait for its end."""
    out, err = process.communicate(timeout=TIMEOUT)
    return Done(process.returncode, out, err)


def run(*arguments: object, cwd: Path, before: str = "", restarts: int = 0) -> Done:
    """Run `torchrun … selfalign ARGUMENTS` to its end."""
    return finish(start(*arguments, cwd=cwd, before=before, restarts=restarts))


def messages(done: Done) -> list[str]:
    """The error messages of `selfalign`; `torchrun` adds a report of its own."""
    return [line for line in done.err.splitlines() if line.startswith(OWN)]


if __name__ == "__main__":
    _, before, *arguments = sys.argv
    sys.argv = ["selfalign", *arguments]
    exec(before, {})
    runpy.run_module("selfalign_cli", run_name="__main__", alter_sys=True)
