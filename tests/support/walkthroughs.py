"""The walkthroughs of docs/extending.md: what they list, change and show, done in a copy of the project."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from support.pages import CHECKOUT, TEXTS, prose, section
from support.processes import Done, Forks, anew

COPIED = ("selfalign_cli", "tests", "docs", "recipes", "README.md", "pyproject.toml", ".ci")
BLOCK = re.compile(r"(?:^`([\w./-]+)`:\n\n)?^(```+)(\w+)\n(.*?)^\2$", re.M | re.S)
TITLES = re.findall(r"^## (An? .*)$", prose(TEXTS["docs/extending.md"]), re.M)


@dataclass(frozen=True)
class Walkthrough:
    """One section of the page.

    Attributes:
        new: files that its list calls new.
        changed: files that its list calls changed.
        changes: (file, kind, text) in order: `diff`, or the whole text of a new file.
        session: commands, each with the lines that it is said to print.
    """

    new: set[str]
    changed: set[str]
    changes: list[tuple[str, str, str]]
    session: list[tuple[str, list[str]]]


def walkthrough(title: str) -> Walkthrough:
    """Read the section under a title."""
    text = section(TEXTS["docs/extending.md"], f"## {title}")
    listed = re.findall(r"^- (new|changed) `([\w./-]+)`", text, re.M)
    changes, session, path = [], [], ""
    for name, _, language, content in BLOCK.findall(text):
        path = name or path
        if language == "console":
            for line in content.splitlines():
                if line.startswith("$ "):
                    session.append((line[2:], []))
                else:
                    session[-1][1].append(line)
        else:
            changes.append((path, language, content))
    return Walkthrough(
        {name for kind, name in listed if kind == "new"},
        {name for kind, name in listed if kind == "changed"},
        changes,
        session,
    )


def copy_project(folder: Path) -> None:
    """Copy what can be changed; the golden data are linked."""
    for name in COPIED:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "golden"))
        else:
            shutil.copy(source, folder / name)
    (folder / "tests" / "golden").symlink_to(CHECKOUT / "tests" / "golden")


def apply(changes: list[tuple[str, str, str]], folder: Path) -> None:
    """Write new files, and change others where the context of a change stands exactly once."""
    for name, language, content in changes:
        path = folder / name
        if language != "diff":
            assert not path.exists(), f"{name} is there already"
            path.write_text(content, encoding="utf-8")
            continue
        lines = content.splitlines(keepends=True)
        assert all(line[0] in " +-\n" for line in lines), content
        before = "".join(line[1:] or "\n" for line in lines if line[0] in " -\n")
        after = "".join(line[1:] or "\n" for line in lines if line[0] in " +\n")
        text = "\n" + path.read_text(encoding="utf-8")
        assert text.count(f"\n{before}") == 1, f"{name} has this {text.count(before)} times:\n{before}"
        path.write_text(text.replace(f"\n{before}", f"\n{after}")[1:], encoding="utf-8")


def differing(folder: Path) -> tuple[set[str], set[str]]:
    """Files of a copy that the project does not have, and files that it has otherwise."""
    new, changed = set(), set()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or path.is_symlink() or "__pycache__" in name:
            continue
        if not (CHECKOUT / name).exists():
            new.add(name)
        elif path.read_bytes() != (CHECKOUT / name).read_bytes():
            changed.add(name)
    return new, changed


def run(command: str, forks: Forks, copy: Path, folder: Path) -> Done:
    """Run one command of a session: `selfalign` in `folder`, `python -m pytest` in the copy."""
    program, *arguments = shlex.split(command)
    cwd, module = folder, "selfalign_cli"
    if program != "selfalign":
        assert (program, arguments[:2]) == ("python", ["-m", "pytest"])
        imported = "ignore::pytest.PytestAssertRewriteWarning"  # plugins that the process had already
        cwd, module, arguments = copy, "pytest", [*arguments[2:], "-W", imported]
    return forks.run(*arguments, cwd=cwd, before=anew(copy, copy / "tests"), module=module)


def shows(printed: str, lines: list[str]) -> bool:
    """Whether the lines stand in a text, one behind the other; `…` is anything."""
    pattern = ".*".join(
        r"^" + "".join(r"[^\n]*" if part == "…" else re.escape(part) for part in re.split("(…)", line)) + r"$"
        for line in lines
    )
    return re.search(pattern, printed, re.M | re.S) is not None
