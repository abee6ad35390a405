"""What a demo ends with: a report to open, and an index to search in."""

from __future__ import annotations

from selfalign_cli.demo.arms import SELFALIGN
from selfalign_cli.demo.result import DemoResult
from selfalign_cli.demo.world import WorldView
from selfalign_cli.explain.page import write_page
from selfalign_cli.report.inputs import read_inputs
from selfalign_cli.report.page import ReportOptions, report_page
from selfalign_cli.search.build import build_index
from selfalign_cli.search.layout import MANIFEST
from selfalign_cli.search.sources import open_feature_source

DEVICE = "cpu"
EXAMPLES = 6


def write_pages(result: DemoResult, view: WorldView) -> None:
    """Index pictures with SelfAlign of the first seed, and report on all arms of that seed.

    Of scenes, the test pictures; of a user's own pictures, all, for these are what one wants to search in.

    Raises:
        SelfAlignError: something of the demo was changed meanwhile, or the disk is full.
    """
    first = [part for part in result.results if part.seed == result.seeds[0]]
    model = next(part for part in first if part.arm == SELFALIGN)
    view.stage(f"index: {result.index}")
    split = "test" if result.data == "scenes" else None
    known = (result.index / MANIFEST).exists()
    source = open_feature_source(result.out / model.checkpoint, result.features, split, device=DEVICE)
    build_index(source, result.index, mode="update" if known else "new", progress=view.counting)
    view.stage(f"report: {result.report}")
    folders = [(result.out / part.checkpoint).parent for part in first]
    documents = [result.out / "results" / f"{folder.name}.json" for folder in folders]
    runs, results = read_inputs([*folders, *documents], view.stage)
    options = ReportOptions(data=result.features, examples=EXAMPLES, device=DEVICE)
    write_page(result.report, report_page(runs, results, options, _ignore))


def _ignore(message: str) -> None:
    """The report says what it is about."""
