"""The folder that make-scenes writes: consistent formats, reproducible bytes, helpful errors."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selfalign_cli.demo.scenes import SceneSummary, make_scenes
from selfalign_cli.demo.scenes.regions import FEATURE_WIDTH, REGIONS, box_grids, grid_features
from selfalign_cli.errors import DataError, RunError

SPLITS = {"train": 30, "dev": 20, "test": 20}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, SceneSummary]:
    folder = tmp_path_factory.mktemp("scenes") / "new" / "data"
    return folder, make_scenes(folder, train_images=30, seed=4)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def pixels_of(folder: Path, image_id: int) -> np.ndarray:
    with Image.open(folder / "images" / f"scene_{image_id:06d}.png") as image:
        return np.asarray(image.convert("RGB"))


def test_the_summary_is_right(made):
    folder, summary = made
    assert summary.folder == folder
    assert summary.images == SPLITS
    assert (summary.regions, summary.feature_width) == (REGIONS, FEATURE_WIDTH)
    assert summary.total_bytes == sum(map(len, files(folder).values()))
    assert len(list((folder / "images").iterdir())) == 70
    words = {w for s in SPLITS for w in (folder / f"{s}_caps.txt").read_text().replace(",", "").split()}
    assert len(words) <= summary.words <= len(words) + 3  # sixth captions are not in these files


def test_same_seed_same_bytes(made, tmp_path):
    make_scenes(tmp_path / "again", train_images=30, seed=4)
    assert files(tmp_path / "again") == files(made[0])


def test_other_seed_other_data(made, tmp_path):
    make_scenes(tmp_path / "other", train_images=30, seed=5)
    first, second = files(made[0]), files(tmp_path / "other")
    assert first.keys() == second.keys()
    changing = [name for name in first if name.endswith((".png", "ims.npy", "boxes.npy", "caps.txt"))]
    assert all(first[name] != second[name] for name in changing)


def test_bytes_are_those_of_every_machine(made):
    """A frozen digest of captions, boxes, features and pixels (not of PNG packing, which depends on zlib)."""
    folder, _ = made
    digest = hashlib.sha256()
    for split in SPLITS:
        digest.update((folder / f"{split}_caps.txt").read_bytes())
        digest.update(np.load(folder / f"{split}_boxes.npy").tobytes())
        digest.update(np.load(folder / f"{split}_ims.npy").tobytes())
    for image_id in range(70):
        digest.update(pixels_of(folder, image_id).tobytes())
    assert digest.hexdigest() == "245ba10ffd5d100066f5e5fbc591ec739c6980b2270882302af069675a33ec05"


@pytest.mark.parametrize("split", SPLITS)
def test_scan_files_agree(made, split):
    folder, _ = made
    count = SPLITS[split]
    images, boxes, sizes = (np.load(folder / f"{split}_{name}.npy") for name in ("ims", "boxes", "img_sizes"))
    assert (images.shape, images.dtype) == ((count, REGIONS, FEATURE_WIDTH), np.float32)
    assert (boxes.shape, boxes.dtype) == ((count, REGIONS, 4), np.float32)
    assert (sizes == 64).all()
    assert sizes.shape == (count, 2)
    assert len((folder / f"{split}_caps.txt").read_text(encoding="utf-8").splitlines()) == 5 * count
    assert np.isfinite(images).all()
    assert (boxes[..., 2:] > boxes[..., :2]).all()
    assert (boxes[..., 2:] <= 64).all()
    assert (boxes >= 0).all()


@pytest.mark.parametrize("split", SPLITS)
def test_features_are_those_of_the_saved_pictures_and_boxes(made, split):
    """Nothing but the PNG and the boxes is needed to get the saved features, to the last bit."""
    folder, _ = made
    ids = [int(line) for line in (folder / f"{split}_ids.txt").read_text().split()]
    pixels = np.stack([pixels_of(folder, image_id) for image_id in ids])
    boxes = np.load(folder / f"{split}_boxes.npy").astype(np.int64)
    assert (grid_features(box_grids(pixels, boxes)) == np.load(folder / f"{split}_ims.npy")).all()


def test_karpathy_json_holds_the_same_captions(made):
    folder, summary = made
    images = json.loads((folder / "dataset_scenes.json").read_text(encoding="utf-8"))["images"]
    assert [image["imgid"] for image in images] == list(range(70))
    assert all((folder / "images" / image["filename"]).is_file() for image in images)
    sentences = [sentence for image in images for sentence in image["sentences"]]
    assert [s["sentid"] for s in sentences] == list(range(sum(summary.captions.values())))
    assert all(image["sentids"] == [s["sentid"] for s in image["sentences"]] for image in images)
    assert {len(image["sentences"]) for image in images} == {5, 6}
    for split, name in (("train", "train"), ("dev", "val"), ("test", "test")):
        mine = [s["raw"] for image in images if image["split"] == name for s in image["sentences"][:5]]
        assert mine == (folder / f"{split}_caps.txt").read_text(encoding="utf-8").splitlines()


def test_progress_counts_to_the_end(tmp_path):
    seen: list[tuple[int, int]] = []
    make_scenes(tmp_path / "s", train_images=120, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(100, 170), (120, 170), (140, 170), (170, 170)]


def test_an_empty_folder_is_filled(tmp_path):
    make_scenes(tmp_path / "s", train_images=1)
    (tmp_path / "empty").mkdir()
    make_scenes(tmp_path / "empty", train_images=1)
    assert files(tmp_path / "s") == files(tmp_path / "empty")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "s"]


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="is not empty") as caught:
        make_scenes(tmp_path, train_images=1)
    assert str(tmp_path) in caught.value.message
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("path", ["file", "file/below"])
def test_an_existing_file_is_named(tmp_path, path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=path):
        make_scenes(tmp_path / path, train_images=1)


def test_a_full_disk_is_a_failed_run_and_leaves_nothing(tmp_path):
    def fill(done: int, total: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunError, match="No space left"):
        make_scenes(tmp_path / "s", train_images=1, progress=fill)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_run_leaves_nothing(tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_scenes(tmp_path / "s", train_images=1, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("images", "seed", "words"), [(0, 0, "1 to 50,000"), (50_001, 0, "1 to 50,000"), (5, -1, "seed")]
)
def test_numbers_out_of_range(tmp_path, images, seed, words):
    with pytest.raises(DataError, match=words):
        make_scenes(tmp_path / "s", train_images=images, seed=seed)
