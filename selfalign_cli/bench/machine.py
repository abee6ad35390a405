"""The machine of a measurement: its processor, and its rates of multiplying and copying."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from selfalign_cli.bench.measure import Setting, alternate

GIB = 1 << 30


@dataclass(frozen=True)
class Work:
    """The least a computation can do.

    Attributes:
        flops: multiplications and additions.
        bytes: moved between memory and processor, every operand once.
    """

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: float) -> Work:
        return Work(self.flops * times, self.bytes * times)


@dataclass(frozen=True)
class Rates:
    """Rates of this machine, measured in the same run.

    Attributes:
        flops: per second, in a large float32 matrix product.
        bytes: per second, read and written by a copy.
    """

    flops: float
    bytes: float

    def floor(self, work: Work) -> float:
        """Lower bound of the seconds that this machine needs for the work."""
        return max(work.flops / self.flops, work.bytes / self.bytes)


def product(rows: int, inner: int, columns: int) -> Work:
    """A (rows, inner) by (inner, columns) matrix product in float32."""
    return Work(2.0 * rows * inner * columns, 4.0 * (rows * inner + inner * columns + rows * columns))


def measure_rates(setting: Setting, *, size: int) -> Rates:
    """Time a product of two square matrices, and a copy.

    Args:
        setting: threads and device.
        size: rows and columns; 2,048 reaches the full speed of a processor.
    """
    left, right = (torch.randn(size, size, device=setting.device) for _ in range(2))
    out = torch.empty(size, size, device=setting.device)
    source = torch.zeros(16 * size * size, device=setting.device)
    target = torch.zeros_like(source)
    seconds = alternate(
        {"product": lambda: torch.mm(left, right, out=out), "copy": lambda: target.copy_(source)}, setting
    )
    return Rates(2.0 * size**3 / seconds["product"], 2.0 * 4 * source.numel() / seconds["copy"])


def describe(setting: Setting) -> dict[str, str | int | float]:
    """Facts about the machine and versions, by which measurements can be compared."""
    described: dict[str, str | int | float] = {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": setting.threads,
        "device": setting.device.type,
    }
    if setting.device.type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(setting.device)
    return described


def _processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
