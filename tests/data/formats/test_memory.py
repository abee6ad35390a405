"""Conversion is a stream: its memory does not grow with the source."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.dialects import DIALECTS, make_pictures, write_captions
from support.processes import REPOSITORY

PROGRAM = """
import resource, sys
from pathlib import Path
from selfalign_cli.data.convert import convert_to_feature_file

def peak():
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024

def convert(folder, *sources):
    convert_to_feature_file([Path(source) for source in sources], Path(folder) / "out.h5",
                            captions=Path(folder) / "captions.json")

split = sys.argv.index("and")
convert(*sys.argv[1:split])
before = peak()
convert(*sys.argv[split + 1 :])
print(peak() - before)
"""
PICTURES, GROWTH = 96, 5  # pictures of 128 KiB, and MiB


@pytest.mark.parametrize("name", ["bottom-up-attention", "self-critical", "MMF", "BAN", "nocaps", "own"])
def test_memory_does_not_grow_with_the_source(tmp_path, name):
    """8 pictures, 1 MiB; then 96, 12 MiB: the second conversion may take 5 MiB more than the first."""
    arguments = []
    for count in (8, PICTURES):
        folder = tmp_path / str(count)
        folder.mkdir()
        pictures = make_pictures([32] * count, width=1024)
        write_captions(folder / "captions.json", pictures)
        arguments += [folder, *DIALECTS[name].write(folder, pictures), "and"]
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments[:-1])]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert int(done.stdout) <= GROWTH
