"""Draw the pictures of the README anew: `python docs/pictures/draw.py`.

demo.svg    demo.txt, the text that `selfalign demo | cat` printed, in the frame of a terminal
scenes.png  three pairs of look-alikes from `selfalign make-scenes`, each picture with one of its captions
"""

from __future__ import annotations

import io
import json
import tempfile
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.text import Text

from selfalign_cli.demo.scenes import make_scenes

FOLDER = Path(__file__).parent

COLUMNS = 100
"""Width of the terminal, in characters."""
SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
    font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
    font-size: {char_height}px;
    line-height: {line_height}px;
}}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px; font-weight: bold; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""Rich's frame of a terminal, without the fonts that it would load from the network."""

PAIRS = {
    "Colours exchanged": ((2361, 1), (2362, 4)),
    "Shapes exchanged": ((2420, 2), (2669, 0)),
    "Turned around": ((2328, 3), (2780, 0)),
}
"""By what tells the two apart: picture and number of the caption, twice. Chosen by eye from the test split."""
SIDE, GAP = 256, 14
"""Of a picture and between pictures, in pixels of scenes.png."""
FONT, LINE, CAPTION_COLUMNS = 22, 27, 23
"""Text: height and distance of lines in pixels, characters a line."""


def draw_demo(out: Path) -> None:
    """Put the text of demo.txt into the frame of a terminal."""
    lines = (FOLDER / "demo.txt").read_text(encoding="utf-8").splitlines()
    cut = [line[start : start + COLUMNS] for line in lines for start in range(0, len(line), COLUMNS)]
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text("\n".join(cut)))
    out.write_text(console.export_svg(title="selfalign demo", code_format=SVG, unique_id="demo"), encoding="utf-8")


def draw_scenes(scenes: Path, out: Path) -> None:
    """Draw the pairs side by side, with their captions below.

    Args:
        scenes: what `selfalign make-scenes` wrote.
        out: the picture to write.
    """
    font = ImageFont.load_default(FONT)
    sheet = Image.new("RGB", (6 * SIDE + 7 * GAP, SIDE + 4 * LINE + 2 * GAP), "white")
    pen = ImageDraw.Draw(sheet)
    known = {image["imgid"]: image for image in json.loads((scenes / "dataset_scenes.json").read_text())["images"]}
    for number, (difference, pair) in enumerate(PAIRS.items()):
        pen.text((GAP + 2 * number * (SIDE + GAP), GAP), difference, "black", font)
        for side, (image_id, caption) in enumerate(pair):
            left, top = GAP + (2 * number + side) * (SIDE + GAP), GAP + LINE + 4
            with Image.open(scenes / "images" / known[image_id]["filename"]) as picture:
                enlarged = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (left, top))
            text = textwrap.fill(known[image_id]["sentences"][caption]["raw"], CAPTION_COLUMNS)
            pen.multiline_text((left, top + SIDE + 4), text, "black", font, spacing=LINE - FONT)
    sheet.quantize(64, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    draw_demo(FOLDER / "demo.svg")
    with tempfile.TemporaryDirectory() as folder:
        make_scenes(Path(folder) / "scenes")
        draw_scenes(Path(folder) / "scenes", FOLDER / "scenes.png")
