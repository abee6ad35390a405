"""`selfalign demo --quick`, on fewer pictures still."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from selfalign_cli.cli import demo
from selfalign_cli.cli.app import app
from selfalign_cli.search.index import Index


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """Standard output and error of one demo, and of the same command once more."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "QUICK_IMAGES", 20)
        patch.setattr(demo, "QUICK_EPOCHS", 1)
        patch.chdir(folder)
        yield [CliRunner().invoke(app, ["demo", "--quick"]) for _ in range(2)]


def test_the_table_and_the_places_are_results(printed):
    lines = printed[0].stdout.splitlines()
    assert printed[0].exit_code == 0, printed[0].stderr
    assert lines[0] == "vsrn on scenes, one seed"
    assert [line.split("  ")[0] for line in lines[2:5]] == ["baseline", "SelfAlign", "baseline, equal time"]
    assert any(line.startswith("SelfAlign − baseline, equal epochs") for line in lines)
    assert any(line.startswith("signature: split:test|images:20|") for line in lines)
    assert [line.split() for line in lines[-3:]] == [
        ["all", "numbers", "runs/demo-quick/results/demo.json"],
        ["open", "runs/demo-quick/report.html"],
        ["serve", "selfalign", "serve", "runs/demo-quick/index"],
    ]


def test_the_page_and_the_index_are_there(printed):
    page = Path("runs/demo-quick/report.html").read_text()
    assert [page.count(f'scope="row">{name}-1024') for name in ("baseline", "selfalign", "baseline_equal_time")] == [
        1
    ] * 3
    assert page.count("data:image/png") > 4
    index = Index.open("runs/demo-quick/index")
    assert len(index) == 20
    assert len(index.search(index.retriever("cpu").encode_texts(["a red star"]), 5).candidates[0]) == 5


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
