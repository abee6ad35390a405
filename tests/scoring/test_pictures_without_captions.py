"""Pictures without captions: exported, read, inspected and searched; scored and compared they are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.processes import Forks
from support.records import make_record, write_records
from support.world import World

from selfalign_cli import Retriever
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.inspection.files import inspect_any
from selfalign_cli.scoring.embeddings import read_embeddings

SUFFIXES = [".h5", ".npz"]


@pytest.fixture(scope="module")
def pictures(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures of the split test, no captions."""
    width = FeatureFile(world.features).feature_dim
    draw = np.random.default_rng(0)
    records = [
        make_record(
            row,
            features=draw.random((3, width), dtype=np.float32),
            split="test",
            captions=[],
            caption_ids=None,
        )
        for row in range(5)
    ]
    return write_records(tmp_path_factory.mktemp("pictures") / "pictures.h5", records)


@pytest.fixture(scope="module", params=SUFFIXES)
def exported(
    request: pytest.FixtureRequest,
    forks: Forks,
    unbroken: Path,
    pictures: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    out = f"e{request.param}"
    done = forks.run("export-embeddings", unbroken / "best.ckpt", "--data", pictures, "--out", out, cwd=folder)
    assert done.code == 0, done.err
    assert "pictures.h5 holds pictures without captions: only pictures are encoded" in done.err
    return folder / out


def test_the_file_holds_pictures_alone(exported: Path):
    """One view; D is 16 of the host and 2 x 16 of SelfAlign."""
    found = read_embeddings(exported)
    assert (found.images.pooled.shape, found.images.shared.shape) == ((5, 1, 16), (5, 32))
    assert (found.captions.pooled.shape, found.captions.shared.shape) == ((0, 16), (0, 32))
    assert (found.image_of_caption.dtype, len(found.image_of_caption)) == (torch.int64, 0)
    assert (found.image_ids, found.caption_texts) == ([f"im{row}" for row in range(5)], [])
    assert found.file_names == [f"{row}.jpg" for row in range(5)]
    assert str(found.attributes["signature"]).startswith("split:test|images:5|captions:0|")


def test_the_pictures_can_be_searched(exported: Path, unbroken: Path, pictures: Path):
    retriever = Retriever.load(unbroken / "best.ckpt", device="cpu")
    gallery = read_embeddings(exported).images
    own = retriever.encode_pictures(pictures)
    assert torch.equal(own.pooled, gallery.pooled)
    found = retriever.search(["a red star"], gallery, k=3)
    assert found.candidates.tolist() == retriever.search(["a red star"], own, k=3).candidates.tolist()


def test_inspecting_finds_no_fault(exported: Path, pictures: Path, forks: Forks, tmp_path: Path):
    found = inspect_any(exported)
    assert (found["images"], found["captions"], found["faults"]) == (5, 0, [])
    assert found["captions_per_image"] == {"min": 0, "mean": 0.0, "max": 0}
    assert found["shapes"] == {"image": [5, 1, 48], "caption": [0, 48]}
    json.dumps(found, allow_nan=False)
    for path in (exported, pictures):
        shown = forks.run("inspect", path, cwd=tmp_path)
        assert shown.code == 0, shown.err
        assert "captions" in shown.out


def test_eval_and_compare_refuse_them(exported: Path, unbroken: Path, pictures: Path, forks: Forks, tmp_path: Path):
    words = ("holds pictures without captions", "convert-features", "--captions")
    forks.run("eval", exported, cwd=tmp_path).must_refuse(exported.name, *words)
    forks.run("compare", exported, exported, cwd=tmp_path).must_refuse(exported.name, *words)
    forks.run("eval", unbroken / "best.ckpt", "--data", pictures, cwd=tmp_path).must_refuse("pictures.h5", *words)


def test_eval_refuses_before_it_encodes(forks: Forks, unbroken: Path, pictures: Path, tmp_path: Path):
    before = "import selfalign_cli.assembly.retriever as module\nmodule.encode_pictures = None\n"
    done = forks.run("eval", unbroken / "best.ckpt", "--data", pictures, cwd=tmp_path, before=before)
    done.must_refuse("pictures without captions")


def test_parquet(forks: Forks, unbroken: Path, pictures: Path, tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'selfalign[parquet]'")
    done = forks.run(
        "export-embeddings", unbroken / "best.ckpt", "--data", pictures, "--out", "e.parquet", cwd=tmp_path
    )
    assert done.code == 0, done.err
    rows = parquet.read_table(tmp_path / "e.parquet").to_pylist()
    assert [(row["kind"], row["text"], len(row["vector"])) for row in rows] == [
        ("image", f"im{row}", 48) for row in range(5)
    ]
