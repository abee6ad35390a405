"""What all tests share: a plain terminal, one thread, and the folder of golden numbers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Before anything reads them, and inherited by the processes that tests start.
os.environ.update(NO_COLOR="1", COLUMNS="120", TERM="dumb")
os.environ.setdefault("OMP_NUM_THREADS", "1")
for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TERMINAL_WIDTH"):
    os.environ.pop(name, None)

settings.register_profile("selfalign", deadline=None, database=None, print_blob=True)
settings.load_profile("selfalign")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """One thread, so that sums run in one order, and test processes side by side do not slow each other down."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The golden folder: SELFALIGN_GOLDEN, or the copy beside the tests. Without one, golden tests fail."""
    folder = Path(os.environ.get("SELFALIGN_GOLDEN") or Path(__file__).parent / "golden").resolve()
    if not folder.is_dir() or not any(folder.iterdir()):
        pytest.fail(f"no golden data in {folder}: set SELFALIGN_GOLDEN to the folder that holds INDEX.json")
    return folder
