"""Run `selfalign` in processes of its own, and stop them at chosen instants by real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TIMEOUT = 300  # seconds


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code (minus the signal that killed it), and what it printed."""

    code: int
    out: str
    err: str

    def must_refuse(self, *words: str, code: int = 2) -> None:
        """One short message without a traceback, nothing on stdout, and the exit code."""
        assert (self.code, self.out) == (code, ""), self.err
        lines = [line for line in self.err.splitlines() if not line.startswith(("training:", "epoch ", "resuming "))]
        assert lines[0].startswith("error: "), self.err
        assert len(lines) <= 1 + self.err.count("\n  ") + self.err.count("\nhint: "), self.err
        assert "Traceback" not in self.err
        assert not [word for word in words if word not in self.err], self.err


class Forks:
    """Starts commands by forking a process that has everything imported already; see `fork_server`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])}
        self.server = subprocess.Popen(
            [sys.executable, "-m", "support.fork_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def close(self) -> None:
        self.server.stdin.close()
        self.server.wait(TIMEOUT)
        self.server.stdout.close()

    def start(
        self,
        *arguments: object,
        cwd: Path,
        before: str = "",
        module: str = "selfalign_cli",
        torchrun: list[str] | None = None,
    ) -> Command:
        """Start `selfalign ARGUMENTS`, or another module, in a folder.

        Args:
            arguments: of the command line.
            cwd: the folder.
            before: Python to run in the process first.
            module: what is run.
            torchrun: options of `torchrun`, to run it in several processes.
        """
        self.count += 1
        out, err = (self.folder / f"{self.count}.{name}" for name in ("out", "err"))
        number = self._ask(
            arguments=[str(part) for part in arguments],
            folder=str(cwd),
            out=str(out),
            err=str(err),
            before=before,
            module=module,
            torchrun=torchrun,
        )
        return Command(self, number, out, err)

    def run(self, *arguments: object, cwd: Path, before: str = "", module: str = "selfalign_cli") -> Done:
        """Run `selfalign ARGUMENTS` to its end."""
        return self.start(*arguments, cwd=cwd, before=before, module=module).wait()

    def wait(self, number: int) -> int:
        return self._ask(wait=number)

    def _ask(self, **request: object) -> int:
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())


@dataclass(frozen=True)
class Command:
    """A command that is running."""

    forks: Forks
    number: int
    out: Path
    err: Path

    def send(self, which: signal.Signals) -> None:
        os.kill(self.number, which)

    def wait(self) -> Done:
        code = self.forks.wait(self.number)
        return Done(code, *(path.read_text(errors="replace") for path in (self.out, self.err)))


def anew(*paths: Path) -> str:
    """Python for `before`: our modules are imported again when they are needed, from these folders first."""
    return f"""
import sys
for name in [name for name in sys.modules if name.partition(".")[0] in ("selfalign_cli", "support")]:
    del sys.modules[name]
sys.path[:0] = {[str(path) for path in paths]!r}
"""


def until(ready: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + TIMEOUT
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def cold(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    """Start `python -m selfalign_cli ARGUMENTS` as a user would."""
    command = [sys.executable, "-m", "selfalign_cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def at_call(
    function: str,
    call: int,
    which: signal.Signals,
    *,
    counted: str = "True",
    after: bool = False,
    group: bool = False,
    parent: bool = False,
) -> str:
    """Python for `before`: the process gets a signal at the n-th call of a function; see `code_at_call`.

    Args:
        function, call, counted, after: when.
        which: the signal.
        group: all processes of the command get the signal, as from Ctrl-C on a terminal.
        parent: the parent of the process that calls gets it, for a function that a child calls.
    """
    if group:
        code = code_at_call(function, call, f"os.killpg(0, {int(which)})", counted=counted, after=after)
        return "import os\nos.setpgid(0, 0)\n" + code
    target = "os.getppid()" if parent else "os.getpid()"
    return code_at_call(function, call, f"os.kill({target}, {int(which)})", counted=counted, after=after)


def code_at_call(function: str, call: int | None, code: str, *, counted: str = "True", after: bool = False) -> str:
    """Python for `before`: some Python runs at the n-th call of a function, before or after that does its work.

    Args:
        function: dotted name, looked up where it is used, e.g. `os.replace`.
        call: n, from 1; None for every call.
        code: Python; it sees `os` and the arguments of the call as `positional` and `named`.
        counted: a Python expression of these that says which calls count.
        after: once the function has done its work.
    """
    owner, name = function.rsplit(".", 1)
    return f"""
import os
def watch():
    import itertools, pkgutil
    owner = pkgutil.resolve_name({owner!r})
    original, calls = getattr(owner, {name!r}), itertools.count(1)
    def watched(*positional, **named):
        seen = {{**globals(), "positional": positional, "named": named}}
        now = bool(eval({counted!r}, seen)) and {call} in (None, next(calls))
        if now and not {after}:
            exec({code!r}, seen)
        result = original(*positional, **named)
        if now and {after}:
            exec({code!r}, seen)
        return result
    setattr(owner, {name!r}, watched)
watch()
"""
