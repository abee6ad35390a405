"""Conversions that cannot end: nothing looks finished, and what was there before stays."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.dialects import DIALECTS, make_pictures, write_captions
from support.processes import Forks, at_call

from selfalign_cli.data.features import FeatureFile


@pytest.fixture(scope="module")
def forks(tmp_path_factory) -> Iterator[Forks]:
    forks = Forks(tmp_path_factory.mktemp("printed"))
    yield forks
    forks.close()


@pytest.fixture
def command(tmp_path):
    """Arguments that convert twenty pictures."""
    pictures = make_pictures([2] * 20)
    captions = write_captions(tmp_path / "captions.json", pictures)
    (source,) = DIALECTS["bottom-up-attention"].write(tmp_path, pictures)
    return ["convert-features", source, "--captions", captions, "--out", "out.h5"]


READ = "selfalign_cli.data.formats.bua_tsv._decode"


@pytest.mark.parametrize(
    ("which", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)]
)
def test_stopped_midway(forks, command, tmp_path, which, code):
    done = forks.run(*command, cwd=tmp_path, before=at_call(READ, 10, which))
    assert done.code == code
    assert not (tmp_path / "out.h5").exists()
    assert forks.run(*command, cwd=tmp_path).code == 0
    assert len(FeatureFile(tmp_path / "out.h5")) == 20


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


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("a disk can be made by root only, where mounting is allowed")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk(forks, tmp_path, small_disk):
    pictures = make_pictures([50] * 20, width=64)
    captions = write_captions(tmp_path / "captions.json", pictures)
    (source,) = DIALECTS["bottom-up-attention"].write(tmp_path, pictures)
    done = forks.run("convert-features", source, "--captions", captions, "--out", small_disk / "out.h5", cwd=tmp_path)
    assert done.code == 1
    assert done.err.splitlines()[-2].startswith("error: could not finish writing")
    assert "Traceback" not in done.err
    assert list(small_disk.iterdir()) == []
