"""Whether `torchrun` started this process, and as which: read from the environment, without torch."""

from __future__ import annotations

import os


def launched() -> bool:
    """Return whether `torchrun` started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Return whether this process prints and writes: it is the only one, or number 0."""
    return not launched() or os.environ.get("RANK", "0") == "0"


def local_number() -> int:
    """Return the number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) if launched() else 0


def launch_name() -> str | None:
    """Identify a `torchrun` command on this machine across its restarts; None without one."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    return f"{os.environ['TORCHELASTIC_RUN_ID']} {os.getppid()}"


def restarts() -> int:
    """Return how often `torchrun` has restarted its processes."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
