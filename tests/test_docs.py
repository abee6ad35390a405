"""The pages under docs: what they name exists, what they show runs, their tables are those of the code."""

from __future__ import annotations

import re
import runpy

import numpy as np
import pytest
from PIL import Image
from support.pages import CHECKOUT, DOCS, TEXTS, anchors, blocks, command_lines, links, section, selfalign_commands
from typer.main import get_command
from typer.testing import CliRunner

from selfalign_cli.cli.app import app
from selfalign_cli.data.formats import READERS
from selfalign_cli.recipe.compat import PRESET_KEYS
from selfalign_cli.recipe.schema import Recipe

COMMANDS = get_command(app).commands
ALL = "\n".join(TEXTS.values())
EXAMPLES = sorted({tuple(words) for text in TEXTS.values() for words in selfalign_commands(text)})
CAMPAIGNS = [words[2:] for words in command_lines(ALL) if words[:2] == ["python", "tests/campaigns"]]
LINKS = [(page, target) for page, text in TEXTS.items() for target in links(text)]
PICTURES = DOCS / "pictures"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_a_section_with_an_example(command):
    examples = selfalign_commands(section(TEXTS["docs/commands.md"], f"### {command}"))
    assert command in [words[0] for words in examples]


@pytest.mark.parametrize("words", EXAMPLES, ids=" ".join)
def test_examples_parse(words):
    assert words[0] in COMMANDS
    COMMANDS[words[0]].make_context(words[0], list(words[1:]))


@pytest.mark.parametrize("words", CAMPAIGNS, ids=" ".join)
def test_campaigns_parse(words, monkeypatch):
    import campaigns.__main__  # only here: it imports torch

    class Started(Exception):
        pass

    def start(name, **options):
        raise Started

    monkeypatch.setattr(campaigns.__main__, "run_campaign", start)
    with pytest.raises(Started):
        campaigns.__main__.main(words)


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_links_lead_somewhere(page, target):
    if target.startswith("https://"):
        return
    path, _, anchor = target.partition("#")
    file = (CHECKOUT / page).parent / path if path else CHECKOUT / page
    assert file.exists()
    if anchor:
        assert anchor in anchors(file.read_text(encoding="utf-8"))


def test_files_that_are_named_exist():
    named = set(re.findall(r"\b(?:recipes|selfalign_cli|tests|docs)/[\w/.-]*\w/?", ALL))
    assert {"recipes/vsrn_f30k.yaml", "selfalign_cli/recipe/schema.py", "tests/training/test_resume.py"} <= named
    new = set(re.findall(r"^- new `(.*?)`", TEXTS["docs/extending.md"], re.M))  # a test makes them
    assert [name for name in sorted(named - new) if not (CHECKOUT / name).exists()] == []


def test_files_of_a_folder_that_are_named_exist():
    rows = re.findall(r"^\| `(selfalign_cli/[\w/]*)` \| (.*) \|$", TEXTS["docs/extending.md"], re.M)
    assert len(rows) > 10
    for folder, text in rows:
        for name in re.findall(r"`(\w+(?:\.py|/))`", text):
            assert (CHECKOUT / folder / name).exists(), f"{folder}{name}"
    (others,) = re.findall(r"^In the package itself: (.*?)\n\n", TEXTS["docs/extending.md"], re.M | re.S)
    for name in re.findall(r"`(\w+\.py)`", others):
        assert (CHECKOUT / "selfalign_cli" / name).exists(), name
    described = {folder.split("/")[1] for folder, _ in rows}
    assert described == {path.parent.name for path in CHECKOUT.glob("selfalign_cli/*/__init__.py")}


def test_every_feature_format_has_a_row():
    rows = re.findall(r"^\| `(\w[\w-]+)` \|", section(TEXTS["docs/data.md"], "## Feature formats"), re.M)
    assert sorted(rows) == sorted(READERS)


def test_shipped_recipes_that_are_named_exist():
    text = section(TEXTS["docs/recipes.md"], "## Shipped recipes")
    shipped = {path.stem for path in (CHECKOUT / "recipes").glob("*.yaml")}
    bases = set(re.findall(r"`([a-z]\w+_\w+)`", text))
    endings = set(re.findall(r"`(_\w+)`", text))
    scenes = {f"{base}{ending}" for base in bases if base.endswith("_scenes") for ending in endings}
    assert bases | scenes == shipped


def test_every_section_of_a_recipe_is_described():
    rows = re.findall(r"^\| `(\w+)` \|", TEXTS["docs/recipes.md"].partition("\n## Shipped recipes\n")[0], re.M)
    assert rows == list(Recipe.model_fields)


SCOPES = {
    "words": "hosts with a vocabulary of words only",
    "pieces": "hosts over BERT only",
    "captioning": "hosts with a caption generator only",
}


def compat_table() -> str:
    """The table of presets, as the page holds it."""
    lines = ["| | key | corrected | published | what the published programs do |", "|---|---|---|---|---|"]
    for row in PRESET_KEYS:
        values = ["null" if value is None else str(value).lower() for value in (row.corrected, row.published)]
        of_one_host = f"{row.hosts[0]} only" if len(row.hosts) == 1 else ""
        scope = SCOPES.get(row.applies_to, of_one_host)
        only = f" ({scope})" if scope else ""
        lines.append(f"| {row.row} | `{row.path}` | {values[0]} | {values[1]} | {row.sentence}{only} |")
    return "\n".join(lines)


def test_the_table_of_presets_is_that_of_the_code():
    text = TEXTS["docs/recipes.md"]
    assert f"a test compares them -->\n\n{compat_table()}\n" in text, f"expected:\n{compat_table()}"


def test_the_picture_of_the_demo_shows_what_the_pages_print():
    printed = (PICTURES / "demo.txt").read_text(encoding="utf-8")
    drawing = (PICTURES / "demo.svg").read_text(encoding="utf-8")
    shown = "".join(re.findall(r"<text class=\"demo-r\d.*?>(.*?)</text>", drawing, re.S)).replace("&#160;", " ")
    assert shown.replace("\n", "") == printed.replace("\n", "")
    assert printed.partition("\n")[2] in blocks(section(TEXTS["docs/commands.md"], "### demo"), "")


def test_the_list_of_recipes_is_printed():
    printed = CliRunner().invoke(app, ["recipes"]).stdout
    assert blocks(section(TEXTS["docs/commands.md"], "### recipes"), "") == [printed]


def grey_levels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"), float)


def test_commands_print_what_their_sections_show(tmp_path, forks):
    """The embedded data set at full size, from scenes to WordPieces; the picture of the README is of it too."""
    page = TEXTS["docs/commands.md"]
    for command in ("make-scenes", "convert-features", "build-vocab", "inspect"):
        text = section(page, f"### {command}")
        for words, shown in zip(selfalign_commands(text), blocks(text, ""), strict=True):
            done = forks.run(*words, cwd=tmp_path)
            assert (done.code, done.out) == (0, shown), done.err
    drawer = runpy.run_path(str(PICTURES / "draw.py"))
    drawer["draw_scenes"](tmp_path / "data" / "scenes", tmp_path / "scenes.png")
    ours, fresh = (
        np.asarray(Image.open(folder / "scenes.png").convert("L"), float) for folder in (PICTURES, tmp_path)
    )
    assert np.abs(ours - fresh).mean() < 3  # fonts and palettes may differ between releases of Pillow
    assert (PICTURES / "scenes.png").stat().st_size < 100_000
