"""The README: short, complete, and what it shows works."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image
from support.pages import CHECKOUT, DOCS, README, blocks, section, selfalign_commands
from typer.main import get_command

from selfalign_cli.cli.app import app

TEXT = README.read_text(encoding="utf-8")
COMMANDS = get_command(app).commands
INSTALL = 'pip install -c constraints.txt -e ".[dev]"'
TESTS = "python -m pytest -n 2 -q"
OWN_DATA = section(TEXT, "## The first ten minutes with your own data")


def test_the_readme_is_short():
    assert len(TEXT.splitlines()) <= 250


def test_the_two_commands_stand_on_the_first_screen():
    first = "\n".join(TEXT.splitlines()[:25])
    assert f"python3 -m venv .venv && .venv/bin/{INSTALL} && .venv/bin/selfalign demo\n" in first
    assert f".venv/bin/{TESTS}\n" in first


def test_the_checks_install_and_test_as_the_readme_says():
    script = (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8")
    assert INSTALL.replace("pip install", 'pip" install --quiet') in script
    assert f"\n{TESTS}\n" in script


def test_every_command_has_a_row():
    assert sorted(re.findall(r"^\| `selfalign ([\w-]+)` \|", TEXT, re.M)) == sorted(COMMANDS)


def test_every_page_is_linked():
    rows = re.findall(r"^\| \[.*\]\(docs/(.*)\) \|", section(TEXT, "## Where to read on"), re.M)
    assert sorted(rows) == sorted(path.name for path in DOCS.glob("*.md"))


@pytest.fixture(scope="module")
def own_data(tmp_path_factory):
    """Pictures and the captions file of the README, more of each split, and features saved as the README says."""
    folder = tmp_path_factory.mktemp("own")
    (captions,) = blocks(OWN_DATA, "json")
    (saving,) = blocks(OWN_DATA, "python")
    images = [
        {**image, "image": image["image"].replace(".", f"{number}.")}
        for image in json.loads(captions)
        for number in range(8)
    ]
    draw = np.random.default_rng(0)
    (folder / "features").mkdir()
    (folder / "photos").mkdir()
    for image in images:
        code = saving.replace("features/dog.npz", f"{folder}/features/{image['image'].partition('.')[0]}.npz")
        features = draw.random((5, 12), dtype=np.float32)
        pixels = draw.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / image["image"])
        exec(code, {"numpy": np, "features": features, "boxes": np.array([[10.0, 10.0, 90.0, 80.0]] * 5)})
    (folder / "captions.json").write_text(json.dumps(images))
    (folder / "recipes").symlink_to(CHECKOUT / "recipes")
    return folder


# Without the extra that brings a model, on any machine, and with few epochs.
QUICKLY = {
    "extract": ["--backbone", "weightless", "--device", "cpu"],
    "train": ["--device", "cpu", "--set", "optim.epochs=2"],
}


def test_the_commands_for_own_data_run(own_data, forks):
    lines = list(selfalign_commands(OWN_DATA))
    using = ["eval", "index", "search", "export-embeddings"]
    assert [line[0] for line in lines] == ["extract", "inspect", "build-vocab", "train", *using, "convert-features"]
    for line in lines:
        done = forks.run(*line, *QUICKLY.get(line[0], ()), cwd=own_data)
        assert done.code == 0, done.err
    assert (own_data / "embeddings.h5").is_file()


def test_the_python_example_runs(world, unbroken, capsys):
    (example,) = blocks(section(TEXT, "## In Python"), "python")
    paths = {"runs/vsrn_own/best.ckpt": unbroken / "best.ckpt", "data/own.h5": world.features}
    for shown, real in paths.items():
        assert example.count(f'"{shown}"') == 1
        example = example.replace(shown, str(real))
    names = {}
    exec(example, names)
    assert names["found"].candidates.shape == names["found"].scores.shape == (2, 5)
    assert capsys.readouterr().out.endswith("torch.Size([20, 1])\n")
