"""Pictures of the pages for the documentation, made by the browser of the tests: see `draw`.

selfalign demo && cd tests && python -m support.screenshots ../runs/demo
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from PIL import Image

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
NAMES = ("search.png", "explain.png", "report.png")
QUERY = "a red star left of a blue ring"


def draw(browser, address: str, report: Path, out: Path, *, query: str = QUERY) -> None:
    """Draw the search page, a picture with its explanation, and the report.

    Args:
        browser: a running one.
        address: of a server.
        report: the page of a report.
        out: folder to write to.
        query: what is searched.
    """
    page = browser.page()
    page.look(1280, 800)
    page.open(f"{address}/?q={quote(query)}")
    page.until("document.querySelectorAll('#hits button').length > 10")
    page.until("[...document.images].filter(i => i.getBoundingClientRect().top < 800).every(i => i.complete)")
    save(page, out / NAMES[0])
    page.click("#hits button")
    page.until("document.querySelectorAll('#matrix td').length > 10")
    page.run("document.activeElement.blur()")
    save(page, out / NAMES[1])
    page.look(1280, 900)
    page.open(report)
    save(page, out / NAMES[2])


def save(page, path: Path) -> None:
    """A PNG with a palette, which takes a third of the bytes."""
    page.picture(path)
    with Image.open(path) as picture:
        packed = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    packed.save(path, optimize=True)


def main(demo: Path) -> None:
    """Draw the pages of a finished demo."""
    from support.browser import MISSING, Browser, installed_browser
    from support.processes import Forks
    from support.serving import start_server

    program = installed_browser()
    if program is None:
        raise SystemExit(MISSING)
    with tempfile.TemporaryDirectory() as folder:
        forks, browser = Forks(Path(folder)), Browser(program, Path(folder) / "profile")
        server = start_server(forks, (demo / "index").resolve())
        draw(browser, server.address, demo / "report.html", PICTURES)
        server.stop()
        browser.close()
        forks.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
