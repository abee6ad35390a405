"""Losses and dev recalls over the steps of all runs, one small chart for each number."""

from __future__ import annotations

from collections.abc import Sequence

from selfalign_cli.metrics.cutoffs import RECALLS
from selfalign_cli.pages.charts import Chart, line_chart
from selfalign_cli.report.inputs import Line, Run

BOOKKEEPING = {"kind", "step", "epoch", "seconds", "grad_norm", "learning_rate"}
DIRECTIONS = {"i2t": "i→t", "t2i": "t→i"}


def dev_charts(runs: Sequence[Run]) -> list[Chart]:
    """rsum and the recalls of the dev split; the best point of every run is marked."""
    named = {"rsum": "rsum"}
    named |= {f"{side}_{name}": f"{arrow} R@{name[1:]}" for side, arrow in DIRECTIONS.items() for name in RECALLS}
    charts = [_chart(f"dev {title}", name, runs, "validation", marked=True) for name, title in named.items()]
    return [chart for chart in charts if chart is not None]


def loss_charts(runs: Sequence[Run]) -> list[Chart]:
    """The total loss and each term of any run."""
    names = dict.fromkeys(name for run in runs for line in run.train for name in line if name not in BOOKKEEPING)
    ordered = [*(["total"] if "total" in names else []), *(name for name in names if name != "total")]
    charts = [_chart(f"loss: {name.replace('_', ' ')}", name, runs, "train") for name in ordered]
    return [chart for chart in charts if chart is not None]


def _chart(title: str, name: str, runs: Sequence[Run], kind: str, *, marked: bool = False) -> Chart | None:
    def points(lines: Sequence[Line]) -> list[tuple[float, float]]:
        return [(float(line["step"]), float(line[name])) for line in lines if name in line]

    series = [(run.label, number, points(getattr(run, kind))) for number, run in enumerate(runs)]
    return line_chart(title, series, marked=marked)
