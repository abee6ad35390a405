"""`selfalign explain`: the document, and the page as a real browser shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.browser import Browser
from support.world import World
from typer.testing import CliRunner

from selfalign_cli.cli.app import app
from selfalign_cli.pages.regions import STRONGEST_TINT, tint
from selfalign_cli.pages.render import signed

CAPTION = "a large red star left of a ring"


def explained(unbroken: Path, out: Path | None, *more: str, caption: str = CAPTION) -> str:
    given = ["explain", str(unbroken / "best.ckpt"), "--image", "25", "--caption", caption, "--device", "cpu"]
    result = CliRunner().invoke(app, [*given, *(["--out", str(out)] if out else []), *more])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_document_is_the_promised_one(unbroken: Path):
    document = json.loads(explained(unbroken, None, "--json"))
    assert set(document) >= {"image", "caption", "score", "words", "regions", "interaction", "method"}
    assert (document["image"], document["caption"], document["method"]) == ("25", CAPTION, "leave-out")
    assert document["words"] == CAPTION.split()
    assert [len(row) for row in document["interaction"]] == [len(document["regions"])] * 8
    assert all(set(region) == {"box", "score_change"} and len(region["box"]) == 4 for region in document["regions"])


def test_the_page_in_a_browser(unbroken: Path, browser: Browser, tmp_path: Path):
    out = tmp_path / "why.html"
    document = json.loads(explained(unbroken, out, "--json"))
    page = browser.page().open(out)
    assert page.text("h1") == f"“{CAPTION}”"
    assert page.text(".score b") == f"{document['score']:.3f}"
    assert page.run("document.querySelector('#photo').href.baseVal.startsWith('data:image/png')")
    assert page.count("tbody tr") == len(document["regions"])
    strongest = max(range(10), key=lambda region: document["regions"][region]["score_change"])
    assert page.text("tbody th").split() == [str(strongest + 1)]
    shown = page.text("tbody tr").split()[1:]
    assert shown == [signed(document["regions"][strongest]["score_change"], 3)] + [
        signed(row[strongest], 2) if signed(row[strongest], 2) != "0" else "·" for row in document["interaction"]
    ]
    assert page.run("getComputedStyle(document.querySelector('g.l0')).display") == "inline"
    page.click("label[for=w4]")
    assert page.run("getComputedStyle(document.querySelector('g.l4')).display") == "inline"
    assert page.run("getComputedStyle(document.querySelector('g.l0')).display") == "none"
    page.press("ArrowRight")
    assert page.text("figcaption").startswith("What each region and left add together.")
    assert ("radio", "show the word star") in page.spoken()
    assert page.requests == [out.as_uri()]
    assert page.faults == []


def test_hostile_text_is_text(unbroken: Path, browser: Browser, tmp_path: Path):
    text = "<img src=x onerror=document.title='owned'> </title><script>document.title='owned'</script>"
    explained(unbroken, tmp_path / "why.html", caption=text)
    page = browser.page().open(tmp_path / "why.html")
    assert page.text("h1") == f"“{text}”"
    assert page.run("document.title").startswith(f"Why “{text}”")
    assert (page.count("script"), page.count("img"), page.faults) == (0, 0, [])


def test_numbers_are_readable_in_light_and_in_dark(unbroken: Path, browser: Browser, tmp_path: Path):
    """Contrast of the text with the strongest background, by WCAG's formula: at least 4.5."""
    explained(unbroken, tmp_path / "why.html")
    page = browser.page().open(tmp_path / "why.html")
    for dark in (False, True):
        page.look(1200, 800, dark=dark)
        for sign in (1.0, -1.0):
            kind = re.sub(r'class="(.*?)" style="(.*?)"', r"\1|\2", tint(sign, 1.0)).split("|")
            ink, tinted, card = page.run(
                "(() => { const cell = document.querySelector('td'); "
                f"cell.className = {kind[0]!r}; cell.style = {kind[1]!r}; "
                "const look = (e, name) => getComputedStyle(e)[name].match(/[\\d.]+/g).map(Number); "
                "return [look(cell, 'color'), look(cell, 'backgroundColor'), "
                "look(document.querySelector('.card'), 'backgroundColor')]; })()"
            )
            assert tinted[3] == pytest.approx(STRONGEST_TINT)
            behind = [tinted[3] * top + (1 - tinted[3]) * below for top, below in zip(tinted, card, strict=False)]
            assert contrast(ink[:3], behind[:3]) >= 4.5, (dark, sign)


def contrast(one: list[float], other: list[float]) -> float:
    """WCAG 2: (L1 + 0.05) / (L2 + 0.05)."""

    def light(colour: list[float]) -> float:
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return sum(part * weight for part, weight in zip(parts, (0.2126, 0.7152, 0.0722), strict=True))

    darker, lighter = sorted([light(one), light(other)])
    return (lighter + 0.05) / (darker + 0.05)


def test_pictures_that_are_not_there_are_drawn_blank(world: World, unbroken: Path, tmp_path: Path):
    moved = tmp_path / "moved.h5"
    moved.write_bytes(world.features.read_bytes())
    given = ["explain", str(unbroken / "best.ckpt"), "--data", str(moved), "--image", "25", "--caption", CAPTION]
    (world.folder / "scenes").rename(world.folder / "elsewhere")
    try:
        found = CliRunner().invoke(app, [*given, "--out", str(tmp_path / "a.html"), "--device", "cpu"])
        there = ["--pictures", str(world.folder / "elsewhere" / "images")]
        named = CliRunner().invoke(app, [*given, "--out", str(tmp_path / "b.html"), "--device", "cpu", *there])
    finally:
        (world.folder / "elsewhere").rename(world.folder / "scenes")
    assert (found.exit_code, named.exit_code) == (0, 0), found.output + named.output
    assert "--pictures DIR names the folder" in found.stderr
    blank = (tmp_path / "a.html").read_text()
    assert 'class="blank"' in blank
    assert "The picture was not found" in blank
    assert "data:image" not in blank
    assert "data:image" in (tmp_path / "b.html").read_text()
    assert "--pictures" not in named.stderr


def test_what_is_refused(unbroken: Path, tmp_path: Path):
    given = ["explain", str(unbroken / "best.ckpt"), "--image", "25", "--caption", CAPTION]
    (tmp_path / "there.html").write_text("mine")
    for more, reason in (
        ([], "nothing was asked for"),
        (["--out", str(tmp_path / "there.html")], "exists already"),
        (["--json", "--image", "nobody"], "has no picture 'nobody'"),
    ):
        result = CliRunner().invoke(app, [*given, *more])
        assert (result.exit_code, result.stdout) == (2, "")
        assert reason in result.stderr
    assert (tmp_path / "there.html").read_text() == "mine"
