"""Conversions that cannot end: nothing looks finished, and what was there before stays."""

from __future__ import annotations

import fcntl
import random
import signal
import time
from pathlib import Path

import pytest
from support.dialects import DIALECTS, make_pictures, write_captions
from support.processes import at_call

from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.file import FeatureFile


@pytest.fixture
def command(tmp_path):
    """Arguments that convert twenty pictures."""
    pictures = make_pictures([2] * 20)
    captions = write_captions(tmp_path / "captions.json", pictures)
    (source,) = DIALECTS["bottom-up-attention"].write(tmp_path, pictures)
    return ["convert-features", source, "--captions", captions, "--out", "out.h5"]


READ = "selfalign_cli.data.formats.bua_tsv._decode"
STOPS = pytest.mark.parametrize(
    ("which", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)]
)


@STOPS
def test_stopped_midway(forks, command, tmp_path, which, code):
    expect_stop(forks, command, tmp_path, at_call(READ, 10, which), code)


@pytest.mark.parametrize(
    ("which", "code", "group"),
    [
        (signal.SIGKILL, -signal.SIGKILL, True),
        (signal.SIGTERM, -signal.SIGTERM, True),
        (signal.SIGINT, 130, True),
        (signal.SIGINT, 130, False),
    ],
)
def test_stopped_midway_in_the_child_that_reads_hdf5(forks, tmp_path, which, code, group):
    """The signal reaches both processes, as from a terminal, or the parent alone."""
    pictures = make_pictures([2] * 20)
    captions = write_captions(tmp_path / "captions.json", pictures)
    (source,) = DIALECTS["BUTD"].write(tmp_path, pictures)
    command = ["convert-features", source, "--captions", captions, "--out", "out.h5"]
    before = at_call("selfalign_cli.data.formats.butd_hdf5._size", 10, which, group=group, parent=not group)
    expect_stop(forks, command, tmp_path, before, code)


def expect_stop(forks, command, folder, before, code):
    """Nothing looks finished; Ctrl-C leaves nothing at all; what is left otherwise goes with the next conversion."""
    files = set(folder.iterdir())
    assert forks.run(*command, cwd=folder, before=before).code == code
    left = set(folder.iterdir()) - files
    assert all(path.name.startswith(".out.h5.") for path in left)
    assert not left or code < 0
    assert forks.run(*command, cwd=folder).code == 0
    assert len(FeatureFile(folder / "out.h5")) == 20
    assert set(folder.iterdir()) == {*files, folder / "out.h5"}


def test_killed_at_any_instant(forks, command, tmp_path):
    """There is nothing under the name, or the whole file; and whatever is left over, the next one makes it whole."""
    out, chance = tmp_path / "out.h5", random.Random(0)
    began = time.monotonic()
    assert forks.run(*command, cwd=tmp_path).code == 0
    lasted, whole = time.monotonic() - began, out.read_bytes()
    left, files = 0, {path for path in tmp_path.iterdir() if path != out}
    for _ in range(12):
        out.unlink(missing_ok=True)
        running = forks.start(*command, cwd=tmp_path)
        time.sleep(chance.uniform(0, lasted))
        running.send(signal.SIGKILL)
        left += running.wait().code == -signal.SIGKILL
        assert not out.exists() or out.read_bytes() == whole
    assert left > 0
    assert forks.run(*command, "--overwrite", cwd=tmp_path).code == 0
    assert out.read_bytes() == whole
    assert set(tmp_path.iterdir()) == {*files, out}


def test_a_conversion_beside_it_is_left_alone(command, tmp_path):
    """Its half-written file is locked, and does not count as left over."""
    done = convert_to_feature_file([Path(command[1])], tmp_path / "out.h5", captions=tmp_path / "captions.json")
    abandoned, living = (tmp_path / f".out.h5.{number}.tmp" for number in (1, 2))
    abandoned.touch()
    with living.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        again = convert_to_feature_file(
            [Path(command[1])], tmp_path / "out.h5", captions=tmp_path / "captions.json", overwrite=True
        )
    assert again.content_hash == done.content_hash
    assert (abandoned.exists(), living.exists()) == (False, True)


def test_stopped_while_replacing_an_older_file(forks, command, tmp_path):
    assert forks.run(*command, "--splits", "dev", cwd=tmp_path).code == 0
    before = (tmp_path / "out.h5").read_bytes()
    forks.run(*command, "--overwrite", cwd=tmp_path, before=at_call(READ, 10, signal.SIGKILL))
    assert (tmp_path / "out.h5").read_bytes() == before


def test_a_fault_in_the_last_line_leaves_nothing(forks, command, tmp_path):
    path = Path(command[1])
    content = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(content[:-1]) + content[-1][:-12] + b"!" + content[-1][-11:])
    before = sorted(tmp_path.iterdir())
    forks.run(*command, cwd=tmp_path).must_refuse("line 20 has features that are not base64")
    assert sorted(tmp_path.iterdir()) == before
