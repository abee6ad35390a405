"""What a run folder holds, when a run may be taken up again, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from support.processes import Forks
from support.world import World, changed_recipe, differences, metrics_of, opened, write_other_features

from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.text.captions import read_vocabulary_captions
from selfalign_cli.data.text.vocab import Vocabulary, build_vocabulary
from selfalign_cli.recipe.load import load_recipe
from selfalign_cli.recipe.schema import Recipe
from selfalign_cli.training.run_folder import FREE_KEYS


@pytest.fixture
def begun(world: World, unbroken: Path, tmp_path: Path) -> Path:
    """A folder with a copy of the finished run."""
    shutil.copytree(unbroken, tmp_path / "run")
    return tmp_path


def test_the_recipe_is_there_twice_and_equal(world: World, unbroken: Path) -> None:
    recipe = load_recipe(world.recipe)
    assert load_recipe(unbroken / "recipe.yaml") == recipe
    for name in ("best.ckpt", "last.ckpt"):
        assert Recipe.model_validate(opened(unbroken / name)["recipe"]) == recipe


def test_the_environment_names_versions_and_hashes(world: World, unbroken: Path) -> None:
    facts = json.loads((unbroken / "environment.json").read_text())
    assert facts["torch"] == torch.__version__
    assert {"selfalign", "python", "numpy"} <= set(facts)
    assert facts["data_hash"] == FeatureFile(world.features).content_hash
    assert facts["text_hash"] == Vocabulary.load(world.vocab).content_hash


def test_nothing_half_written_is_left(unbroken: Path) -> None:
    assert sorted(path.name for path in unbroken.iterdir()) == [
        "best.ckpt",
        "environment.json",
        "last.ckpt",
        "metrics.jsonl",
        "recipe.yaml",
    ]


def test_tensorboard_shows_what_the_log_says(world: World, forks: Forks, tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    recipe = changed_recipe(world, tmp_path / "tiny.yaml", run={"tensorboard": True})
    done = forks.run("train", recipe, "--set", "optim.epochs=1", cwd=tmp_path)
    assert done.code == 0, done.err
    (file,) = (tmp_path / "run/tensorboard").iterdir()
    shown = {
        (value.tag, event.step): round(value.tensor.float_val[0], 3)
        for event in loader.EventFileLoader(str(file)).Load()
        for value in event.summary.value
    }
    expected = {
        (f"{line['kind']}/{name}", line["step"]): round(value, 3)
        for line in metrics_of(tmp_path / "run")
        for name, value in line.items()
        if name not in ("kind", "step", "epoch")
    }
    assert shown.keys() == expected.keys()
    assert all(abs(shown[key] - expected[key]) < 0.01 for key in shown)


def test_a_run_is_not_overwritten(world: World, forks: Forks, begun: Path) -> None:
    done = forks.run("train", world.recipe, cwd=begun)
    done.must_refuse("run holds a run already (last.ckpt)", "hint: continue it with --resume", "run.dir=run-2")


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_best_model_without_its_run_is_not_overwritten(
    world: World, forks: Forks, begun: Path, unbroken: Path, resume: list[str]
) -> None:
    (begun / "run/last.ckpt").unlink()
    forks.run("train", world.recipe, *resume, cwd=begun).must_refuse("best.ckpt", "hint: move that away")
    assert (begun / "run/best.ckpt").read_bytes() == (unbroken / "best.ckpt").read_bytes()


def test_a_resume_with_another_recipe_names_every_changed_key(world: World, forks: Forks, begun: Path) -> None:
    changes = ["run.seed=8", "optim.learning_rate=0.1", "loss.concept.prototypes=9", "data.batch_size=10"]
    options = [part for change in changes for part in ("--set", change)]
    done = forks.run("train", world.recipe, "--resume", *options, cwd=begun)
    done.must_refuse(
        "these keys change the mathematics",
        "run.seed: was 7, now 8",
        "optim.learning_rate: was 0.003, now 0.1",
        "loss.concept.prototypes: was 8, now 9",
        "data.batch_size: was 22, now 10",
    )


def test_a_resume_may_change_what_changes_no_number(
    world: World, forks: Forks, unbroken: Path, tmp_path: Path
) -> None:
    """Data elsewhere, another log, other workers, more epochs: the weights are those of the unbroken run."""
    assert forks.run("train", world.recipe, "--set", "optim.epochs=1", cwd=tmp_path).code == 0
    shutil.copy(world.features, tmp_path / "moved.h5")
    shutil.copy(world.vocab, tmp_path / "moved.json")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    recipe = changed_recipe(
        world,
        tmp_path / "tiny.yaml",
        run={"dir": "elsewhere", "log_every": 1, "save_every": 1},
        data={"workers": 1, "features": "moved.h5", "vocab": "moved.json"},
    )
    done = forks.run("train", recipe, "--resume", cwd=tmp_path)
    assert done.code == 0, done.err
    assert [line for line in done.err.splitlines() if line.startswith("resuming with another ")] == [
        f"resuming with another {change}"
        for change in (
            f"data.features: was '{world.features}', now 'moved.h5'",
            f"data.vocab: was '{world.vocab}', now 'moved.json'",
            "data.workers: was 0, now 1",
            "optim.epochs: was 1, now 2",
            "run.dir: was 'run', now 'elsewhere'",
            "run.log_every: was 2, now 1",
            "run.save_every: was 2, now 1",
        )
    ]
    resumed, expected = opened(tmp_path / "elsewhere/last.ckpt"), opened(unbroken / "last.ckpt")
    assert not differences(resumed["model"], expected["model"])
    assert load_recipe(tmp_path / "elsewhere/recipe.yaml") == load_recipe(recipe)
    assert resumed["data"]["features"] == str(tmp_path / "moved.h5")


def test_the_keys_that_may_change_exist(world: World) -> None:
    tree = load_recipe(world.recipe).model_dump()
    for key in FREE_KEYS - {"model.bert"}:
        section, name = key.split(".")
        assert name in tree[section]


def test_a_resume_with_other_features_is_refused(world: World, forks: Forks, begun: Path) -> None:
    write_other_features(begun / "other.h5", width=FeatureFile(world.features).feature_dim)
    done = forks.run("train", world.recipe, "--resume", "--set", "data.features=other.h5", cwd=begun)
    done.must_refuse("--resume with other features", FeatureFile(world.features).content_hash[:12])


def test_a_resume_with_another_vocabulary_is_refused(world: World, forks: Forks, begun: Path) -> None:
    build_vocabulary(read_vocabulary_captions(world.features), min_count=3).save(begun / "other.json")
    done = forks.run("train", world.recipe, "--resume", "--set", "data.vocab=other.json", cwd=begun)
    done.must_refuse("--resume with other vocabulary", Vocabulary.load(world.vocab).content_hash[:12])


def test_a_model_alone_cannot_be_resumed(world: World, forks: Forks, begun: Path) -> None:
    shutil.copy(begun / "run/best.ckpt", begun / "run/last.ckpt")
    forks.run("train", world.recipe, "--resume", cwd=begun).must_refuse("holds a model only, no training state")


def test_a_log_that_lost_its_end_is_refused(world: World, forks: Forks, begun: Path) -> None:
    log = begun / "run/metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-5])
    forks.run("train", world.recipe, "--resume", cwd=begun).must_refuse("its checkpoint knows", code=1)
    assert log.read_bytes()
