"""Golden files of the published programs: detector output and Karpathy's captions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.golden import golden_root

from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.formats import plan_conversion
from selfalign_cli.data.formats.caption_tables import read_caption_table

TSV, KARPATHY = golden_root() / "legacy" / "tsv", golden_root() / "legacy" / "karpathy"
EXPECTED = KARPATHY / "expected_splits.json"


def golden_tsv_files() -> list[Path]:
    return sorted(TSV.glob("*.tsv"))


def golden_karpathy_splits() -> list[tuple[str, str]]:
    """Data set and split of each expected list."""
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    return [(data, split) for data, splits in expected.items() for split in splits]


def decoded(path: Path):
    """Features and boxes by picture id; names in the file start with the first letters of the TSV's name."""
    tensors = load_file(TSV / "decoded.safetensors")
    kind = next(kind for kind in {name.split(".")[0] for name in tensors} if path.stem.startswith(kind))
    ids = {name.split(".")[1] for name in tensors if name.startswith(f"{kind}.")}
    return kind, {i: (tensors[f"{kind}.{i}.features"], tensors[f"{kind}.{i}.boxes"]) for i in ids}


@pytest.fixture(params=golden_tsv_files(), ids=lambda path: path.stem)
def source(request) -> Path:
    return request.param


@pytest.fixture
def file(source, tmp_path) -> FeatureFile:
    """The detector output with the captions of COCO."""
    convert_to_feature_file([source], tmp_path / "f.h5", captions=KARPATHY / "dataset_coco.json")
    return FeatureFile(tmp_path / "f.h5")


def test_golden_regions_are_decoded_bit_by_bit(source, file):
    _, expected = decoded(source)
    assert sorted(file.image_ids) == sorted(expected)
    for row, name in enumerate(file.image_ids):
        features, boxes = expected[name]
        assert file.regions(row).tobytes() == features.tobytes()
        assert file.boxes(row).tobytes() == boxes.tobytes()


def test_golden_picture_sizes(source, file):
    kind, _ = decoded(source)
    rows = json.loads((TSV / "decoded.json").read_text())["rows_in_file_order"][kind]
    expected = {str(row["image_id"]): [row["image_w"], row["image_h"]] for row in rows}
    assert dict(zip(file.image_ids, file.facts.image_size.tolist(), strict=True)) == expected


def test_golden_order_is_that_of_the_id_lists(source, file):
    """`{split}_ids.txt` list the pictures as the published converter wrote them; its train list holds restval too."""
    for path in TSV.glob("*_ids.txt"):
        rows = file.facts.splits[path.name.removesuffix("_ids.txt")]
        assert file.image_ids[rows.start : rows.stop] == path.read_text().split()


def test_golden_arrays_of_the_published_converter(tmp_path):
    source = next(path for path in golden_tsv_files() if decoded(path)[0] == "fixed")
    convert_to_feature_file([source], tmp_path / "f.h5", captions=KARPATHY / "dataset_coco.json")
    file = FeatureFile(tmp_path / "f.h5")
    arrays = sorted(TSV.glob("*_ims.npy"))
    assert {path.name.removesuffix("_ims.npy") for path in arrays} == set(file.facts.splits)
    for path in arrays:
        found = np.stack([file.regions(row) for row in file.facts.splits[path.name.removesuffix("_ims.npy")]])
        assert found.tobytes() == np.load(path).tobytes()


@pytest.mark.parametrize(("data", "split"), golden_karpathy_splits())
def test_golden_karpathy_splits(data, split):
    """Pictures in the file's order, and the first five sentences of each as written."""
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))[data][split]
    path = KARPATHY / f"dataset_{data}.json"
    table = read_caption_table(path, [split.removesuffix("_with_restval")])
    if split == "train":  # the list without restval, which belongs to train for everybody
        entries = json.loads(path.read_text(encoding="utf-8"))["images"]
        left_out = {entry["filename"] for entry in entries if entry["split"] == "restval"}
        table = [picture for picture in table if picture.file_name not in left_out]
    assert [picture.file_name for picture in table] == expected["filenames"]
    names = [picture.names.get("cocoid") or Path(picture.names["filename"]).stem for picture in table]
    assert names == [str(name) for name in expected["image_ids"]]
    assert [text for picture in table for text in picture.captions[:5]] == expected["captions"]


def test_golden_captions_and_their_ids(file):
    """Every sentence of every picture, in order, with its sentid and the name of the picture's file."""
    entries = json.loads((KARPATHY / "dataset_coco.json").read_text(encoding="utf-8"))["images"]
    expected = {str(entry["cocoid"]): entry for entry in entries}
    for row, name in enumerate(file.image_ids):
        captions = np.flatnonzero(file.facts.caption_image == row)
        sentences = expected[name]["sentences"]
        assert [file.captions[m] for m in captions] == [sentence["raw"] for sentence in sentences]
        assert [file.caption_ids[m] for m in captions] == [str(sentence["sentid"]) for sentence in sentences]
        assert file.file_names[row] == expected[name]["filename"]


def test_golden_scan_folders_with_some_splits():
    folder = next(path.parent for path in sorted(golden_root().glob("legacy/data/*/test_ims.npy")))
    plan = plan_conversion([folder], splits=["test"])
    assert list(plan.splits) == ["test"]
    assert len(list(plan.records())) == plan.splits["test"]
