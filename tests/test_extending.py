"""docs/extending.md: each walkthrough lists every file that it changes, and what it adds works."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from support.walkthroughs import TITLES, apply, copy_project, differing, run, shows, walkthrough

ADDITIONS = ["A loss", "A host", "A feature format", "A metric", "A command"]


def test_the_walkthroughs_are_there():
    assert TITLES == ADDITIONS


@pytest.mark.parametrize("title", ADDITIONS)
def test_a_walkthrough_works_and_lists_its_files(title, tmp_path, world, forks, unbroken):
    steps = walkthrough(title)
    copy, folder = tmp_path / "copy", tmp_path / "folder"
    copy.mkdir()
    copy_project(copy)
    apply(steps.changes, copy)
    assert differing(copy) == (steps.new, steps.changed)

    python = [name for name in steps.new | steps.changed if name.endswith(".py")]
    for check in (["check"], ["format", "--check"]):
        checked = subprocess.run(
            [sys.executable, "-m", "ruff", *check, *python], cwd=copy, capture_output=True, text=True
        )
        assert checked.returncode == 0, checked.stdout

    shutil.copytree(world.folder, folder)
    shutil.copytree(unbroken, folder / "run")
    (folder / "captions.txt").write_text("a red star\na blue star\n")
    assert steps.session
    for command, lines in steps.session:
        done = run(command, forks, copy, folder)
        printed = done.out + done.err
        assert done.code == (2 if any(line.startswith("error: ") for line in lines) else 0), printed
        assert shows(printed, lines), printed
