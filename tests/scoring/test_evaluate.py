"""`eval`: what it prints, and that checkpoints, exported files and ensembles are scored alike."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.processes import Forks
from support.world import World, changed_recipe, lines_of, opened

RECALLS = ("r1", "r5", "r10")
DIRECTION = {*RECALLS, "median_rank", "mean_rank"}


def scored(forks: Forks, cwd: Path, *arguments: object) -> dict[str, Any]:
    """The one JSON document on stdout."""
    done = forks.run("eval", *arguments, "--json", cwd=cwd)
    assert done.code == 0, done.err
    return json.loads(done.out)


def parts_of(signature: str) -> dict[str, str]:
    return dict(part.split(":", 1) for part in signature.split("|"))


def test_the_json_document(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    """24 train pictures: 20 of test, five captions each."""
    found = scored(forks, tmp_path, unbroken / "best.ckpt")
    assert {"split", "images", "captions", "folds", "i2t", "t2i", "rsum", "signature", "checkpoints"} <= set(found)
    assert (found["split"], found["images"], found["captions"], found["folds"]) == ("test", 20, 100, 1)
    assert found["checkpoints"] == [str(unbroken / "best.ckpt")]
    for direction in ("i2t", "t2i"):
        assert set(found[direction]) >= DIRECTION
        assert 0 <= found[direction]["r1"] <= found[direction]["r5"] <= found[direction]["r10"] <= 100
        assert found[direction]["mean_rank"] >= 1
    assert found["rsum"] == pytest.approx(
        sum(found[direction][name] for direction in ("i2t", "t2i") for name in RECALLS)
    )
    assert [(set(fold) >= {"i2t", "t2i", "rsum"}, fold["rsum"]) for fold in found["per_fold"]] == [
        (True, found["rsum"])
    ]
    signature = parts_of(found["signature"])
    assert signature.items() >= {"split": "test", "folds": "1", "compat": "corrected", "ties": "worst"}.items()
    assert "batch" not in signature


def test_best_is_scored_as_training_scored_it(forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    best = opened(unbroken / "best.ckpt")
    (line,) = [line for line in lines_of(unbroken) if (line["kind"], line["step"]) == ("validation", best["step"])]
    found = scored(forks, tmp_path, unbroken / "best.ckpt", "--split", "dev")
    assert found["rsum"] == line["rsum"] == best["scores"]["rsum"]
    assert {
        f"{direction}_{name}": found[direction][name] for direction in ("i2t", "t2i") for name in DIRECTION
    }.items() <= line.items()


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_exported_files_are_scored_as_their_checkpoint(
    forks: Forks, unbroken: Path, tmp_path: Path, suffix: str
) -> None:
    command = "export-embeddings", unbroken / "best.ckpt", "--out", f"e{suffix}"
    assert forks.run(*command, cwd=tmp_path).code == 0
    from_file = scored(forks, tmp_path, f"e{suffix}", "--ranks")
    from_checkpoint = scored(forks, tmp_path, unbroken / "best.ckpt", "--ranks")
    assert from_file["ranks"] == from_checkpoint["ranks"]
    assert from_file["signature"] == from_checkpoint["signature"]
    assert from_file["queries"] == from_checkpoint["queries"]


def test_an_ensemble(forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    """Of a model and itself: the model. Of two models: neither."""
    best, last = unbroken / "best.ckpt", unbroken / "last.ckpt"
    alone, twice = scored(forks, tmp_path, best, "--ranks"), scored(forks, tmp_path, best, best, "--ranks")
    assert twice["ranks"] == alone["ranks"]
    assert twice["checkpoints"] == [str(best), str(best)]
    both = scored(forks, tmp_path, best, last)
    assert (both["captions"], len(both["checkpoints"])) == (100, 2)


def test_an_ensemble_over_other_queries_is_refused(forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    command = "export-embeddings", unbroken / "best.ckpt", "--split", "dev", "--out", "dev.h5"
    assert forks.run(*command, cwd=tmp_path).code == 0
    forks.run("eval", unbroken / "best.ckpt", "dev.h5", cwd=tmp_path).must_refuse("about other pictures or captions")


def test_folds(forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    """Four folds of five pictures; the top level is their mean."""
    found = scored(forks, tmp_path, unbroken / "best.ckpt", "--folds", 4)
    assert (found["folds"], len(found["per_fold"]), found["images"], found["captions"]) == (4, 4, 20, 100)
    assert found["rsum"] == pytest.approx(sum(fold["rsum"] for fold in found["per_fold"]) / 4)
    assert found["i2t"]["r1"] == pytest.approx(sum(fold["i2t"]["r1"] for fold in found["per_fold"]) / 4)
    assert parts_of(found["signature"])["folds"] == "4"


def test_without_a_file_the_newest_best_checkpoint_is_taken(forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    for age, name in enumerate(("new", "old")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        copied = shutil.copy(unbroken / "best.ckpt", tmp_path / "runs" / name)
        os.utime(copied, (10**9 - age, 10**9 - age))
    done = forks.run("eval", "--json", cwd=tmp_path)
    assert "taking runs/new/best.ckpt" in done.err
    assert json.loads(done.out)["checkpoints"] == ["runs/new/best.ckpt"]


def test_published_scores_depend_on_the_batch_and_say_so(forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    published = unbroken / "best.ckpt", "--compat", "published"
    found = scored(forks, tmp_path, *published)
    assert parts_of(found["signature"]).items() >= {"compat": "published+lowercase", "batch": "50"}.items()
    other = scored(forks, tmp_path, *published, "--batch-size", 7)
    assert parts_of(other["signature"])["batch"] == "7"


def test_the_dev_limit_counts_captions(world: World, forks: Forks, tmp_path: Path) -> None:
    """Of 100 dev captions the first 12, of the first three pictures; the test split stays whole."""
    recipe = changed_recipe(world, tmp_path / "tiny.yaml", data={"dev_limit": 12}, optim={"epochs": 1})
    assert forks.run("train", recipe, cwd=tmp_path).code == 0
    dev = scored(forks, tmp_path, "run/best.ckpt", "--split", "dev")
    assert (dev["images"], dev["captions"]) == (3, 12)
    assert dev["rsum"] == opened(tmp_path / "run/best.ckpt")["scores"]["rsum"]
    assert scored(forks, tmp_path, "run/best.ckpt")["captions"] == 100


def test_signatures_of_different_models_differ(forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    """Also those of one recipe, and how often each is in an ensemble; of other programs' vectors, the vectors."""
    one, two = unbroken / "best.ckpt", tmp_path / "other.ckpt"
    content = opened(one)
    content["model"]["image.fc.bias"][0] += 0.5
    torch.save(content, two)

    def model(*files: Path) -> str:
        return parts_of(scored(forks, tmp_path, *files)["signature"])["model"]

    first, second = model(one), model(two)
    assert first != second
    assert model(one, two, one) == f"{first}+{second}+{first}"
    for name, shift in (("a.npz", 0), ("b.npz", 1)):
        vectors = np.eye(3, 4, dtype=np.float32) + shift
        np.savez(tmp_path / name, image=vectors, caption=vectors, image_of_caption=np.arange(3))
    assert model(tmp_path / "a.npz") != model(tmp_path / "b.npz")
