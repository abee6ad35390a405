"""The bottom-up-attention detector behind `extract`: the published layout, its count, its folder, its identity."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.frcnn import drawn_picture, random_state, settings, write_folder
from support.processes import Done, Forks

from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.errors import CheckpointError, DataError
from selfalign_cli.extract.bottom_up import BottomUpExtractor, is_bottom_up_folder
from selfalign_cli.extract.choose import build_extractor, build_like, region_count
from selfalign_cli.extract.frcnn.config import config_from_dict
from selfalign_cli.extract.frcnn.detector import FrcnnDetector
from selfalign_cli.extract.pictures import Picture, UnreadableError
from selfalign_cli.extract.regions import DetectorExtractor, Extractor

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings and weights as the published folder holds them; not to be written to."""
    folder = tmp_path_factory.mktemp("models") / "frcnn-vg"
    write_folder(folder)
    (folder / "model.safetensors").unlink()
    torch.save(random_state(config_from_dict(settings(), "config.yaml")), folder / "pytorch_model.bin")
    return folder


def build(folder: Path, regions: str | None = None, backbone: str | None = None) -> Extractor:
    count = None if regions is None else region_count(regions)
    return build_extractor(backbone=backbone, detector=str(folder), area=None, regions=count, device=CPU)


def picture() -> Picture:
    return Picture(drawn_picture(), (120, 90))


def test_the_published_layout_is_kept(folder: Path) -> None:
    """The detector's own regions and nothing else: by falling probability, without one for the whole picture."""
    own = FrcnnDetector.load(folder)(drawn_picture())
    found = build(folder).regions(picture())
    assert found.features.tobytes() == own.roi_features.numpy().tobytes()
    assert found.scores.tolist() == own.obj_probs.tolist()
    assert found.labels.tolist() == own.obj_ids.tolist()
    np.testing.assert_allclose(found.boxes, own.boxes.numpy(), atol=1e-3)
    assert (np.diff(found.scores) <= 0).all()
    assert [0, 0, 120, 90] not in found.boxes.tolist()


@pytest.mark.parametrize(("regions", "least", "most"), [("3", 3, 3), ("2-5", 2, 5), (None, 4, 6)])
def test_numbers_of_regions(folder: Path, regions: str | None, least: int, most: int) -> None:
    """Twelve proposals, thinned at 0.2 and then at 0.6, leave more than six; config.yaml says 4 to 6."""
    extractor = build(folder, regions)
    assert least <= len(extractor.regions(picture()).features) <= most
    assert extractor.identity()["regions"] == (regions or "4-6")


def test_with_a_backbone_its_boxes_are_like_those_of_other_detectors(folder: Path) -> None:
    extractor = build(folder, "3", backbone="weightless")
    assert isinstance(extractor, DetectorExtractor)
    found = extractor.regions(picture())
    assert found.features.shape == (4, 128)
    assert found.boxes[-1].tolist() == [0, 0, 120, 90]
    assert (np.diff(found.scores[:-1]) >= 0).all()


def test_boxes_that_were_clipped_away_get_a_pixel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F17: regression may push a box out of the picture; its region stays, and the feature file takes no empty box."""
    extractor = build(folder)
    assert isinstance(extractor, BottomUpExtractor)
    found = extractor.detector.found(drawn_picture())
    boxes = found.normalized_boxes.clone()
    boxes[0] = torch.tensor([1.0, 0.2, 1.0, 0.2])
    found = dataclasses.replace(found, normalized_boxes=boxes)
    monkeypatch.setattr(extractor.detector, "found", lambda pixels: found)
    assert extractor.regions(picture()).boxes[0].tolist() == [119, 18, 120, 19]


def test_too_thin_and_too_small_pictures_say_so(folder: Path, tmp_path: Path) -> None:
    thin = Picture(np.zeros((200, 1, 3), dtype=np.uint8), (1, 200))
    with pytest.raises(UnreadableError, match="a picture of 1×200 pixels becomes 1×120"):
        build(folder).regions(thin)
    write_folder(tmp_path, rpn__post_nms_topk_test=1)
    with pytest.raises(UnreadableError, match="the detector finds 1 regions in it; expected 2 or more"):
        build(tmp_path).regions(picture())


@pytest.mark.parametrize("text", ["0", "abc", "5-3", "1001", "10-", "-5", "1-2-3"])
def test_counts_at_fault(text: str) -> None:
    with pytest.raises(DataError, match="expected a number from 1 to 1,000, or a range such as 10-100"):
        region_count(text)


def test_ranges_are_for_this_detector_alone(folder: Path) -> None:
    with pytest.raises(DataError, match="--regions 10-100: only the detector of bottom-up attention"):
        build(folder, "10-100", backbone="weightless")
    with pytest.raises(DataError, match="holds the bottom-up-attention detector"):
        build_extractor(backbone=str(folder), detector=None, area=None, regions=None, device=CPU)
    with pytest.raises(DataError, match="a detector resizes them itself"):
        build_extractor(backbone=None, detector=str(folder), area=224, regions=None, device=CPU)


# The folder


def test_names_of_classes(folder: Path, tmp_path: Path) -> None:
    own = shutil.copytree(folder, tmp_path / "own")
    assert build(own).label_names == list("0123456")
    (own / "objects_vocab.txt").write_text("cat,kitten\ndog\nhat\ntree\nbus\ncar,auto\nman\n")
    assert build(own).label_names == ["cat", "dog", "hat", "tree", "bus", "car", "man"]
    (own / "objects_vocab.txt").write_text("cat\ndog\n")
    with pytest.raises(CheckpointError, match=r"objects_vocab\.txt names 2 classes; config\.yaml says 7"):
        build(own)


def test_folders_are_told_apart_by_their_settings(folder: Path, tmp_path: Path) -> None:
    assert is_bottom_up_folder(folder)
    own = shutil.copytree(folder, tmp_path / "own")
    (own / "config.json").write_text("{}")
    assert not is_bottom_up_folder(own)


def without_weights(own: Path) -> None:
    (own / "pytorch_model.bin").unlink()


def without_settings(own: Path) -> None:
    (own / "config.yaml").unlink()


def other_classes(own: Path) -> None:
    write_folder(own, random_state(config_from_dict(settings(), "")), roi_heads__num_classes=8)


def fewer_keys(own: Path) -> None:
    state = torch.load(own / "pytorch_model.bin", weights_only=True)
    del state["backbone.res3.1.conv2.weight"]
    torch.save(state, own / "pytorch_model.bin")


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.mkdir, ("made-by-a-pickle",)


def with_code(own: Path) -> None:
    torch.save({"weight": Payload()}, own / "pytorch_model.bin")


def as_airsplay(own: Path) -> None:
    (own / "pytorch_model.bin").rename(own / "faster_rcnn_from_caffe_attr.pkl")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (without_weights, "lacks model.safetensors or pytorch_model.bin"),
        (without_settings, "config.yaml of the bottom-up-attention detector"),
        (other_classes, "roi_heads.box_predictor.cls_score.weight"),
        (fewer_keys, "backbone.res3.1.conv2.weight"),
        (with_code, "nothing of it was run"),
        (as_airsplay, "is a pickle, which can run programs; none is opened"),
    ],
)
def test_folders_that_do_not_fit_are_refused_by_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: object, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    own = shutil.copytree(folder, tmp_path / "own")
    spoil(own)  # type: ignore[operator]
    with pytest.raises(CheckpointError) as refused:
        build(own)
    assert expected in f"{refused.value.message} {refused.value.hint}"
    assert str(own) in refused.value.message
    assert not (tmp_path / "made-by-a-pickle").exists()


def test_another_identity_is_refused(folder: Path, tmp_path: Path) -> None:
    known = build(folder, "3").identity()
    assert build_like(known, backbone=None, detector=str(folder), device=CPU).identity() == known
    other = write_folder(tmp_path, random_state(config_from_dict(settings(), ""), seed=1))
    with pytest.raises(DataError, match="another extractor than the model"):
        build_like(known, backbone=None, detector=str(other), device=CPU)


# The command


def extract(forks: Forks, folder: Path, photos: Path, *more: str) -> Done:
    arguments = ("extract", photos, "--out", "f.h5", "--detector", folder, "--device", "cpu", *more)
    return forks.run(*arguments, cwd=photos.parent)


def test_the_command(forks: Forks, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(drawn_picture()).save(tmp_path / "photos" / "a.png")
    Image.new("RGB", (1, 200)).save(tmp_path / "photos" / "thin.png")
    done = extract(forks, folder, tmp_path / "photos", "--json")
    assert done.code == 0, done.err
    assert [each["id"] for each in json.loads(done.out)["unreadable"]] == ["thin.png"]
    file = FeatureFile(tmp_path / "f.h5")
    expected = FrcnnDetector.load(folder)(drawn_picture())
    assert file.regions(0).tobytes() == expected.roi_features.numpy().tobytes()
    assert file.origin is not None
    assert file.origin.label_names == tuple("0123456")
    described = forks.run("inspect", "f.h5", "--json", cwd=tmp_path)
    assert described.code == 0, described.err
    name = json.loads(described.out)["extractor"]
    assert name.startswith("bottom-up attention, detector frcnn-vg (")
    assert name.endswith("), 4-6 regions")
