"""`export-embeddings`: layout, rows in data-set order, and vectors that know nothing of their batch."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.processes import Forks
from support.world import World, opened

from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.features.output import write_texts


def exported(forks: Forks, checkpoint: Path, cwd: Path, out: str, *more: object) -> Path:
    done = forks.run("export-embeddings", checkpoint, "--out", out, *more, cwd=cwd)
    assert (done.code, done.out) == (0, ""), done.err
    return cwd / out


@pytest.fixture(scope="session")
def embeddings(forks: Forks, unbroken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test split, exported."""
    return exported(forks, unbroken / "best.ckpt", tmp_path_factory.mktemp("embeddings"), "e.h5")


def test_the_layout(embeddings: Path) -> None:
    """20 pictures with one view, 100 captions; D is 16 of the host and 2 x 16 of SelfAlign."""
    with h5py.File(embeddings) as file:
        assert {name: (file[name].shape, file[name].dtype) for name in ("image", "caption", "image_of_caption")} == {
            "image": ((20, 1, 48), np.float32),
            "caption": ((100, 48), np.float32),
            "image_of_caption": ((100,), np.int64),
        }
        assert {name: (file[name].shape, file[name].asstr()[0]) for name in ("image_id", "caption_text")}.keys()
        assert file["image_id"].shape == (20,)
        assert file["caption_text"].shape == (100,)
        assert file.attrs["signature"].startswith(b"split:test|images:20|captions:100|")


def test_rows_are_in_data_set_order(world: World, embeddings: Path) -> None:
    data = FeatureFile(world.features)
    images, captions = data.split_images("test"), data.split_captions("test")
    with h5py.File(embeddings) as file:
        assert list(file["image_id"].asstr()) == [data.image_ids[row] for row in images]
        assert list(file["caption_text"].asstr()) == [data.captions[row] for row in captions]
        assert file["image_of_caption"][:].tolist() == (data.facts.caption_image[captions] - images[0]).tolist()


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_rows_do_not_depend_on_the_batch_size(
    forks: Forks, unbroken: Path, embeddings: Path, tmp_path: Path, size: int
) -> None:
    other = exported(forks, unbroken / "best.ckpt", tmp_path, "e.h5", "--batch-size", size)
    with h5py.File(embeddings) as first, h5py.File(other) as second:
        for name in ("image", "caption"):
            np.testing.assert_allclose(first[name], second[name], rtol=0, atol=1e-6)


def test_npz_holds_the_same(forks: Forks, unbroken: Path, embeddings: Path, tmp_path: Path) -> None:
    arrays = np.load(exported(forks, unbroken / "best.ckpt", tmp_path, "e.npz"), allow_pickle=False)
    with h5py.File(embeddings) as file:
        for name in ("image", "caption", "image_of_caption"):
            np.testing.assert_array_equal(arrays[name], file[name])
        for name in ("image_id", "caption_text"):
            assert arrays[name].tolist() == list(file[name].asstr())


def test_another_split_and_other_data(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    shutil.copy(world.features, tmp_path / "moved.h5")
    path = exported(forks, unbroken / "best.ckpt", tmp_path, "e.h5", "--data", "moved.h5", "--split", "train")
    with h5py.File(path) as file:
        assert (len(file["image"]), len(file["caption"])) == (24, 120)


def test_caption_ids_come_along(world: World, forks: Forks, unbroken: Path, embeddings: Path, tmp_path: Path) -> None:
    """Only where the feature file has them."""
    shutil.copy(world.features, tmp_path / "named.h5")
    with h5py.File(tmp_path / "named.h5", "r+") as file:
        write_texts(file["captions"], "id", [f"{row:05}" for row in range(len(file["captions/text"]))])
    rows = FeatureFile(tmp_path / "named.h5").split_captions("test")
    for name in ("e.h5", "e.npz"):
        exported(forks, unbroken / "best.ckpt", tmp_path, name, "--data", "named.h5")
    with h5py.File(tmp_path / "e.h5") as file:
        assert list(file["caption_id"].asstr()) == [f"{row:05}" for row in rows]
    assert np.load(tmp_path / "e.npz")["caption_id"].tolist() == [f"{row:05}" for row in rows]
    with h5py.File(embeddings) as file:
        assert "caption_id" not in file


def test_the_model_is_the_one_of_the_checkpoint(forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    """The best and the last one differ, unless the last validation was the best."""
    steps = [opened(unbroken / name)["step"] for name in ("best.ckpt", "last.ckpt")]
    files = [exported(forks, unbroken / name, tmp_path, f"{name}.h5") for name in ("best.ckpt", "last.ckpt")]
    with h5py.File(files[0]) as first, h5py.File(files[1]) as second:
        assert np.array_equal(first["image"], second["image"]) == (steps[0] == steps[1])
