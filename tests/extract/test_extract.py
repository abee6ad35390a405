"""`selfalign extract`: pictures to a feature file, killed and taken up again, in shards, refused, and carried on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from signal import SIGKILL
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import torchrun
from support.processes import Done, Forks, at_call

from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.scoring.embeddings import read_embeddings

COUNT = 9
ADD = "selfalign_cli.extract.spool.SpoolPart.add"
WEIGHTLESS = ("--backbone", "weightless", "--area", "64", "--regions", "4")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of coloured noise in two folders, and one that is none; not to be written to."""
    folder = tmp_path_factory.mktemp("pictures") / "photos"
    (folder / "sub").mkdir(parents=True)
    for number in range(COUNT):
        random = np.random.default_rng(number)
        pixels = random.integers(0, 256, (4, 6, 3)).astype(np.uint8).repeat(10, axis=0).repeat(10, axis=1)
        Image.fromarray(pixels).save(folder / ("sub" if number % 2 else "") / f"{number}.png")
    (folder / "broken.jpg").write_text("no picture")
    captions = [
        {"image": f"{'sub/' if number % 2 else ''}{number}.png", "split": split, "captions": [f"a picture {number}"]}
        for number, split in enumerate(["train"] * 5 + ["dev"] * 2 + ["test"] * 2)
    ]
    (folder.parent / "captions.json").write_text(json.dumps(captions))
    return folder


def extract(forks: Forks, photos: Path, out: Path, *more: str, before: str = "") -> Done:
    return forks.run("extract", photos, "--out", out, *WEIGHTLESS, *more, cwd=out.parent, before=before)


@pytest.fixture(scope="module")
def unbroken(forks: Forks, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "f.h5"
    done = extract(forks, photos, out, "--captions", str(photos.parent / "captions.json"))
    assert done.code == 0, done.err
    assert "broken.jpg: it is not a picture of a known format" in done.err
    assert not out.with_name(".f.h5.parts").exists()
    return out


def test_what_the_file_holds(unbroken: Path, photos: Path) -> None:
    file = FeatureFile(unbroken)
    assert {split: len(rows) for split, rows in file.facts.splits.items()} == {"train": 5, "dev": 2, "test": 2}
    assert file.image_ids[:2] == ["0.png", "sub/1.png"]
    assert file.file_names == file.image_ids
    assert file.origin is not None
    assert file.origin.pictures == str(photos.resolve())
    assert file.origin.extractor["backbone"]["name"] == "weightless"
    for row in range(len(file)):
        boxes, scores = file.boxes(row), file.scores(row)
        assert boxes is not None
        assert scores is not None
        assert boxes[-1].tolist() == [0, 0, 60, 40]
        assert len(scores) == len(boxes) == len(file.regions(row)) >= 2
    assert file.labels(0) is None


def test_inspect_finds_no_fault_and_names_the_extractor(forks: Forks, unbroken: Path) -> None:
    done = forks.run("inspect", unbroken, "--json", cwd=unbroken.parent)
    assert done.code == 0, done.err
    assert "backbone weightless, area 64, 4 regions" in json.loads(done.out)["extractor"]


@pytest.mark.parametrize(("call", "after"), [(1, False), (3, True), (7, False), (COUNT, True)])
def test_killed_and_resumed_to_the_same_bytes(
    forks: Forks, photos: Path, unbroken: Path, tmp_path: Path, call: int, after: bool
) -> None:
    out = tmp_path / "f.h5"
    captions = ("--captions", str(photos.parent / "captions.json"))
    killed = extract(forks, photos, out, *captions, before=at_call(ADD, call, SIGKILL, after=after))
    assert killed.code == -SIGKILL
    assert not out.exists()
    refused = extract(forks, photos, out, *captions)
    assert refused.code == 2
    assert "holds an extraction that has not ended" in refused.err
    resumed = extract(forks, photos, out, *captions, "--resume", "--json")
    assert resumed.code == 0, resumed.err
    assert json.loads(resumed.out)["reused"] >= call - 1
    assert out.read_bytes() == unbroken.read_bytes()


def test_killed_once_the_file_has_its_name(forks: Forks, photos: Path, unbroken: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.h5"
    captions = ("--captions", str(photos.parent / "captions.json"))
    killed = extract(forks, photos, out, *captions, before=at_call("selfalign_cli.extract.run.end_spool", 1, SIGKILL))
    assert (killed.code, out.read_bytes() == unbroken.read_bytes()) == (-SIGKILL, True)
    resumed = extract(forks, photos, out, *captions, "--resume", "--json")
    assert resumed.code == 0, resumed.err
    found = json.loads(resumed.out)
    assert found["reused"] == found["pictures"]
    assert out.read_bytes() == unbroken.read_bytes()
    assert not out.with_name(".f.h5.parts").exists()
    assert extract(forks, photos, out, *captions, "--resume").code == 2  # it has ended


def test_a_line_that_was_cut_does_not_count(forks: Forks, photos: Path, unbroken: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.h5"
    extract(forks, photos, out, before=at_call(ADD, 4, SIGKILL))
    lines = out.with_name(".f.h5.parts") / "1-of-1.jsonl"
    lines.write_bytes(lines.read_bytes()[:-20])
    resumed = extract(forks, photos, out, "--captions", str(photos.parent / "captions.json"), "--resume")
    assert resumed.code == 0, resumed.err
    assert out.read_bytes() == unbroken.read_bytes()


def test_shards_joined_are_the_whole(forks: Forks, photos: Path, unbroken: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.h5"
    for number in (2, 1):
        done = extract(forks, photos, out, "--shard", f"{number}/2")
        assert done.code == 0, done.err
    parts = out.with_name(".f.h5.parts")
    done = forks.run(
        "convert-features", parts, "--captions", photos.parent / "captions.json", "--out", out, cwd=tmp_path
    )
    assert done.code == 0, done.err
    assert out.read_bytes() == unbroken.read_bytes()


def test_processes_of_torchrun_make_the_file_of_one(
    forks: Forks, photos: Path, unbroken: Path, tmp_path: Path
) -> None:
    """One of two is killed at its third picture; the launcher starts both again, and they go on."""
    out = tmp_path / "f.h5"
    killed = at_call(ADD, 3, SIGKILL)
    second_process = "os.environ['RANK'] == '1' and os.environ['TORCHELASTIC_RESTART_COUNT'] == '0'"
    once = f"import os\nif {second_process}:\n    exec({killed!r})"
    captions = ("--captions", photos.parent / "captions.json")
    done = torchrun.run(
        forks, "extract", photos, "--out", out, *WEIGHTLESS, *captions, "--json", cwd=tmp_path, before=once, restarts=1
    )
    assert done.code == 0, done.err
    assert done.out.count('"pictures"') == 1
    assert json.loads(done.out)["reused"] >= 1
    assert out.read_bytes() == unbroken.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["f.h5"]


def test_fewer_processes_go_on_with_what_more_began(
    forks: Forks, photos: Path, unbroken: Path, tmp_path: Path
) -> None:
    """Two shards, then one process: a picture that changed since counts as it is now, one that is gone no more."""
    own = shutil.copytree(photos, tmp_path / "photos")
    Image.new("RGB", (30, 30), "red").save(own / "0.png")
    Image.new("RGB", (30, 30), "red").save(own / "z.png")
    out = tmp_path / "f.h5"
    for number in (1, 2):
        assert extract(forks, own, out, "--shard", f"{number}/2").code == 0
    shutil.copy(photos / "0.png", own / "0.png")
    (own / "z.png").unlink()
    done = extract(forks, own, out, "--captions", str(photos.parent / "captions.json"), "--resume", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["reused"] == COUNT
    assert FeatureFile(out).content_hash == FeatureFile(unbroken).content_hash


def test_pictures_that_differ_by_their_suffix_meet_their_own_captions(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for suffix, colour in (("jpg", "red"), ("png", "blue")):
        Image.new("RGB", (30, 20), colour).save(tmp_path / "photos" / f"a.{suffix}")
    names = ["a.png", "a.jpg"]
    captions = [{"image": name, "split": "test", "captions": [f"this is {name}"]} for name in names]
    (tmp_path / "c.json").write_text(json.dumps(captions))
    done = extract(forks, tmp_path / "photos", tmp_path / "f.h5", "--captions", "c.json")
    assert done.code == 0, done.err
    file = FeatureFile(tmp_path / "f.h5")
    assert (file.image_ids, file.captions) == (names, [f"this is {name}" for name in names])


def test_a_changed_picture_is_looked_at_again(forks: Forks, photos: Path, tmp_path: Path) -> None:
    own = shutil.copytree(photos, tmp_path / "photos")
    out = tmp_path / "f.h5"
    extract(forks, own, out, before=at_call(ADD, 6, SIGKILL))
    Image.new("RGB", (30, 30), "red").save(own / "0.png")
    done = extract(forks, own, out, "--resume")
    assert done.code == 0, done.err
    file = FeatureFile(out)
    assert file.facts.image_size is not None
    assert file.facts.image_size[file.image_ids.index("0.png")].tolist() == [30, 30]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--strict",), "broken.jpg: it is not a picture of a known format"),
        (("--shard", "3/2"), "expected K/N with K from 1 to N"),
        (("--detector", "nowhere"), "nowhere does not exist; expected the folder of a vision model"),
        (("--like", "any.ckpt"), "--area and --regions are those of the checkpoint"),
    ],
)
def test_refusals(forks: Forks, photos: Path, tmp_path: Path, more: tuple[str, ...], expected: str) -> None:
    done = extract(forks, photos, tmp_path / "f.h5", *more)
    assert done.code == 2
    assert expected in done.err.replace("\n", " ")
    assert not (tmp_path / "f.h5").exists()


def test_without_any_model_the_choices_are_named(
    forks: Forks, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = "import selfalign_cli.extract.choose as choose\nchoose.is_installed = lambda: False\n"
    done = forks.run("extract", photos, "--out", tmp_path / "f.h5", cwd=tmp_path, before=absent)
    assert done.code == 2
    assert all(choice in done.err for choice in ("selfalign[dinov2]", "--backbone", "--detector", "weightless"))


RECIPE: dict[str, Any] = {
    "run": {"dir": "run", "tensorboard": False},
    "data": {"batch_size": 5},
    "model": {"name": "vsrn", "embed_dim": 8, "word_dim": 4, "graph_layers": 1},
    "loss": {"concept": {"prototypes": 4}},
    "optim": {"epochs": 1},
}


def test_another_extractor_is_refused_by_the_model(forks: Forks, photos: Path, unbroken: Path, tmp_path: Path) -> None:
    recipe = {**RECIPE, "data": {"features": str(unbroken), "vocab": "v.json", "batch_size": 5}}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    assert forks.run("build-vocab", unbroken, "--out", "v.json", "--min-count", "1", cwd=tmp_path).code == 0
    trained = forks.run("train", "r.yaml", cwd=tmp_path)
    assert trained.code == 0, trained.err
    other = tmp_path / "other.h5"
    captions = ("--captions", str(photos.parent / "captions.json"))
    assert extract(forks, photos, other, *captions, "--regions", "5").code == 0
    refused = forks.run("eval", "run/best.ckpt", "--data", other, cwd=tmp_path)
    assert refused.code == 2
    assert "was made by another extractor than run/best.ckpt" in refused.err
    assert "  regions: 5 against 4" in refused.err
    exported = forks.run("export-embeddings", "run/best.ckpt", "--data", other, "--out", "e.h5", cwd=tmp_path)
    assert (exported.code, exported.err) == (2, refused.err)
    resumed = forks.run("train", "r.yaml", "--resume", "--set", f"data.features={other}", cwd=tmp_path)
    resumed.must_refuse("was made by another extractor than run/last.ckpt", "  regions: 5 against 4")
    like = tmp_path / "like.h5"
    alike = forks.run("extract", photos, "--out", like, "--like", "run/best.ckpt", *captions, cwd=tmp_path)
    assert alike.code == 0, alike.err
    assert like.read_bytes() == unbroken.read_bytes()
    exported = forks.run("export-embeddings", "run/best.ckpt", "--data", like, "--out", "e.h5", cwd=tmp_path)
    assert exported.code == 0, exported.err
    origin = FeatureFile(unbroken).origin
    assert origin is not None
    assert json.loads(str(read_embeddings(tmp_path / "e.h5").attributes["extractor"])) == origin.extractor
    for file in ("run/best.ckpt", "e.h5"):
        described = forks.run("inspect", file, "--json", cwd=tmp_path)
        assert "backbone weightless, area 64, 4 regions" in json.loads(described.out)["extractor"]
