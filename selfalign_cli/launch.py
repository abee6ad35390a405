"""How this process was started: alone, or by `torchrun` beside others. Read from the environment, without torch."""

from __future__ import annotations

import os


def launched() -> bool:
    """Tell whether `torchrun` started this process, with others beside it."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Tell whether this is the process that prints and writes: the only one, or number 0."""
    return not launched() or os.environ.get("RANK", "0") == "0"


def local_number() -> int:
    """Number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) if launched() else 0


def launch_name() -> str | None:
    """The same for all restarts of one `torchrun` command on a machine, and for no other; None without one."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    return f"{os.environ['TORCHELASTIC_RUN_ID']} {os.getppid()}"


def restarts() -> int:
    """How often `torchrun` has started its processes anew."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
