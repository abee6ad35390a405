"""Conversion of a large source to a feature file: peak memory, and speed beside a plain loop that copies the rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from selfalign_cli.bench.inputs import SEED, captions
from selfalign_cli.bench.machine import GIB, Rates
from selfalign_cli.bench.measure import Memory, Setting, in_child, seconds_of
from selfalign_cli.bench.report import Line
from selfalign_cli.data.convert import convert_to_feature_file

PER_IMAGE = 5
ROUNDS = 2
CHUNK = 64
"""Pictures of the source that are generated at once."""


@dataclass(frozen=True)
class SourceSize:
    """A SCAN folder of one split, float32.

    Attributes:
        images: N.
        regions: per picture.
        features: F.
    """

    images: int
    regions: int
    features: int

    @property
    def bytes(self) -> int:
        """Size of the features."""
        return 4 * self.images * self.regions * self.features


SIZES = {
    "tiny": SourceSize(20, 5, 12),
    "small": SourceSize(1000, 36, 512),
    "published": SourceSize(15_000, 36, 2048),
}


def run(
    name: str, setting: Setting, rates: Rates, notify: Callable[[str], None]
) -> tuple[dict[str, object], list[Line]]:
    """Measure at a size of `SIZES`; needs about twice the source in the folder for temporary files (TMPDIR).

    Returns:
        The dimensions, and one line.
    """
    size = SIZES[name]
    with TemporaryDirectory(prefix="selfalign-bench-") as folder:
        source = Path(folder) / "source"
        notify(f"making a source of {size.bytes / GIB:.1f} GiB")
        make_source(source, size)
        taken: dict[str, list[float]] = {"ours": [], "plain": []}
        peak = 0
        for number in range(ROUNDS):
            notify(f"converting, round {number + 1} of {ROUNDS}")
            seconds, highest = in_child(convert, source, Path(folder) / "ours.h5", setting)
            taken["ours"].append(seconds)
            taken["plain"].append(in_child(copy, source, Path(folder) / "plain.bin", setting))
            peak = max(peak, highest)
    best = {variant: min(seconds) for variant, seconds in taken.items()}
    numbers = {f"{variant}_rows_per_second": size.images * size.regions / best[variant] for variant in best}
    note = f"{size.bytes / GIB:.1f} GiB, the faster of {ROUNDS}; memory: all of the process; plain: np.load and write"
    line = Line("convert-features", best["ours"], plain=best["plain"], memory=peak, numbers=numbers, note=note)
    return {**asdict(size), "source_bytes": size.bytes}, [line]


def make_source(folder: Path, size: SourceSize) -> None:
    """Write a SCAN folder with the split `train`, some pictures at a time."""
    folder.mkdir()
    shape = (size.images, size.regions, size.features)
    array = np.lib.format.open_memmap(folder / "train_ims.npy", mode="w+", dtype=np.float32, shape=shape)
    generator = np.random.default_rng(SEED)
    block = generator.random((min(CHUNK, size.images), *shape[1:]), dtype=np.float32)
    for start in range(0, size.images, CHUNK):
        part = block[: size.images - start]
        part[:, 0] = generator.random((len(part), size.features), dtype=np.float32)  # no two pictures are equal
        array[start : start + CHUNK] = part
    array.flush()
    lines = captions(PER_IMAGE * size.images, 1000)
    (folder / "train_caps.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def convert(source: Path, out: Path, setting: Setting) -> tuple[float, int]:
    """Convert, in a child process.

    Returns:
        Seconds, and the peak resident memory of the process in bytes.
    """
    setting.enter()
    memory = Memory(setting.device)
    memory.reset()
    seconds = seconds_of(lambda: convert_to_feature_file([source], out, overwrite=True), setting)
    return seconds, memory.peak()


def copy(source: Path, out: Path, setting: Setting) -> float:
    """Copy the features row by row out of a memory map into a file, without checking them; returns seconds."""

    def work() -> None:
        array = np.load(source / "train_ims.npy", mmap_mode="r")
        with out.open("wb") as stream:
            for picture in array:
                stream.write(np.ascontiguousarray(picture).data)
            stream.flush()
            os.fsync(stream.fileno())

    return seconds_of(work, setting)
