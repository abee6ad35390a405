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


def blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of one language; `""` for blocks that name none."""
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.M | re.S)
    return [content for name, content in found if name == language]


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


def section(text: str, heading: str) -> str:
    """What stands under a heading, down to the next heading of the same or a higher level."""
    level = len(heading) - len(heading.lstrip("#"))
    after = re.split(rf"^{re.escape(heading)}\n", text, maxsplit=1, flags=re.M)[1]
    return re.split(rf"^#{{1,{level}}} ", after, maxsplit=1, flags=re.M)[0]


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as GitHub forms them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text: str) -> list[str]:
    """The targets of all links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))

