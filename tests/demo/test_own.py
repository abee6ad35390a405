"""The demo on a user's own pictures: what is found, made, said and refused; regions without weights, one epoch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.demo_view import Watcher
from typer.testing import CliRunner

from selfalign_cli.cli import demo as command
from selfalign_cli.cli.app import app
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.demo import own
from selfalign_cli.demo.arms import SELFALIGN, arm_recipe
from selfalign_cli.demo.run import Demo, run_demo
from selfalign_cli.errors import DataError
from selfalign_cli.recipe.load import load_recipe
from selfalign_cli.search.index import Index

PICTURES = 12


@pytest.fixture(autouse=True)
def _no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without the extras, whatever is installed here."""
    with_nothing(monkeypatch)


def with_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(own, "is_installed", lambda: False)
    patch.setattr(own, "MINILM", "no_such_package_of_ours")


def draw_pictures(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    for number in range(PICTURES):
        path = folder / f"{'trip/' if number % 2 else ''}{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(path)
    return folder


def entries(**more: str) -> list[dict[str, object]]:
    names = [f"{'trip/' if number % 2 else ''}{number}.png" for number in range(PICTURES)]
    return [
        {"image": name, "captions": ["a picture of noise", f"a picture {n}"], **more} for n, name in enumerate(names)
    ]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures with captions.json among them, and one file that is no picture and has captions."""
    folder = draw_pictures(tmp_path_factory.mktemp("photos"))
    lost = {"image": "broken.jpg", "captions": ["a picture that is lost"]}
    (folder / "captions.json").write_text(json.dumps([*entries(), lost]))
    (folder / "broken.jpg").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Demo, Watcher]]:
    asked = Demo(tmp_path_factory.mktemp("own") / "out", pictures=photos, epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        with_nothing(patch)
        watcher = Watcher()
        run_demo(asked, watcher)
    return asked, watcher


def test_everything_is_made_of_a_folder_of_pictures(finished: tuple[Demo, Watcher]) -> None:
    asked, watcher = finished
    file = FeatureFile(asked.out / "data/own.h5")
    assert {split: len(file.split_images(split)) for split in file.facts.splits} == {"train": 10, "dev": 1, "test": 1}
    assert {path.name for path in (asked.out / "runs").iterdir()} == {"baseline-1024", "selfalign-1024"}
    document = json.loads((asked.out / "results/demo.json").read_text())
    assert [arm["recipe"] for arm in document["arms"]] == ["vsrn_own_baseline.yaml", "vsrn_own.yaml"]
    assert {part["arm"] for part in document["differences"]} == {"selfalign"}
    said = "\n".join(watcher.stages)
    assert "1 pictures with captions are among those that could not be read" in said
    for words in (
        "no vision model is installed",
        "broken.jpg",
        "dealt out by a fixed seed",
        "words of dev are unknown",
    ):
        assert words in said


def test_the_recipe_is_the_shipped_one_with_the_width_of_the_features(finished: tuple[Demo, Watcher]) -> None:
    asked, _ = finished
    kept = load_recipe(asked.out / "runs/selfalign-1024/recipe.yaml")
    assert (kept.model.embed_dim, kept.loss.captioning.hidden_dim) == (128, 128)
    assert (kept.optim.epochs, kept.optim.decay_every, kept.loss.ranking.warmup_epochs) == (1, 1, 1)


def test_again_it_reads_no_picture_and_trains_nothing(finished: tuple[Demo, Watcher]) -> None:
    asked, _ = finished
    before = (asked.out / "data/own.h5").stat().st_mtime_ns
    watcher = Watcher()
    run_demo(asked, watcher)
    assert watcher.left == [0, 0]
    assert (asked.out / "data/own.h5").stat().st_mtime_ns == before


def test_a_model_that_is_installed_later_is_another_demo(finished: tuple[Demo, Watcher], monkeypatch) -> None:
    monkeypatch.setattr(own, "is_installed", lambda: True)
    with pytest.raises(DataError, match="backbone weightless, not DINOv2-small"):
        run_demo(finished[0], Watcher())


def test_other_pictures_are_another_demo(finished: tuple[Demo, Watcher], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds a demo of another kind: pictures .*; captions "):
        run_demo(replace(finished[0], pictures=draw_pictures(tmp_path)), Watcher())


def test_the_command_names_what_comes_next(finished: tuple[Demo, Watcher], photos: Path, monkeypatch) -> None:
    monkeypatch.setattr(command, "QUICK_EPOCHS", 1)
    out = finished[0].out
    done = CliRunner().invoke(app, ["demo", "--quick", "--pictures", str(photos), "--out", str(out)])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"vsrn on {photos}, one seed")
    assert [line.split() for line in done.stdout.splitlines()[-2:]] == [
        ["open", f"{out}/report.html"],
        ["serve", "selfalign", "serve", f"{out}/index"],
    ]
    index = Index.open(out / "index")
    assert len(index) == PICTURES
    assert index.picture(0).path is not None
    assert "recalls of 1 test pictures say little" in done.stderr


def test_without_captions_the_pictures_are_extracted(tmp_path: Path) -> None:
    photos, out = draw_pictures(tmp_path / "photos"), tmp_path / "out"
    done = CliRunner().invoke(app, ["demo", "--pictures", str(photos), "--out", str(out)])
    assert done.exit_code == 0, done.stderr
    assert "nothing was trained" in done.stderr
    assert f"selfalign demo --pictures {photos} --captions FILE" in done.stdout
    assert f"selfalign index CKPT --data {out}/data/own.h5" in done.stdout
    assert len(FeatureFile(out / "data/own.h5").split_images("test")) == PICTURES
    assert not (out / "runs").exists()


def test_captions_without_pictures_are_refused() -> None:
    done = CliRunner().invoke(app, ["demo", "--captions", "c.json"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--captions are those of --pictures" in done.stderr


def test_captions_are_found_in_files_and_beside_pictures(tmp_path: Path) -> None:
    draw_pictures(tmp_path)
    assert own.find_captions(tmp_path) is None
    (tmp_path / "0.txt").write_text("a caption\n")
    assert own.find_captions(tmp_path) == tmp_path
    (tmp_path / "dataset_mine.json").write_text("[]")
    assert own.find_captions(tmp_path) == tmp_path / "dataset_mine.json"
    (tmp_path / "captions.json").write_text("[]")
    with pytest.raises(DataError, match=r"holds captions\.json, dataset_mine\.json") as caught:
        own.find_captions(tmp_path)
    assert caught.value.hint == "name the captions with --captions"


def test_splits_are_checked_before_any_picture_is_read(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(entries(split="train")))
    asked = Demo(tmp_path / "out", pictures=draw_pictures(tmp_path / "photos"), captions=tmp_path / "c.json")
    watcher = Watcher()
    with pytest.raises(DataError, match="has the splits train; the demo needs dev, test too"):
        run_demo(asked, watcher)
    assert watcher.stages == []


def test_camera_trains_a_bert_where_no_pretrained_one_is(finished: tuple[Demo, Watcher], tmp_path: Path) -> None:
    watcher = Watcher()
    (tmp_path / "own.h5").symlink_to(finished[0].out / "data/own.h5")
    world = own.make_own_world(tmp_path, tmp_path, tmp_path, model="camera", view=watcher)
    assert world.text == tmp_path / "own_bert"
    assert (world.text / "model.safetensors").is_file()
    assert any("no pretrained BERT is installed" in text for text in watcher.stages)
    arm = replace(SELFALIGN, overrides=world.overrides)
    recipe = arm_recipe(
        arm, "camera", seed=1, folder=tmp_path, features=world.features, text=world.text, data="own", epochs=2
    )
    assert (recipe.model.finetune, recipe.data.cache_words, recipe.optim.decay_every) == (True, False, 2)
