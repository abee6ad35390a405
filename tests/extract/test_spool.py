"""What an extraction keeps while it runs: which lines count, and folders that were damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from selfalign_cli.data.formats.extraction import finished_pictures, open_pictures
from selfalign_cli.errors import DataError
from selfalign_cli.extract.regions import PictureRegions
from selfalign_cli.extract.spool import SpoolPart, end_spool, start_spool

HEADER = {"extractor": {"kind": "test"}, "label_names": [], "pictures": "photos"}


def regions(value: float, count: int = 2) -> PictureRegions:
    boxes = np.array([[0.0, 0.0, 4.0, 3.0]] * count, dtype=np.float32)
    features = np.full((count, 3), value, dtype=np.float32)
    return PictureRegions(features, boxes, np.zeros(count, np.float32), np.zeros(count, np.int32))


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Pictures a and b, in the first run."""
    folder = tmp_path / "parts"
    start_spool(folder, HEADER, resume=False)
    with SpoolPart(folder, "1-of-1", 1) as part:
        part.add("a", (1, 1), (4, 3), regions(1))
        part.add("b", (1, 1), (4, 3), regions(2))
    return folder


def features_of(parts: Path) -> dict[str, float]:
    pictures = open_pictures([parts])
    with pictures.reading() as read:
        return {name: float(read(row).features[0, 0]) for row, name in enumerate(pictures.ids)}


def test_the_latest_run_counts_whatever_its_files_are_called(parts: Path) -> None:
    """`0-of-2` stands before `1-of-1`, and is of the second run."""
    with SpoolPart(parts, "0-of-2", 2) as part:
        part.add("a", (2, 2), (4, 3), regions(5))
        part.add_gone("b")
        part.add("c", (2, 2), (4, 3), regions(7))
    assert features_of(parts) == {"a": 5.0, "c": 7.0}


def test_a_line_without_all_of_its_features_does_not_count(parts: Path) -> None:
    """A machine that lost its power may have kept the line and not what it tells of."""
    features = parts / "1-of-1.bin"
    features.write_bytes(features.read_bytes()[:-1])
    assert set(finished_pictures(parts)) == {"a"}
    with SpoolPart(parts, "1-of-1", 2) as part:
        part.add("b", (1, 1), (4, 3), regions(9))
    assert features_of(parts) == {"a": 1.0, "b": 9.0}


def test_features_that_changed_are_refused(parts: Path) -> None:
    features = parts / "1-of-1.bin"
    features.write_bytes(b"\x01" + features.read_bytes()[1:])
    with pytest.raises(DataError, match="the regions of a are damaged: their checksum is another"):
        features_of(parts)


@pytest.mark.parametrize(
    "line",
    [
        {"id": "c"},
        {"id": "c", "bytes": "x", "modified": 1, "run": 1, "unreadable": "why"},
        {"id": "c", "bytes": 1, "modified": 1, "run": 1, "shape": [2], "offset": 0},
        {"id": "c", "bytes": 1, "modified": 1, "run": 1, "shape": None, "offset": 0},
        {"id": "c", "bytes": 1, "modified": 1, "run": 1, "shape": [1, 3]},
    ],
)
def test_damaged_lines_are_refused(parts: Path, line: dict[str, object]) -> None:
    with (parts / "1-of-1.jsonl").open("ab") as lines:
        lines.write(json.dumps(line).encode() + b"\n")
    with pytest.raises(DataError, match="damaged") as refused:
        open_pictures([parts])
    assert refused.value.hint == "extract again"


@pytest.mark.parametrize(
    "header", ["", "[1]", "{}", json.dumps({"format": "selfalign-extraction", "version": 1, "extractor": 3})]
)
def test_damaged_headers_are_refused(parts: Path, header: str) -> None:
    (parts / "header.json").write_text(header)
    with pytest.raises(DataError, match=r"header\.json"):
        open_pictures([parts])


def test_nothing_of_another_extractor_is_taken_over(parts: Path) -> None:
    other = {**HEADER, "extractor": {"kind": "another"}}
    with pytest.raises(DataError, match=r"was begun with another extractor:\n  extractor: .*test.*, now .*another"):
        start_spool(parts, other, resume=True)


def test_lines_go_before_the_header_that_says_what_made_them(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the folder is removed, nothing in it counts any more."""
    monkeypatch.setattr("selfalign_cli.extract.spool.shutil.rmtree", lambda folder: None)
    end_spool(parts)
    assert (parts / "header.json").exists()
    assert finished_pictures(parts) == {}
