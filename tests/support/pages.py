"""The Markdown pages of the project, and what can be run or checked in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
README = CHECKOUT / "README.md"
DOCS = CHECKOUT / "docs"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
TEXTS = {path.relative_to(CHECKOUT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
FENCED = re.compile(r"^(```+)(\w*)\n(.*?)^\1$\n?", re.M | re.S)


def blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of one language; `""` for blocks that name none."""
    return [content for _, name, content in FENCED.findall(text) if name == language]


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return FENCED.sub("", text)


def section(text: str, heading: str) -> str:
    """What stands under a heading, down to the next heading of the same or a higher level."""
    blanked = FENCED.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)
    begin = re.search(rf"^{re.escape(heading)}\n", blanked, re.M)
    assert begin is not None, f"there is no heading {heading!r}"
    level = len(heading) - len(heading.lstrip("#"))
    end = re.compile(rf"^#{{1,{level}}} ", re.M).search(blanked, begin.end())
    return text[begin.end() : end.start() if end else len(text)]


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of every command in the shell blocks, without comments and redirections."""
    for block in blocks(text, "sh"):
        for line in block.splitlines():
            for command in re.split(r"&&|[|;]", line):
                words = shlex.split(command.partition(" > ")[0], comments=True)
                if words:
                    yield words


def selfalign_commands(text: str) -> Iterator[list[str]]:
    """The arguments of every `selfalign …`, also where `torchrun` starts it."""
    for words in command_lines(text):
        if Path(words[0]).name == "selfalign":
            yield words[1:]
        elif "selfalign_cli" in words:
            yield words[words.index("selfalign_cli") + 1 :]


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as GitHub forms them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text: str) -> list[str]:
    """The targets of all links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))
