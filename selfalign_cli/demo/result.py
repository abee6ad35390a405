"""Results of a demo: scores of every arm and seed, their spread, paired differences, and tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from selfalign_cli.demo.arms import EQUAL_TIME, SELFALIGN, Arm, Contrast, contrasts
from selfalign_cli.metrics.cutoffs import DIRECTIONS, RECALL_TITLES, RECALLS
from selfalign_cli.metrics.seeds import student_interval

METRICS = (*(f"{direction}.{name}" for direction in DIRECTIONS for name in RECALLS), "rsum")
_FIRST, *_FURTHER = RECALL_TITLES
HEADER = ("test", f"i→t {_FIRST}", *_FURTHER, f"t→i {_FIRST}", *_FURTHER, "rsum", "epochs", "time")
FEW = 200
"""Test pictures below which the demo says how coarse its numbers are."""
DIFFERENCE_METRICS = ("i2t.r1", "t2i.r1", "rsum")
DIFFERENCE_HEADER = ("difference", "i→t R@1", "t→i R@1", "rsum")


@dataclass(frozen=True)
class ArmResult:
    """One arm, trained with one seed.

    Attributes:
        arm: the arm.
        seed: run.seed.
        epochs: passes over the training captions.
        best_epoch: the epoch of the scored weights, selected on dev.
        dev_rsum: rsum of these weights on dev.
        seconds: training time, see `training_seconds`.
        scores: `METRICS` on test, in percent.
        recipe: hash of the recipe.
        signature: of the scores.
        checkpoint: path inside the folder of the demo.
        embeddings: path inside the folder of the demo.
    """

    arm: Arm
    seed: int
    epochs: int
    best_epoch: int
    dev_rsum: float
    seconds: float
    scores: dict[str, float]
    recipe: str
    signature: str
    checkpoint: str
    embeddings: str

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {**self.__dict__, "arm": self.arm.name, "seconds": round(self.seconds, 3)}


@dataclass(frozen=True)
class SeedDifference:
    """Mean difference of two arms over seeds, where the runs of each pair have the same seed.

    Attributes:
        contrast: the arms.
        metric: a name of `METRICS`.
        mean: in points.
        sd: over seeds; None for one seed.
        low: lower end of the 95% interval of the mean (Student t over seeds); None for one seed.
        high: upper end.
    """

    contrast: Contrast
    metric: str
    mean: float
    sd: float | None
    low: float | None
    high: float | None

    @property
    def cell(self) -> str:
        """The difference as a table shows it."""
        interval = "" if self.low is None or self.high is None else f" [{self.low:+.1f}, {self.high:+.1f}]"
        return f"{self.mean:+.1f}{interval}"

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        arms = {"arm": self.contrast.arm.name, "reference": self.contrast.reference.name}
        return {**self.__dict__, "contrast": self.contrast.label, **arms}


@dataclass(frozen=True)
class DemoResult:
    """All results of a demo.

    Attributes:
        out: its folder.
        model: the host.
        arms: the compared arms.
        results: one per seed and arm.
        versions: of the libraries, and the machine.
        data: `scenes`, or `own` for a user's pictures.
    """

    out: Path
    model: str
    arms: tuple[Arm, ...]
    results: tuple[ArmResult, ...]
    versions: dict[str, Any]
    data: str = "scenes"

    @property
    def features(self) -> Path:
        """The feature file."""
        return self.out / "data" / f"{self.data}.h5"

    @property
    def report(self) -> Path:
        """The page about all arms."""
        return self.out / "report.html"

    @property
    def index(self) -> Path:
        """The index of the test pictures."""
        return self.out / "index"

    @property
    def seeds(self) -> list[int]:
        """The seeds, in order."""
        return sorted({result.seed for result in self.results})

    def of(self, arm: Arm) -> list[ArmResult]:
        """The results of an arm, by seed."""
        return sorted((result for result in self.results if result.arm == arm), key=lambda result: result.seed)

    def differences(self) -> list[SeedDifference]:
        """Every contrast in every metric."""
        return [self._difference(contrast, metric) for contrast in contrasts(self.arms) for metric in METRICS]

    def rows(self) -> list[tuple[str, ...]]:
        """Table rows under `HEADER`: scores of one seed, or means over seeds with their standard deviation."""
        return [
            (
                arm.label,
                *(_spread([result.scores[metric] for result in self.of(arm)]) for metric in METRICS),
                str(self.of(arm)[0].epochs),
                f"{self._seconds(arm):.0f} s",
            )
            for arm in self.arms
        ]

    def difference_rows(self) -> list[tuple[str, ...]]:
        """Table rows under `DIFFERENCE_HEADER`."""
        found = self.differences()
        return [
            (
                contrast.label,
                *(part.cell for part in found if part.contrast == contrast and part.metric in DIFFERENCE_METRICS),
            )
            for contrast in contrasts(self.arms)
        ]

    def locations(self) -> list[tuple[str, str]]:
        """Output paths, by what they contain; last the page to open and the command to serve."""
        return [
            ("data", f"{self.out / 'data'}"),
            ("checkpoints", f"{self.out / 'runs'}/ARM-SEED/best.ckpt"),
            ("embeddings", f"{self.out / 'embeddings'}/ARM-SEED.h5"),
            ("scores, ranks", f"{self.out / 'results'}/ARM-SEED.json"),
            ("all numbers", f"{self.out / 'results' / 'demo.json'}"),
            ("open", f"{self.report}"),
            ("serve", f"selfalign serve {self.index}"),
        ]

    def notes(self) -> list[str]:
        """Remarks on the tables, one sentence each."""
        seeds = len(self.seeds)
        return [
            f"time: optimizer steps, reading batches and saving, on {self.versions['threads']} threads; "
            "making data and validation are not in it",
            *self._notes_on_equal_time(),
            *self._notes_on_few_pictures(),
            "weights: of the epoch with the largest rsum on dev; test was not looked at before",
            "one seed: repeat with --seeds 5 to see how far these differences move with the seed"
            if seeds == 1
            else f"± standard deviation, [95% interval of the mean difference] (Student t), over {seeds} seeds",
        ]

    def _notes_on_equal_time(self) -> list[str]:
        if EQUAL_TIME not in self.arms:
            return []
        ours, plain = self.of(SELFALIGN)[0].epochs, self.of(EQUAL_TIME)[0].epochs
        return [
            f"equal time: {plain} epochs of the baseline took {self._seconds(EQUAL_TIME):.0f} s, {ours} of SelfAlign "
            f"{self._seconds(SELFALIGN):.0f} s; the recipes fix these numbers of epochs"
        ]

    def _notes_on_few_pictures(self) -> list[str]:
        """For own pictures: how much one test picture moves the numbers."""
        if self.data == "scenes":
            return []
        images = next(int(part[7:]) for part in self.results[0].signature.split("|") if part.startswith("images:"))
        if images >= FEW:
            return []
        return [f"recalls of {images:,} test pictures say little: a single one moves R@1 by {100 / images:.1f} points"]

    @property
    def signature(self) -> str:
        """All that is needed to reproduce the table; recipes are those of the first seed, arm by arm."""
        first, last = self.seeds[0], self.seeds[-1]
        recipes = [result.recipe for arm in self.arms for result in self.of(arm) if result.seed == first]
        parts = [part for part in self.results[0].signature.split("|") if not part.startswith("model:")]
        shared = "|".join(parts).replace(f"recipe:{recipes[0]}", f"recipe:{'+'.join(recipes)}")
        return f"{shared}|seeds:{first}" + (f"-{last}" if last > first else "")

    def to_json(self) -> dict[str, Any]:
        """The document of `results/demo.json`. Two equal demos differ in `seconds` only."""
        return {
            "format": "selfalign-demo",
            "version": 1,
            "versions": self.versions,
            "model": self.model,
            "seeds": self.seeds,
            "signature": self.signature,
            "arms": [
                {
                    "name": a.name,
                    "label": a.label,
                    "recipe": f"{self.model}_{self.data}{a.ending}.yaml",
                    "overrides": list(a.overrides),
                }
                for a in self.arms
            ],
            "results": [result.to_json() for result in self.results],
            "summary": [self._summary(arm) for arm in self.arms],
            "differences": [difference.to_json() for difference in self.differences()],
        }

    def _difference(self, contrast: Contrast, metric: str) -> SeedDifference:
        pairs = zip(self.of(contrast.arm), self.of(contrast.reference), strict=True)
        values = [ours.scores[metric] - theirs.scores[metric] for ours, theirs in pairs]
        if len(values) == 1:
            return SeedDifference(contrast, metric, values[0], None, None, None)
        return SeedDifference(contrast, metric, fmean(values), stdev(values), *student_interval(values))

    def _summary(self, arm: Arm) -> dict[str, Any]:
        columns = {metric: [result.scores[metric] for result in self.of(arm)] for metric in METRICS}
        columns["seconds"] = [round(result.seconds, 3) for result in self.of(arm)]
        return {
            "arm": arm.name,
            "mean": {name: fmean(values) for name, values in columns.items()},
            "sd": {name: stdev(values) if len(values) > 1 else None for name, values in columns.items()},
        }

    def _seconds(self, arm: Arm) -> float:
        return fmean(result.seconds for result in self.of(arm))


def training_seconds(log: Path) -> float:
    """Total time of a run's optimizer steps, from its metrics.jsonl.

    It includes reading batches and saving checkpoints, and no validations. A resumed run counts its parts (the clock
    restarts at zero each time); repeated steps count once.

    Args:
        log: metrics.jsonl of a run.

    Returns:
        Seconds of wall time.
    """
    total = before = 0.0
    for text in log.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        since = line["seconds"] - before if line["seconds"] >= before else line["seconds"]
        total += since if line["kind"] == "train" else 0.0
        before = line["seconds"]
    return total


def _spread(values: Sequence[float]) -> str:
    """One value, or mean and standard deviation."""
    return f"{values[0]:.1f}" if len(values) == 1 else f"{fmean(values):.1f} ±{stdev(values):.1f}"
