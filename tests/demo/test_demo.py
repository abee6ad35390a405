"""The demo on 40 pictures: real runs, reproducible numbers, continuation after an interruption, refusals."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from support.demo_view import Watcher

from selfalign_cli.demo.arms import ABLATIONS, ARMS, SELFALIGN, arm_recipe, shortened
from selfalign_cli.demo.result import HEADER, METRICS, ArmResult, DemoResult, training_seconds
from selfalign_cli.demo.run import Demo, run_demo
from selfalign_cli.demo.world import claim_folder
from selfalign_cli.errors import DataError, RecipeError
from selfalign_cli.metrics.cutoffs import DIRECTIONS, RSUM_CUTOFFS, recall_name
from selfalign_cli.recipe.load import load_recipe
from selfalign_cli.recipe.schema import Recipe
from selfalign_cli.recipe.shipped import shipped_recipe
from selfalign_cli.signals import RunInterrupted

NAMES = ["baseline", "selfalign", "baseline_equal_time"]
SUMMED = [f"{direction}.{recall_name(k)}" for direction in DIRECTIONS for k in RSUM_CUTOFFS]


def tiny(out: Path, **changes) -> Demo:
    return Demo(**{"out": out, "train_images": 40, "epochs": 1, **changes})


def numbers(document: object) -> object:
    """A demo's JSON without times."""
    if isinstance(document, dict):
        return {key: numbers(value) for key, value in document.items() if key != "seconds"}
    return [numbers(value) for value in document] if isinstance(document, list) else document


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished demo: its result and its folder."""
    out = tmp_path_factory.mktemp("demo") / "out"
    return run_demo(tiny(out), Watcher())


@pytest.fixture(scope="module")
def document(finished):
    return json.loads((finished.out / "results/demo.json").read_text())


def test_the_document_has_every_arm(document):
    assert [arm["name"] for arm in document["arms"]] == NAMES
    assert [(result["arm"], result["seed"], result["epochs"]) for result in document["results"]] == [
        (name, 1024, 1) for name in NAMES
    ]
    assert {"torch", "selfalign", "threads"} <= set(document["versions"])


def test_scores_add_up(document):
    for result in document["results"]:
        assert set(result["scores"]) == set(METRICS)
        assert result["scores"]["rsum"] == pytest.approx(sum(result["scores"][name] for name in SUMMED))
        assert "split:test|images:20|" in result["signature"]
        assert result["seconds"] > 0


def test_what_the_document_names_is_there(document, finished):
    for result in document["results"]:
        assert (finished.out / result["checkpoint"]).is_file()
        assert (finished.out / result["embeddings"]).is_file()
    ranks = json.loads((finished.out / "results/selfalign-1024.json").read_text())["ranks"]
    assert (len(ranks["i2t"]), len(ranks["t2i"])) == (20, 100)


def test_the_table_has_a_row_for_every_arm(finished):
    rows = finished.rows()
    assert [row[0] for row in rows] == ["baseline", "SelfAlign", "baseline, equal time"]
    assert [row[HEADER.index("rsum")] for row in rows] == [
        f"{result.scores['rsum']:.1f}" for result in finished.results
    ]


def test_differences_are_those_of_the_scores(finished, document):
    rsum = {result.arm.name: result.scores["rsum"] for result in finished.results}
    found = {
        (part["arm"], part["reference"]): part["mean"] for part in document["differences"] if part["metric"] == "rsum"
    }
    assert found == {
        ("selfalign", name): rsum["selfalign"] - rsum[name] for name in ("baseline", "baseline_equal_time")
    }


def test_again_in_the_same_folder_trains_nothing(finished, document):
    before = {path: path.read_bytes() for path in finished.out.rglob("last.ckpt")}
    watcher = Watcher()
    again = run_demo(tiny(finished.out), watcher)
    assert watcher.left == [0, 0, 0]
    assert {path: path.read_bytes() for path in finished.out.rglob("last.ckpt")} == before
    assert again.to_json() == document


def test_interrupted_and_repeated_ends_with_the_same_numbers(tmp_path, document):
    out = tmp_path / "out"
    with pytest.raises(RunInterrupted) as stopped:
        run_demo(tiny(out), Watcher(stop_in_arm=2))
    assert (stopped.value.exit_code, stopped.value.hint) == (130, "the same command goes on from here")
    watcher = Watcher()
    run_demo(tiny(out), watcher)
    assert watcher.left == [0, 0, 2]
    assert numbers(json.loads((out / "results/demo.json").read_text())) == numbers(document)


def test_camera_runs_too(tmp_path):
    result = run_demo(tiny(tmp_path / "out", model="camera", train_images=20), Watcher())
    assert [row[0] for row in result.rows()] == ["baseline", "SelfAlign", "baseline, equal time"]


def test_a_folder_of_another_demo_is_refused(finished):
    with pytest.raises(DataError, match="holds a demo of another kind: train_images 40, not 41"):
        run_demo(tiny(finished.out, train_images=41), Watcher())


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(DataError, match="holds something else than a demo"):
        run_demo(tiny(tmp_path), Watcher())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_damaged_settings_are_named(tmp_path):
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(DataError, match=r"settings\.json cannot be read"):
        claim_folder(tmp_path, {})


def test_an_arm_of_another_recipe_is_refused(finished):
    kept = finished.out / "runs/baseline-1024/recipe.yaml"
    text = kept.read_text()
    kept.write_text(text.replace("margin: 0.2", "margin: 0.3"))
    try:
        with pytest.raises(RecipeError, match="baseline-1024 was trained by another recipe"):
            run_demo(tiny(finished.out), Watcher())
    finally:
        kept.write_text(text)


def recipe_of(arm, **changes) -> Recipe:
    paths = {name: Path(name) for name in ("folder", "features", "text")}
    return arm_recipe(arm, "vsrn", **{"seed": 7, **paths, **changes})


@pytest.mark.parametrize("arm", [*ARMS, *ABLATIONS], ids=lambda arm: arm.name)
def test_an_arm_is_its_shipped_recipe_except_for_paths_seed_and_overrides(arm):
    wanted = load_recipe(shipped_recipe(f"vsrn_scenes{arm.ending}.yaml"), ["run.seed=7", *arm.overrides]).model_dump()
    wanted["run"]["dir"], wanted["data"]["features"], wanted["data"]["vocab"] = "folder", "features", "text"
    assert recipe_of(arm).model_dump() == wanted


def test_ablations_disable_what_their_labels_say():
    switches = {
        arm.label: (
            recipe.selfalign.context_embedding,
            recipe.loss.concept.enabled,
            recipe.loss.context.enabled,
            recipe.selfalign.enabled,
        )
        for arm in ABLATIONS
        for recipe in [recipe_of(arm)]
    }
    assert switches == {
        "context embedding alone": (True, False, False, True),
        "without concept loss": (True, False, True, True),
        "without context loss": (True, True, False, True),
        "without context embedding": (False, True, True, True),
    }


def test_a_shorter_demo_shortens_every_schedule():
    """Half of 10 epochs, decay after 7, warm-up of 5: 5, round(3.5) = 4, ceil(2.5) = 3."""
    recipe = load_recipe(
        shipped_recipe("vsrn_scenes.yaml"),
        ["optim.epochs=10", "optim.decay_every=7", "loss.ranking.warmup_epochs=5"],
    )
    assert shortened(recipe, Fraction(1, 2)) == [
        "optim.epochs=5",
        "optim.decay_every=4",
        "loss.ranking.warmup_epochs=3",
    ]
    assert shortened(recipe, Fraction(1, 100))[0] == "optim.epochs=1"


def test_training_time_excludes_validation_and_sums_the_parts_of_a_run(tmp_path):
    """Steps 2 s and 3 s, validation 4 s (left out), then a second part with its own clock, 1 s."""
    lines = [("train", 2.0), ("train", 5.0), ("validation", 9.0), ("train", 1.0)]
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(json.dumps({"kind": kind, "seconds": seconds}) + "\n" for kind, seconds in lines))
    assert training_seconds(log) == pytest.approx(6.0)


def made_up(rsums: dict[str, list[float]]) -> DemoResult:
    """A result with these rsums per arm, one per seed."""
    results = [
        ArmResult(
            arm, 1024 + seed, 10, 9, 0.0, 60.0, {**dict.fromkeys(METRICS, 0.0), "rsum": rsum}, "r", "s", "c", "e"
        )
        for arm in ARMS
        for seed, rsum in enumerate(rsums[arm.name])
    ]
    return DemoResult(Path("out"), "vsrn", ARMS, tuple(results), {"threads": 2})


def test_seeds_are_paired():
    """Differences 10, 20, 30: mean 20, sd 10, 95% interval 20 ± 4.3027 · 10 / √3 = 20 ± 24.84."""
    result = made_up(
        {"baseline": [100.0, 200.0, 300.0], "selfalign": [110.0, 220.0, 330.0], "baseline_equal_time": [0.0, 0.0, 0.0]}
    )
    found = next(part for part in result.differences() if part.metric == "rsum")
    assert (found.contrast.arm, found.mean, found.sd) == (SELFALIGN, 20.0, 10.0)
    assert (found.low, found.high) == pytest.approx((-4.84, 44.84), abs=0.01)
    assert found.cell == "+20.0 [-4.8, +44.8]"
    assert result.rows()[0][HEADER.index("rsum")] == "200.0 ±100.0"


def test_one_seed_has_no_interval_and_says_so():
    result = made_up({"baseline": [3.0], "selfalign": [2.0], "baseline_equal_time": [1.0]})
    assert [row[-1] for row in result.difference_rows()] == ["-1.0", "+1.0"]
    assert result.notes()[-1].startswith("one seed: repeat with --seeds")
    assert all(part.to_json()["low"] is None for part in result.differences())
