"""A process that has imported the program and forks one child per command: real processes without seconds of start-up.

Reads one JSON request a line. `start` forks a child that runs `python -m selfalign_cli ARGUMENTS`, and answers with its
process id; `wait` answers with how a child ended, as `subprocess` would say it.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys

import selfalign_cli.cli.app
import selfalign_cli.engine.evaluate
import selfalign_cli.engine.export
import selfalign_cli.engine.train  # noqa: F401 - so that children have it


def serve() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the terminal of the tests is for pytest
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                become(**request)
                return
        print(answer, flush=True)


def become(arguments: list[str], folder: str, out: str, err: str, before: str) -> None:
    """Be the command; `before` is Python to run first. Ends the way the command ends: by SystemExit, or by returning."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    for target, path, mode in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        os.dup2(os.open(path, mode | os.O_CREAT | os.O_TRUNC), target)
    exec(before, {})
    sys.argv = ["selfalign", *arguments]
    runpy.run_module("selfalign_cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve()
