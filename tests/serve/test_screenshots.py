"""The pictures of the documentation are made by the same browser, by a command that works."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from support.browser import Browser
from support.screenshots import NAMES, PICTURES, draw
from support.serving import Server
from typer.testing import CliRunner

from selfalign_cli.cli.app import app


def test_they_can_be_drawn_anew(browser: Browser, server: Server, unbroken: Path, tmp_path: Path):
    report = tmp_path / "report.html"
    made = CliRunner().invoke(app, ["report", str(unbroken), "--out", str(report), "--examples", "0"])
    assert made.exit_code == 0, made.output
    draw(browser, server.address, report, tmp_path, query="a red star")
    for name in NAMES:
        with Image.open(tmp_path / name) as drawn, Image.open(PICTURES / name) as shown:
            assert drawn.size == shown.size
            assert len(drawn.getcolors()) > 20  # something is there


def test_they_are_small_and_shown():
    pages = (PICTURES.parent / "pages.md").read_text(encoding="utf-8")
    readme = (PICTURES.parents[1] / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert (PICTURES / name).stat().st_size < 200_000
        assert f"pictures/{name})" in pages + readme
