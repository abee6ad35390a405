"""What all tests share: a plain terminal, one thread, and the folder of golden numbers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from support.browser import Browser
    from support.processes import Forks
    from support.world import World

# Before anything reads them, and inherited by the processes that tests start.
os.environ.update(NO_COLOR="1", COLUMNS="120", TERM="dumb")
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # a closed port in place of the hub: tests wait for no network
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # gRPC would print a line at each fork of a process that uses it
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


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Data, vocabulary and recipe; not to be written to."""
    from support.world import make_world

    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Runs commands in processes of their own."""
    from support.processes import Forks

    forks = Forks(tmp_path_factory.mktemp("printed"))
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def unbroken(world: World, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one training from start to end; not to be written to."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = forks.run("train", world.recipe, "--device", "cpu", cwd=folder)
    assert done.code == 0, done.err
    return folder / "run"


@pytest.fixture(scope="session")
def camera_bert(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of one small layer and its WordPieces; not to be written to."""
    from selfalign_cli.data.text.captions import read_vocabulary_captions
    from selfalign_cli.data.text.wordpiece import save_tokenizer
    from selfalign_cli.data.text.wordpiece_training import build_wordpieces
    from selfalign_cli.demo.seeded_bert import write_seeded_bert

    folder = tmp_path_factory.mktemp("bert") / "bert"
    save_tokenizer(build_wordpieces(read_vocabulary_captions(world.features), size=120), folder)
    write_seeded_bert(folder, hidden=8, layers=1, heads=2, seed=1)
    return folder


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A real browser; tests are skipped, and say so, only where none is installed."""
    from support.browser import MISSING, Browser, installed_browser

    program = installed_browser()
    if program is None:
        pytest.skip(MISSING)
    running = Browser(program, tmp_path_factory.mktemp("browser"))
    yield running
    running.close()


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client of the Hugging Face hub finds nobody at its address, and does not wait between its attempts."""
    from huggingface_hub import constants

    address = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
