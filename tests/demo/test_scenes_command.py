"""The make-scenes command: one call, one table, short errors."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from selfalign_cli.cli.app import CommandGroup
from selfalign_cli.cli.make_scenes import make_scenes


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(cls=CommandGroup)
    app.command("make-scenes")(make_scenes)
    app.callback()(lambda: None)
    return app


def test_command_makes_the_folder_and_prints_its_sizes(app, tmp_path):
    result = CliRunner().invoke(app, ["make-scenes", str(tmp_path / "s"), "--images", "10", "--seed", "2"])
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:]] == [
        ["train", "10"],
        ["dev", "20"],
        ["test", "20"],
    ]
    assert "make scenes: pictures: 50 in" in result.stderr
    assert "10 regions of 64" in result.stderr
    assert (tmp_path / "s" / "README.txt").is_file()


@pytest.mark.parametrize(("extra", "words"), [(["--images", "0"], "1 to 50,000"), (["--seed", "-1"], "seed")])
def test_command_refuses_numbers_out_of_range(app, tmp_path, extra, words):
    result = CliRunner().invoke(app, ["make-scenes", str(tmp_path / "s"), *extra])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert words in result.stderr


def test_command_leaves_a_full_folder_alone(app, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    result = CliRunner().invoke(app, ["make-scenes", str(tmp_path)])
    assert (result.exit_code, "not empty" in result.stderr) == (2, True)
