"""Checkpoints of the released programs: imported, scored and exported, with the numbers those programs recorded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from support.golden import difference, golden_root, settings, skip_where_left_out, tensors
from support.margins import smallest_margin
from torch import Tensor
from typer.testing import CliRunner

from selfalign_cli.assembly.checkpoint import Checkpoint, load_checkpoint
from selfalign_cli.cli.app import app
from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.metrics.report import RetrievalReport
from selfalign_cli.published.checkpoint import read_published_checkpoint
from selfalign_cli.published.importing import ImportSources, import_checkpoint
from selfalign_cli.published.options import host_of_options
from selfalign_cli.scoring.embed import EncodingOptions
from selfalign_cli.scoring.evaluate import score_files
from selfalign_cli.scoring.export import export_embeddings
from selfalign_cli.similarity import similarity

LEGACY = golden_root() / "legacy"
EMBEDDING_TOLERANCE = 2e-5
NUMBERS = {"r1": "r1", "r5": "r5", "r10": "r10", "medr": "median_rank", "meanr": "mean_rank"}


@dataclass(frozen=True)
class Case:
    """One recorded model, and a checkpoint file of it."""

    name: str
    file: Path

    def __str__(self) -> str:
        return f"{self.name}-{self.file.name.split('.')[0]}"

    @property
    def numbers(self) -> Any:
        return settings(LEGACY / "expected" / f"{self.name}.json")

    @property
    def vectors(self) -> dict[str, Tensor]:
        return recorded(self.name)

    @property
    def second(self) -> list[Path]:
        """The files of the second model that was recorded with this one."""
        return sorted((LEGACY / f"{self.name}_b").glob("model_best*.pth*")) if "model_b" in self.numbers else []


@cache
def recorded(name: str) -> dict[str, Tensor]:
    return tensors(LEGACY / "expected" / f"{name}.safetensors")


def cases() -> list[Case]:
    """Every checkpoint file of every model with recorded results."""
    names = sorted(path.stem for path in (LEGACY / "expected").glob("*.safetensors"))
    return [
        Case(name, file)
        for name in names
        if (LEGACY / "expected" / f"{name}.json").exists()
        for file in sorted((LEGACY / name).glob("model_best*.pth*"))
    ]


CASES = cases()
VSRN_CASES = [case for case in CASES if host_of_options(case.numbers["checkpoint"]["opt"]) == "vsrn"]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def runs(case: Case) -> dict[str, int]:
    """Recorded single-model evaluations, e.g. `testdup_bs32`, and their batch sizes."""
    found = {name: entry["batch_size"] for name, entry in case.numbers.items() if "_bs" in name}
    assert found
    return found


def usual_batch(case: Case) -> int:
    """The batch size behind folds, second model and ensemble: the training one, the largest recorded."""
    return max(runs(case).values())


def options_of(file: Path) -> list[str]:
    """Options of import-checkpoint that a file needs."""
    host = read_published_checkpoint(file).host
    if host == "camera":
        return ["--bert", str(LEGACY / "bert")]
    if host == "vse_infty_bert":
        return ["--bert", str(LEGACY / "bert_long")]
    pickle = next(path for path in sorted((LEGACY / "vocab").iterdir()) if path.suffix == ".pkl")
    return ["--vocab", str(pickle), "--tokenizer", "treebank-line"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("legacy")


@pytest.fixture(scope="module")
def features(folder: Path) -> Path:
    sources = [path for path in sorted((LEGACY / "data").iterdir()) if path.is_dir()]
    convert_to_feature_file(sources, folder / "features.h5")
    return folder / "features.h5"


@pytest.fixture(scope="module")
def imported(folder: Path):
    """Import a file once, through the command line."""
    done: dict[Path, Path] = {}

    def import_once(file: Path) -> Path:
        if file not in done:
            out = folder / f"{file.parent.name}-{file.name.split('.')[0]}.ckpt"
            command = ["import-checkpoint", str(file), "--out", str(out), *options_of(file)]
            result = CliRunner().invoke(app, command)
            assert result.exit_code == 0, result.output
            done[file] = out
        return done[file]

    return import_once


def assert_ranks(report: RetrievalReport, found: dict[str, Tensor], name: str) -> None:
    for key, value in (
        ("i2t_ranks", report.ranks.i2t_rank),
        ("t2i_ranks", report.ranks.t2i_rank),
        ("i2t_top1", report.ranks.i2t_top1),
        ("t2i_top1", report.ranks.t2i_top1),
    ):
        assert torch.equal(value, found[f"{name}.{key}"].long()), f"{name}.{key}"


def assert_numbers(document: Any, expected: Any) -> None:
    for direction in ("i2t", "t2i"):
        for theirs, ours in NUMBERS.items():
            assert document[direction][ours] == pytest.approx(expected[direction][theirs], abs=1e-9)
    assert document["rsum"] == pytest.approx(expected["rsum"], abs=1e-9)


@every_case
def test_golden_evaluation(case: Case, imported, features: Path) -> None:
    for name, batch_size in runs(case).items():
        split = name.split("_bs")[0]
        report = score_files([imported(case.file)], EncodingOptions(split, features, batch_size)).report
        assert_ranks(report, case.vectors, name)
        assert_numbers(report.to_json(), case.numbers[name])


@every_case
def test_golden_embeddings(case: Case, imported, features: Path, folder: Path) -> None:
    checked = 0
    for name, batch_size in runs(case).items():
        if f"{name}.images" in case.vectors:
            out = folder / f"{case}-{name}.h5"
            export_embeddings(imported(case.file), out, EncodingOptions(name.split("_bs")[0], features, batch_size))
            with h5py.File(out) as file:
                images, captions = (torch.from_numpy(np.asarray(file[part])) for part in ("image", "caption"))
            expected = case.vectors[f"{name}.images"]
            assert difference(images.reshape(expected.shape), expected) <= EMBEDDING_TOLERANCE
            assert difference(captions, case.vectors[f"{name}.captions"]) <= EMBEDDING_TOLERANCE
            checked += 1
    assert checked


@every_case
def test_golden_command_line_at_the_training_batch_size(case: Case, imported, features: Path) -> None:
    """without --batch-size, as done with nothing but the checkpoint"""
    result = CliRunner().invoke(app, ["eval", str(imported(case.file)), "--data", str(features), "--json"])
    assert result.exit_code == 0, result.output
    batch_size = case.numbers["checkpoint"]["opt"]["batch_size"]
    document = json.loads(result.stdout)
    assert document["checkpoints"] == [str(imported(case.file))]
    recorded_runs = [name for name, size in runs(case).items() if name.startswith("test_") and size == batch_size]
    assert recorded_runs
    for name in recorded_runs:
        assert_numbers(document, case.numbers[name])


@every_case
def test_golden_folds(case: Case, imported, features: Path) -> None:
    expected = case.numbers["five_folds"]
    count = len(expected["folds"])
    report = score_files(
        [imported(case.file)], EncodingOptions(data=features, batch_size=usual_batch(case)), folds=count
    ).report
    document = report.to_json()
    assert_numbers(document, expected["mean"])
    per_image = len(report.ranks.t2i_rank) // len(report.ranks.i2t_rank)
    size = expected["images_per_fold"]
    for fold, numbers in enumerate(expected["folds"]):
        assert_numbers(document["per_fold"][fold], numbers)  # type: ignore[index]
        images, captions = fold * size, fold * size * per_image
        found = report.ranks.i2t_rank[images : images + size], report.ranks.t2i_rank[captions:][: size * per_image]
        assert torch.equal(found[0], case.vectors[f"fold{fold}.i2t_ranks"].long())
        assert torch.equal(found[1], case.vectors[f"fold{fold}.t2i_ranks"].long())
        first = report.ranks.i2t_top1[images : images + size] - captions, report.ranks.t2i_top1[captions:]
        assert torch.equal(first[0], case.vectors[f"fold{fold}.i2t_top1"].long())
        assert torch.equal(first[1][: size * per_image] - images, case.vectors[f"fold{fold}.t2i_top1"].long())


@every_case
def test_golden_second_model_and_ensemble(case: Case, imported, features: Path) -> None:
    assert bool(case.second) == ("model_b" in case.numbers)
    for file in case.second:
        pair = [imported(case.file), imported(file)]
        for name, paths in (("model_b", pair[1:]), ("ensemble", pair)):
            report = score_files(paths, EncodingOptions(data=features, batch_size=usual_batch(case))).report
            assert_ranks(report, case.vectors, name)
            assert_numbers(report.to_json(), case.numbers[name])


def test_golden_ensemble_of_two_hosts(imported, features: Path) -> None:
    """VSE∞ with BERT and with BiGRU: the mean of their scores."""
    seen = 0
    for case in CASES:
        if "ensemble_with_bigru" in case.numbers:
            other = next(one.file for one in CASES if one.name == case.name.replace("bert", "bigru"))
            paths = [imported(case.file), imported(other)]
            report = score_files(paths, EncodingOptions(data=features, batch_size=usual_batch(case))).report
            assert_ranks(report, case.vectors, "ensemble_with_bigru")
            assert_numbers(report.to_json(), case.numbers["ensemble_with_bigru"])
            seen += 1
    if not seen:
        skip_where_left_out("legacy/expected/vse_infty_region_bert.json")


@every_case
def test_golden_corrected_scores_do_not_depend_on_the_batch(case: Case, imported, features: Path) -> None:
    """scores differ by rounding, which is less than it takes to change a rank; so ranks are equal"""
    one, many = (
        score_files([imported(case.file)], EncodingOptions(None, features, size, "corrected"))
        for size in (1, usual_batch(case))
    )
    scores, others = (similarity(found.names.images, found.names.captions) for found in (one, many))
    margin = smallest_margin(scores, one.names.image_of_caption)
    assert difference(scores, others) < margin / 2
    assert torch.equal(one.report.ranks.i2t_rank, many.report.ranks.i2t_rank)
    assert torch.equal(one.report.ranks.t2i_rank, many.report.ranks.t2i_rank)
    assert one.report.rsum == many.report.rsum


@pytest.mark.parametrize("case", VSRN_CASES, ids=str)
@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_golden_corrected_is_the_published_program_at_batch_size_one(
    case: Case, batch_size: int, imported, features: Path
) -> None:
    name = next(name for name, size in runs(case).items() if name.startswith("test_") and size == 1)
    report = score_files([imported(case.file)], EncodingOptions(None, features, batch_size, "corrected")).report
    assert_ranks(report, case.vectors, name)
    assert_numbers(report.to_json(), case.numbers[name])


@every_case
def test_golden_facts_of_the_checkpoint(case: Case, imported) -> None:
    expected, found = case.numbers["checkpoint"], load_checkpoint(imported(case.file))
    assert (found.epoch, found.step) == (expected["epoch"], expected["Eiters"])
    assert found.scores == {found.recipe.validation.select_by: expected["best_rsum"]}
    assert found.recipe.validation.select_by == ("rsum" if "image.pool.linear.weight" in found.model else "r1+r5")
    assert found.recipe.compat == "published"
    assert found.recipe.data.batch_size == expected["opt"]["batch_size"]
    assert found.recipe.selfalign.enabled == (len(expected["entries"]) == 3)
    assert found.training is None


@pytest.mark.parametrize("name", sorted({case.name for case in CASES}))
def test_golden_serialisations_hold_the_same_model(name: str, imported) -> None:
    """zip, older and Python 2 files of one model"""
    first, *others = [load_checkpoint(imported(case.file)) for case in CASES if case.name == name]
    for other in others:
        assert_same_model(first, other)


def test_golden_forms_of_the_vocabulary_are_one(tmp_path: Path) -> None:
    file = VSRN_CASES[0].file
    found = []
    for path in sorted((LEGACY / "vocab").iterdir()):
        sources = ImportSources(vocab=path, tokenizer="treebank-line")
        found.append(import_checkpoint(file, tmp_path / f"{path.stem}{path.suffix}.ckpt", sources).checkpoint)
    assert len(found) > 1
    for other in found[1:]:
        assert_same_model(found[0], other)


def assert_same_model(one: Checkpoint, other: Checkpoint) -> None:
    assert one.recipe == other.recipe
    assert one.data["text_hash"] == other.data["text_hash"]
    assert one.model.keys() == other.model.keys()
    assert all(torch.equal(value, other.model[name]) for name, value in one.model.items())
