"""`selfalign demo --quick`, on fewer pictures still."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from selfalign_cli.cli import demo
from selfalign_cli.cli.app import app


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """Standard output and error of one demo, and of the same command once more."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "QUICK_IMAGES", 20)
        patch.setattr(demo, "QUICK_EPOCHS", 1)
        patch.chdir(folder)
        return [CliRunner().invoke(app, ["demo", "--quick"]) for _ in range(2)]


def test_the_table_and_the_places_are_results(printed):
    lines = printed[0].stdout.splitlines()
    assert printed[0].exit_code == 0, printed[0].stderr
    assert lines[0] == "vsrn on scenes, one seed"
    assert [line.split("  ")[0] for line in lines[2:5]] == ["baseline", "SelfAlign", "baseline, equal time"]
    assert any(line.startswith("SelfAlign − baseline, equal epochs") for line in lines)
    assert any(line.startswith("signature: split:test|images:20|") for line in lines)
    assert lines[-1].split() == ["all", "numbers", "runs/demo-quick/results/demo.json"]


def test_progress_and_remarks_are_not(printed):
    assert "SelfAlign, seed 1024: arm 2 of 3, 1 epochs" in printed[0].stderr
    assert "equal time: 1 epochs of the baseline took" in printed[0].stderr
    assert printed[0].stderr.splitlines()[-1] == "--quick: these numbers mean nothing"


def test_repeated_it_trains_nothing_and_says_the_same(printed):
    assert printed[1].stderr.count("trained already") == 3
    assert "optim.epochs" not in printed[1].stderr
    assert printed[1].stdout == printed[0].stdout


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    result = CliRunner().invoke(app, ["demo", "--quick", "--out", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "choose another folder with --out" in result.stderr
