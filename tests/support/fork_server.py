"""A process that has imported the program and forks a child per command: real processes without their start-up time.

Reads one JSON request a line. `start` forks a child that runs `python -m MODULE ARGUMENTS`, or `torchrun` with it, and
answers with its process id; `wait` answers with how a child ended, as `subprocess` reports it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import sys

from support.torchrun import launch

PROGRAM = (
    "cli.app",
    "training.train",
    "scoring.evaluate",
    "scoring.export",
    "models.hosts.camera",
    "models.bert",
    "search.build",
    "search.sources",
    "search.answer",
)
SLOW = (  # otherwise imported when they are needed
    "torch._dynamo",
    "torch.distributed.nn.functional",
    "torch.distributed.run",
    "transformers.models.bert.modeling_bert",
)


def serve() -> None:
    for name in (*SLOW, *(f"selfalign_cli.{part}" for part in PROGRAM)):
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the terminal of the tests is for pytest
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                become(**request)
        print(answer, flush=True)


def become(
    arguments: list[str], folder: str, out: str, err: str, before: str, module: str, torchrun: list[str] | None
) -> None:
    """Be the command, to its end; `before` is Python to run first, in each process if `torchrun` has its options."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    for target, path, mode in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        os.dup2(os.open(path, mode | os.O_CREAT | os.O_TRUNC), target)
    sys.argv = ["selfalign", *arguments]
    code: object = 0
    try:
        if torchrun is None:
            exec(before, {})
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            launch(torchrun, module, before)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    # What the interpreter does at its end, but for freeing every object, which takes longer than most commands.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    serve()
