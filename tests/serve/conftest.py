"""An index with hostile names and captions, whose pictures are there, gone, or links out of their folder; served."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.processes import Forks
from support.records import make_record, write_records
from support.serving import Server, start_server
from support.world import World
from typer.testing import CliRunner

from selfalign_cli.cli.app import app
from selfalign_cli.data.features.file import FeatureFile

SCRIPT = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
HOSTILE = {
    "plain.png": ["a red star left of a ring", "a blue square"],
    "<img src=x onerror=document.title='owned'>": [SCRIPT, "a ring"],
    "../secret.png": ["a small disc"],
    "link.png": ["a large cross"],
    "text.png": ["a pale picture"],
    "gone.png": ["a green triangle"],
    "sub/inner.png": ["a cyan star"],
}


@pytest.fixture(scope="session")
def index(unbroken: Path, world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures of scenes, and those of `HOSTILE`; not to be changed."""
    folder = tmp_path_factory.mktemp("served")
    pictures = folder / "pictures"
    (pictures / "sub").mkdir(parents=True)
    for name, colour in (("plain.png", "red"), ("sub/inner.png", "cyan"), ("../secret.png", "black")):
        Image.new("RGB", (40, 30), colour).save(pictures / name)
    (pictures / "link.png").symlink_to(folder / "secret.png")
    (pictures / "text.png").write_text("root:x:0:0: this is no picture")
    write_features(world.features, folder / "mine.h5", HOSTILE)
    given = [unbroken / "best.ckpt", "--data", folder / "mine.h5", "--pictures", pictures, "--device", "cpu"]
    done = CliRunner().invoke(app, ["index", *map(str, given), "--out", str(folder / "INDEX")])
    assert done.exit_code == 0, done.output
    return folder / "INDEX"


def write_features(scenes: Path, out: Path, named: dict[str, list[str]]) -> None:
    """Pictures of scenes under other names, and some more as they are."""
    file = FeatureFile(scenes)
    records = []
    for number, (name, captions) in enumerate([*named.items(), *((f"s{n}", [f"caption {n}"]) for n in range(60))]):
        row = number % len(file)
        boxes = np.asarray(file.boxes(row) / 64 * [40, 30, 40, 30], dtype=np.float32)
        parts = {"features": file.regions(row), "boxes": boxes, "captions": captions, "caption_ids": None}
        records.append(make_record(image_id=name, split="test", file_name=None, **parts))
    write_records(out, records)


@pytest.fixture(scope="session")
def server(forks: Forks, index: Path) -> Iterator[Server]:
    """A server of the index."""
    running = start_server(forks, index)
    yield running
    running.stop()


@pytest.fixture
def own_index(index: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    own = tmp_path / "own" / "INDEX"
    shutil.copytree(index.parent, own.parent, symlinks=True)
    manifest = own / "manifest.json"
    manifest.write_text(manifest.read_text().replace(str(index.parent), str(own.parent)))
    return own
