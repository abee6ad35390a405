"""Run as a program: `selfalign` with R@50 among its recalls, by the one change in its source.

Arguments are a recipe and a folder to work in. Trains, scores, compares; prints what was shown, as one JSON document.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType

NAME = "selfalign_cli.metrics.cutoffs"
SOURCE = Path(__file__).parents[2] / "selfalign_cli/metrics/cutoffs.py"


def change_the_cutoffs() -> None:
    """Replace the module by a changed copy, before anything imports it."""
    source = SOURCE.read_text(encoding="utf-8")
    changed, count = re.subn(r"(?m)^(CUTOFFS = \(.*)\)$", r"\1, 50)", source)
    assert count == 1
    module = ModuleType(NAME)
    exec(compile(changed, SOURCE, "exec"), module.__dict__)
    sys.modules[NAME] = module


def selfalign(*arguments: str) -> str:
    from typer.testing import CliRunner

    from selfalign_cli.cli.app import app

    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def demo(embeddings: Path) -> dict[str, object]:
    """The tables and the document of a demo whose arms all score like these embeddings."""
    from selfalign_cli.demo.arms import ARMS
    from selfalign_cli.demo.result import HEADER, ArmResult, DemoResult
    from selfalign_cli.demo.run import scores_of
    from selfalign_cli.scoring.evaluate import score_files

    report = score_files([embeddings], device="cpu").report
    arms = [
        ArmResult(arm, 1, 2, 2, 0.0, 1.0, scores_of(report), "recipe", report.signature, "best.ckpt", "e.h5")
        for arm in ARMS
    ]
    result = DemoResult(Path("demo"), "vsrn", ARMS, tuple(arms), {"threads": 1})
    return {"header": HEADER, "rows": result.rows(), "document": result.to_json()}


def main(recipe: str, folder: str) -> None:
    change_the_cutoffs()
    os.chdir(folder)
    shown: dict[str, object] = {"train": selfalign("train", recipe, "--device", "cpu")}
    shown["eval"] = selfalign("eval", "run/best.ckpt", "--device", "cpu")
    document = selfalign("eval", "run/best.ckpt", "--device", "cpu", "--json", "--ranks")
    Path("eval.json").write_text(document, encoding="utf-8")
    selfalign("export-embeddings", "run/best.ckpt", "--out", "test.h5", "--device", "cpu")
    shown["document"] = json.loads(document)
    shown["compare"] = selfalign("compare", "eval.json", "eval.json")
    shown["demo"] = demo(Path("test.h5"))
    print(json.dumps(shown))


if __name__ == "__main__":
    main(*sys.argv[1:])
