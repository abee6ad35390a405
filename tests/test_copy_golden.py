"""The small golden copy: groups in order, whole or not at all, and a list of what stayed behind."""

from __future__ import annotations

from pathlib import Path

import copy_golden
import pytest
import torch
from safetensors.torch import load_file, save_file


@pytest.fixture
def full(tmp_path: Path) -> Path:
    folder = tmp_path / "full"
    for name, size in {
        "INDEX.json": 9,
        "vsrn_x/meta.json": 10,
        "vsrn_x/init.safetensors": 20,
        "vsrn_x/inputs.safetensors": 30,
        "vsrn_x/step1_f64.safetensors": 40,
        "units/a.json": 5,
        "units/a.safetensors": 50,
        "eval/matrix_1.safetensors": 15,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes([size]) * size)
    return folder


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (60, {"vsrn_x/meta.json", "vsrn_x/init.safetensors", "vsrn_x/inputs.safetensors"}),
        (59, {"units/a.json", "units/a.safetensors"}),  # a group that does not fit makes room for the next
        (54, {"eval/matrix_1.safetensors"}),
        (14, set()),
    ],
)
def test_groups_come_whole_and_in_order(full: Path, budget: int, expected: set[str]) -> None:
    assert {path.as_posix() for path in copy_golden.select(full, budget)} == expected


def test_files_are_copied_as_they_are_and_the_rest_is_listed(full: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    (out / "units").mkdir(parents=True)
    (out / "units" / "stale.json").write_text("of an earlier copy")
    copy_golden.copy(full, out)
    copied = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    left_out = (out / "LEFT_OUT.txt").read_text().split()
    assert left_out == ["vsrn_x/step1_f64.safetensors"]
    assert len(copied) == 7
    for name in copied - {"LEFT_OUT.txt"}:
        assert (out / name).read_bytes() == (full / name).read_bytes()


def test_large_tensors_stay_behind(full: Path, tmp_path: Path) -> None:
    """Of a file in THINNED; the others come bit for bit."""
    path, largest = next(iter(copy_golden.THINNED.items()))
    small, large = torch.arange(7.0), torch.zeros(largest // 4 + 1)
    for name in ("weights", "pictures"):
        (full / path).parent.mkdir(exist_ok=True)
        save_file({"one": small}, full / "frcnn" / f"{name}.safetensors")
    save_file({"small": small, "large": large}, full / path)
    copy_golden.copy(full, tmp_path / "copy")
    assert {name: value.tolist() for name, value in load_file(tmp_path / "copy" / path).items()} == {
        "small": small.tolist()
    }
    assert f"{path}: large\n" in (tmp_path / "copy" / "LEFT_OUT.txt").read_text()


def test_a_folder_without_golden_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(SystemExit, match="nothing that looks like golden data"):
        copy_golden.copy(tmp_path, tmp_path / "out")
    assert (tmp_path / "out").exists()


def test_the_copy_beside_the_tests_is_small() -> None:
    files = copy_golden.files_under(Path(__file__).parent / "golden")
    assert files
    assert sum((Path(__file__).parent / "golden" / path).stat().st_size for path in files) <= copy_golden.BUDGET
