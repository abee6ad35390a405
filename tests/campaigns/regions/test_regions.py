"""What the campaign over kinds of regions is made of: objects of packages, counts, the detector's interpreter."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from campaigns.regions import nanodet
from campaigns.regions.collage_study import chance
from campaigns.regions.collages import OVERLAP, make_collages
from campaigns.regions.kinds import Tally, grid, whole_grids
from campaigns.regions.photographs import make_photographs
from campaigns.regions.retrieval import Scores
from campaigns.regions.sprites import drawn, emoji
from PIL import Image

from selfalign_cli.errors import DataError
from selfalign_cli.extract.select import overlap_with


def test_collages_are_made_again_and_objects_hardly_overlap() -> None:
    collages = make_collages(drawn(), {"train": 3, "test": 1}, 4)
    again = make_collages(drawn(), {"train": 3, "test": 1}, 4)
    assert [len(pictures) for pictures in collages.values()] == [3, 1]
    for one, other in zip(collages["train"], again["train"], strict=True):
        assert (one.picture.pixels == other.picture.pixels).all()
        assert one.captions == other.captions
        assert len(one.boxes) >= 2
        for row, box in enumerate(one.boxes):
            assert overlap_with(box, np.delete(one.boxes, row, axis=0)).max() <= OVERLAP


def test_emoji_are_read_by_the_names_of_one_vendor(tmp_path: Path) -> None:
    sprite = Image.new("RGBA", (64, 64))
    sprite.paste("red", (10, 20, 50, 40))
    rows = [{"short_name": name, "image": f"{name}.png"} for name in ("dog", "lion_face", "zebra_face", "cat")]
    for vendor in ("google", "twitter"):
        folder = tmp_path / vendor / f"package/img/{vendor}/64"
        folder.mkdir(parents=True)
        for row in rows if vendor == "google" else rows[:3]:
            sprite.save(folder / row["image"])
    (tmp_path / "google/package/emoji.json").write_text(json.dumps(rows))
    found = emoji(tmp_path)
    assert list(found.unseen) == ["dog", "zebra"]
    assert [list(vendor) for vendor in found.training] == [["dog", "zebra"]]
    assert found.unseen["dog"].size == (40, 20)
    with pytest.raises(DataError, match=r"which packages go where|emoji.json"):
        emoji(tmp_path / "twitter")


def test_objects_are_counted_by_hand() -> None:
    """The object equals the second-best of three boxes."""
    tally = Tally()
    boxes = np.array([[0, 0, 1, 1], [5, 5, 9, 9], [0, 0, 9, 2]], dtype=float)
    tally.add(np.array([[5.0, 5, 9, 9]]), boxes, [1, 2], int)
    assert (tally.share(1), tally.share(2)) == (0.0, 1.0)


def test_grids_are_counted_whole() -> None:
    assert len(grid(8, 4)) == 30
    assert grid(8, 4)[-5:].tolist() == [[0, 0, 4, 2], [4, 0, 8, 2], [0, 2, 4, 4], [4, 2, 8, 4], [0, 0, 8, 4]]
    assert [whole_grids(count) for count in (10, 20, 35)] == [5, 14, 30]


def test_differences_and_chance_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, sd 1, t(2) = 4.303, half 2.48. Of 30 captions, 27 are of other pictures."""
    one, other = Scores([11, 22, 33], [], 0.0), Scores([10, 20, 30], [], 0.0)
    assert one.against(other) == "+2.0 [-0.5, +4.5]"
    assert one.shown() == "22.0 ±11.0"
    missed = [np.prod(np.arange(28 - cutoff, 28) / np.arange(31 - cutoff, 31)) for cutoff in (1, 5, 10)]
    assert chance(10) == pytest.approx(10 + 50 + 100 + sum(100 * (1 - part) for part in missed))


def node(name: str, op: str, *inputs: str, **attributes: Any) -> dict[str, Any]:
    return {"name": name, "op": op, "input": list(inputs), "attr": attributes}


def test_a_small_graph_by_hand(tmp_path: Path) -> None:
    """A picture of 2 x 2 ones in a rim of zeros; a kernel of 3 x 3 halves (stored as float16), and 1 added."""
    half = {"dtype": "float32", "quantization": {"dtype": "float16"}}
    kernel = np.full((3, 3, 1, 1), 0.5, dtype=np.float16)
    rim, one = np.array([[0, 0], [1, 1], [1, 1], [0, 0]], dtype=np.int32), np.ones(1, dtype=np.float16)
    ones = {"list": {"i": ["1", "1", "1", "1"]}}
    document = {
        "modelTopology": {
            "node": [
                node("x", "Placeholder"),
                node("rim", "Const"),
                node("kernel", "Const"),
                node("one", "Const"),
                node("padded", "Pad", "x", "rim"),
                node("seen", "Conv2D", "padded", "kernel", strides=ones,
                     padding={"s": base64.b64encode(b"VALID").decode()}),
                node("out", "AddV2", "seen", "one"),
            ]
        },
        "weightsManifest": [
            {
                "paths": ["w.bin"],
                "weights": [
                    {"name": "rim", "shape": [4, 2], "dtype": "int32"},
                    {"name": "kernel", "shape": [3, 3, 1, 1], **half},
                    {"name": "one", "shape": [1], **half},
                ],
            }
        ],
    }  # fmt: skip
    (tmp_path / "model.json").write_text(json.dumps(document))
    (tmp_path / "w.bin").write_bytes(rim.tobytes() + kernel.tobytes() + one.tobytes())
    (found,) = nanodet.Graph(tmp_path / "model.json").run(["out"], torch.ones(1, 2, 2, 1))
    assert found.squeeze().tolist() == [[3, 3], [3, 3]]


def test_boxes_of_the_finest_level_by_hand() -> None:
    """All mass in bins 1, 0, 2, 3 of 8 pixels around the first centre (4, 4): from (-4, 4) to (20, 28)."""
    distances = torch.full((1, 52 * 52, 4, nanodet.BINS), -50.0)
    for side, distance in enumerate((1, 0, 2, 3)):
        distances[0, :, side, distance] = 50.0
    found = nanodet._boxes(distances.flatten(2), 8) * nanodet.SIDE
    assert found[0].tolist() == pytest.approx([-4, 4, 20, 28], abs=1e-3)
    assert found[53].tolist() == pytest.approx([4, 12, 28, 36], abs=1e-3)


def test_pictures_of_packages_are_varied_and_captioned(tmp_path: Path) -> None:
    """Five variations of one picture, and a scene; the captions file names all of them by split."""
    wheel, scenes = tmp_path / "some.whl", tmp_path / "scenes"
    content = io.BytesIO()
    Image.new("L", (90, 60), "grey").save(content, "PNG")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("skimage/data/coins.png", content.getvalue())
        archive.writestr("skimage/data/unknown.png", content.getvalue())
    (scenes / "images").mkdir(parents=True)
    (scenes / "images/scene_0.png").write_bytes(content.getvalue())
    scene = {"filename": "scene_0.png", "split": "val", "sentences": [{"raw": "a red disc"}] * 6}
    (scenes / "dataset_scenes.json").write_text(json.dumps({"images": [scene]}))
    assert make_photographs(tmp_path, scenes, tmp_path / "photos") == 6
    rows = json.loads((tmp_path / "photos.json").read_bytes())
    assert [row["split"] for row in rows] == ["train", "train", "train", "dev", "dev", "test"]
    assert sorted(path.relative_to(tmp_path / "photos").as_posix() for path in (tmp_path / "photos").rglob("*.*")) == (
        sorted(row["image"] for row in rows)
    )
    with Image.open(tmp_path / "photos/coins_0.jpg") as one:
        assert 60 <= one.width <= 90
    assert len({(tmp_path / "photos" / name).read_bytes() for name in ("coins_0.jpg", "coins_3.jpg")}) == 2
