"""Run `selfalign` in two processes under `torchrun`: its own agent, rendezvous and restarts.

Python takes seconds to import torch, three times in each run. So all but `cold` start the agent in a process forked
from one that has everything imported (see `fork_server`), and the agent forks its workers.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

from support.processes import REPOSITORY, TIMEOUT, Command, Done, Forks

PROCESSES = 2
OWN = ("error: ", "hint: ")


def start(
    forks: Forks,
    *arguments: object,
    cwd: Path,
    before: str = "",
    restarts: int = 0,
    module: str = "selfalign_cli",
) -> Command:
    """Start `torchrun … selfalign ARGUMENTS`, or another module; `before` is Python that each process runs first."""
    options = ["--standalone", "--nproc-per-node", str(PROCESSES), "--max-restarts", str(restarts)]
    return forks.start(*arguments, cwd=cwd, before=before, module=module, torchrun=options)


def run(
    forks: Forks,
    *arguments: object,
    cwd: Path,
    before: str = "",
    restarts: int = 0,
    module: str = "selfalign_cli",
) -> Done:
    """Run it to its end."""
    return start(forks, *arguments, cwd=cwd, before=before, restarts=restarts, module=module).wait()


def cold(*arguments: object, cwd: Path) -> Done:
    """`torchrun` as a user types it."""
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*runner, "-m", "selfalign_cli", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        text=True,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def messages(done: Done) -> list[str]:
    """The error messages of `selfalign`; `torchrun` adds a report of its own."""
    return [line for line in done.err.splitlines() if line.startswith(OWN)]


def launch(options: list[str], module: str, before: str) -> None:
    """Be `torchrun OPTIONS`, whose workers are forks that run a module with the arguments in `sys.argv`."""
    from torch.distributed import run as torchrun

    agent = torchrun.elastic_launch
    torchrun.elastic_launch = lambda config, entrypoint: agent(config, work)
    torchrun.run(torchrun.parse_args([*options, "--start-method", "fork", "--no-python", "forked", module, before]))


def work(module: str, before: str) -> None:
    """Be a worker; what ends it with a code other than 0 ends the process here, as the agent is to see that code."""
    exec(before, {})
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
