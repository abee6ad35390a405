"""Bytes of a child process, medians of alternating runs, multiply-adds, ratios."""

from __future__ import annotations

import os

import pytest
import torch

from selfalign_cli.bench.floors import image_training_work, image_work
from selfalign_cli.bench.inputs import TINY
from selfalign_cli.bench.machine import Rates, Work, product
from selfalign_cli.bench.measure import Memory, Sample, Setting, alternate, in_child, peak_extra
from selfalign_cli.bench.report import COLUMNS, MIB, Line
from selfalign_cli.errors import RunError

SETTING = Setting(1, torch.device("cpu"))


def prepare(held: int, taken: int):
    """Work that allocates `taken` MiB twice in a row, beside `held` MiB of inputs."""
    inputs = torch.ones(held * MIB // 4)

    def work() -> None:
        for _ in range(2):
            (inputs[:1] * torch.ones(taken * MIB // 4)).sum()

    return work


def prepare_result(made: int):
    """Work that returns so many MiB."""
    return lambda: (torch.ones(made * MIB // 4),)


def test_results_do_not_count_as_memory() -> None:
    (extra,) = peak_extra([Sample(prepare_result, (1,), (200,))], SETTING)
    assert extra < 20 * MIB


def test_memory_of_a_child_is_counted_beyond_its_inputs() -> None:
    """Two arrays of 64 MiB at a time, whatever the inputs; libraries may add a few MiB."""
    first, second = peak_extra([Sample(prepare, (1, 1), (200, 64)), Sample(prepare, (1, 1), (1, 16))], SETTING)
    assert 120 * MIB < first < 160 * MIB
    assert 28 * MIB < second < 60 * MIB


def test_the_peak_can_be_reset() -> None:
    memory = Memory(torch.device("cpu"))
    large = torch.ones(100 * MIB // 4)
    assert memory.peak() >= memory.now() - MIB  # the kernel counts a few pages late
    del large
    memory.reset()
    assert memory.peak() - memory.now() < 50 * MIB


def test_a_child_that_dies_is_an_error() -> None:
    with pytest.raises(RunError, match="child process"):
        in_child(os._exit, 9)


def test_variants_run_in_turn() -> None:
    calls: list[str] = []
    seconds = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, SETTING)
    assert set(seconds) == {"a", "b"}
    assert calls[:6] == ["a", "b"] * 3


def test_without_time_left_every_variant_has_run() -> None:
    calls: list[str] = []
    alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, SETTING, budget=0.0)
    assert {"a", "b"} <= set(calls)
    assert len(calls) < 10


def test_work_of_a_product() -> None:
    """2 x 3 by 3 x 4: 24 products and sums each; 6 + 12 + 8 numbers of 4 bytes."""
    assert product(2, 3, 4) == Work(48.0, 104.0)
    assert Rates(flops=24.0, bytes=1000.0).floor(product(2, 3, 4)) == 2.0
    assert Rates(flops=1e9, bytes=52.0).floor(product(2, 3, 4)) == 2.0


def test_folding_counts_only_where_it_saves() -> None:
    """30 regions of width 16: two maps of 30 rows less, two products of 16 rows more."""
    saved = image_work(TINY, maps=4).flops - image_training_work(TINY).flops
    assert saved == 4 * (2 * 2 * 30 * 16 * 16 - 2 * 2 * 16**3)


def test_ratios_of_a_line() -> None:
    line = Line("loss", 2.0, 1.0, 8.0, memory=MIB, plain_memory=10 * MIB, numbers={"queries_per_second": 5.0})
    found = line.to_json()
    assert (found["times_floor"], found["plain_over_ours"], found["memory_of_plain"]) == (2.0, 4.0, 0.1)
    assert found["queries_per_second"] == 5.0
    assert "note" not in found
    assert len(line.cells()) == len(COLUMNS)
    assert line.cells()[1:8] == ["2 s", "1 s", "2", "8 s", "4", "1", "10"]


def test_small_times_keep_their_digits() -> None:
    assert Line("x", 0.0123).cells()[1] == "12.3 ms"
    assert Line("x", 0.0000123).cells()[1] == "12.3 µs"
    assert Line("x", 123.4).cells()[1] == "123 s"
