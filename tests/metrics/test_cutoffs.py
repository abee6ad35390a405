"""R@50 is one change and then appears everywhere; published sums keep their meaning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from campaigns.outcome import metrics_of
from support.processes import Forks, anew
from support.world import World

from selfalign_cli.metrics.cutoffs import CUTOFFS, RSUM_CUTOFFS, SELECTION_CUTOFFS

FURTHER = [f"{direction}.r50" for direction in ("i2t", "t2i")]


def test_sums_are_of_recalls_that_are_computed():
    assert {*RSUM_CUTOFFS, *SELECTION_CUTOFFS} <= set(CUTOFFS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("r50")


@pytest.fixture(scope="module")
def shown(world: World, forks: Forks, folder: Path) -> Any:
    """What the program shows once 50 is among the cutoffs."""
    done = forks.run(world.recipe, folder, cwd=folder, before=anew(), module="support.more_cutoffs")
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.fixture(scope="module")
def usual(unbroken: Path, forks: Forks) -> Any:
    """What the program as it is makes of the same run."""
    done = forks.run("eval", unbroken / "best.ckpt", "--device", "cpu", "--json", cwd=unbroken)
    return json.loads(done.out)


def without_r50(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: without_r50(value) for name, value in tree.items() if not name.endswith("r50")}
    return [without_r50(value) for value in tree] if isinstance(tree, list) else tree


def test_the_table_of_eval_has_it(shown: Any):
    header = shown["eval"].splitlines()[1].split()
    assert header == ["R@1", "R@5", "R@10", "R@50", "median", "mean", "MRR"]


def test_the_document_of_eval_has_it_and_nothing_else_changes(shown: Any, usual: Any):
    found = {name: value for name, value in shown["document"].items() if name not in ("ranks", "checkpoints")}
    assert all("r50" in part for part in (found["i2t"], found["t2i"], *[fold["i2t"] for fold in found["per_fold"]]))
    assert set(FURTHER) <= found["intervals"].keys()
    assert without_r50(found) == {name: value for name, value in usual.items() if name != "checkpoints"}


def test_rsum_stays_the_sum_of_six_recalls(shown: Any):
    i2t, t2i = shown["document"]["i2t"], shown["document"]["t2i"]
    assert shown["document"]["rsum"] == pytest.approx(
        sum(scores[name] for scores in (i2t, t2i) for name in ("r1", "r5", "r10"))
    )


def test_a_run_logs_it_and_shows_it(shown: Any, folder: Path, unbroken: Path):
    lines = metrics_of(folder / "run")
    validations = [line for line in lines if line["kind"] == "validation"]
    assert validations
    assert all({"i2t_r50", "t2i_r50"} <= line.keys() for line in validations)
    assert without_r50(lines) == metrics_of(unbroken)
    printed = [line for line in shown["train"].splitlines() if ": validation i2t_r1 " in line]
    assert len(printed) == len(validations)
    assert all(", i2t_r50 " in line and ", t2i_r50 " in line for line in printed)


def test_compare_has_it(shown: Any):
    assert set(FURTHER) <= {line.split()[0] for line in shown["compare"].splitlines() if line}


def test_the_demo_has_it(shown: Any):
    demo, scores = shown["demo"], shown["document"]
    columns = ["R@1", "R@5", "R@10", "R@50"]
    assert demo["header"] == ["test", "i→t R@1", *columns[1:], "t→i R@1", *columns[1:], "rsum", "epochs", "time"]
    assert {len(row) for row in demo["rows"]} == {len(demo["header"])}
    for result in demo["document"]["results"]:
        assert {name: result["scores"][name] for name in FURTHER} == {
            name: scores[direction]["r50"] for name, direction in zip(FURTHER, ("i2t", "t2i"), strict=True)
        }
        assert result["scores"]["rsum"] == scores["rsum"]
    assert set(FURTHER) <= {part["metric"] for part in demo["document"]["differences"]}
