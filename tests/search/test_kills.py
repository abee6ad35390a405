"""Killed at any instant, an index opens as it was before or as it is after, and the same command goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from support.collections import record, write_pictures
from support.processes import Forks, at_call

from selfalign_cli.errors import DataError
from selfalign_cli.search.index import Index

SMALL = "import selfalign_cli.search.build\nselfalign_cli.search.build.SEGMENT_ROWS = 2\n"
KILLS = int(os.environ.get("SELFALIGN_KILLS", "4"))  # more of them: SELFALIGN_KILLS=50 python -m pytest FILE
INSTANTS = ("os.fsync", "os.rename", "os.replace", "os.mkdir", "os.unlink", "selfalign_cli.search.build.write_segment")


def content(folder: Path) -> dict[str, object]:
    """All that an index answers with: id → captions and vectors."""
    index = Index.open(folder)
    return {
        index.picture(row).id: (index.picture(row).captions, index.vectors(row).concatenated().flatten().tolist())
        for row in index.rows()
    }


def state(folder: Path) -> dict[str, object] | None:
    """The content of an index; None where it is not there yet, in so many words."""
    if (folder / "manifest.json").exists():
        return content(folder)
    with pytest.raises(DataError, match="is not finished|does not exist"):
        Index.open(folder)
    return None


def kill_at_random(forks: Forks, folder: Path, arguments: list[object], draw: random.Random) -> None:
    """Kill the command KILLS times, each time where it is by then; whenever it ends, it begins from the start."""
    start, index = folder / "start", folder / "INDEX"
    whole = folder / "whole"
    shutil.copytree(start, whole) if start.exists() else whole.mkdir()
    assert forks.run(*arguments, whole, cwd=folder, before=SMALL).code == 0
    before, after = state(start), state(whole)
    kills = 0
    while kills < KILLS:
        if state(index) != before or not index.exists():
            shutil.rmtree(index, ignore_errors=True)
            shutil.copytree(start, index) if start.exists() else index.mkdir()
        at = at_call(draw.choice(INSTANTS), draw.randint(1, 6), signal.SIGKILL, after=draw.random() < 0.5)
        done = forks.run(*arguments, index, cwd=folder, before=SMALL + at)
        assert done.code in (0, -signal.SIGKILL), done.err
        kills += done.code != 0
        assert state(index) in ((before, after) if done.code else (after,))
    if state(index) == before:
        assert forks.run(*arguments, index, cwd=folder, before=SMALL).code == 0
    assert state(index) == after
    left = {path.name for path in (index / "segments").iterdir()}
    assert {segment.entry.name for segment in Index.open(index).segments} <= left


@pytest.mark.parametrize("update", [False, True])
def test_random_kills_lose_nothing_and_serve_no_half(
    update: bool, indexed: Path, forks: Forks, collection: Path, tmp_path: Path
):
    write_pictures(tmp_path / "next.h5", [record(row, seed=int(row == 4)) for row in range(12) if row not in (0, 6)])
    command: list[object] = ["index", collection / "model0.ckpt", "--data", "next.h5", "--device", "cpu"]
    if update:
        indexed.rename(tmp_path / "start")
    else:
        shutil.rmtree(indexed)
    kill_at_random(forks, tmp_path, [*command, *(["--update"] if update else []), "--out"], random.Random(13))


def test_what_was_encoded_is_not_encoded_again(forks: Forks, collection: Path, tmp_path: Path):
    begun = ["index", collection / "model0.ckpt", "--device", "cpu", "--out", "INDEX"]
    third = at_call("selfalign_cli.search.build.write_segment", 3, signal.SIGKILL, after=True)
    assert forks.run(*begun, cwd=tmp_path, before=SMALL + third).code == -signal.SIGKILL
    done = forks.run(*begun, cwd=tmp_path, before=SMALL)
    assert [line.split()[-1] for line in done.out.splitlines() if "before" in line] == ["6"]


def test_a_full_disk_leaves_the_index_as_it_was(indexed: Path, collection: Path, forks: Forks, tmp_path: Path):
    write_pictures(tmp_path / "next.h5", [record(row) for row in range(20)])
    before = content(indexed)
    full = (
        "import selfalign_cli.search.segment as s\ndef full(*_):\n    raise OSError(28, 'No space left on device')\n"
    )
    update = [
        "index",
        collection / "model0.ckpt",
        "--data",
        "next.h5",
        "--device",
        "cpu",
        "--out",
        "INDEX",
        "--update",
    ]
    done = forks.run(*update, cwd=tmp_path, before=full + "s.write_arrays = full\n")
    done.must_refuse("No space left", "free some space", code=1)
    assert content(indexed) == before


def test_an_index_can_be_moved(indexed: Path, tmp_path: Path):
    shutil.move(indexed, tmp_path / "elsewhere")
    index = Index.open(tmp_path / "elsewhere")
    assert index.retriever("cpu").unknown_words("a red zebra") == ["zebra"]
    with pytest.raises(DataError, match="does not exist"):
        Index.open(indexed)
