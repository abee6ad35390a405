"""Put a report together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfalign_cli import __version__
from selfalign_cli.assembly.retriever import Retriever
from selfalign_cli.errors import SelfAlignError
from selfalign_cli.pages.regions import tint
from selfalign_cli.pages.render import render
from selfalign_cli.recipe.hashes import recipe_hash
from selfalign_cli.recipe.load import load_recipe
from selfalign_cli.report.curves import dev_charts, loss_charts
from selfalign_cli.report.examples import Examples, make_examples
from selfalign_cli.report.inputs import Result, Run, result_of
from selfalign_cli.report.published import ROWS, benchmark_of
from selfalign_cli.report.table import Table, make_table
from selfalign_cli.scoring.embed import EncodingOptions
from selfalign_cli.scoring.evaluate import Evaluation, score_files


@dataclass(frozen=True)
class ReportOptions:
    """How a report is made.

    Attributes:
        data: feature file in place of the one that checkpoints name.
        split: that is scored and shown.
        pictures: folders of the pictures.
        examples: captions of each sort; 0 for none.
        explanations: of each sort.
        device: where to encode.
    """

    data: Path | None = None
    split: str = "test"
    pictures: tuple[Path, ...] = ()
    examples: int = 6
    explanations: int = 2
    device: str = "auto"


def report_page(
    runs: Sequence[Run], results: Sequence[Result], options: ReportOptions, notify: Callable[[str], None]
) -> str:
    """The page as HTML.

    Runs whose label no result has are scored, and the best run on dev shows its answers; what cannot be scored, for
    its features are gone, is said and left out.
    """
    scored = _score(runs, results, options, notify)
    own = [*results, *(result for result, _ in scored.values())]
    examples = _examples(runs, scored, options, notify) if options.examples else None
    tables = _tables(own, runs)
    dev, losses = dev_charts(runs), loss_charts(runs)
    parts = {"recalls": tables, "curves": dev or losses, "examples": examples}
    titles = {"recalls": "Recalls", "curves": "Curves", "examples": "Found and missed"}
    return render(
        "report.html.j2",
        version=__version__,
        title=" · ".join(dict.fromkeys([*(run.label for run in runs), *(result.label for result in own)])),
        summary=_summary(runs, own),
        parts=[
            *((name, titles[name]) for name, part in parts.items() if part),
            *([("why", "Why")] if examples and examples.explained else []),
            ("signatures", "Signatures"),
        ],
        tables=tables,
        labels=[run.label for run in runs],
        dev=dev,
        losses=losses,
        examples=examples,
        signatures=[(result.label, result.signature) for result in own],
        runs=[(run.label, _facts(run)) for run in runs],
        tint=tint,
    )


def _score(
    runs: Sequence[Run], results: Sequence[Result], options: ReportOptions, notify: Callable[[str], None]
) -> dict[str, tuple[Result, Evaluation]]:
    """Results of the runs that no document was named for."""
    found = {}
    for run in runs:
        if run.checkpoint is None or run.label in {result.label for result in results}:
            continue
        notify(f"scoring {run.checkpoint} on {options.split}")
        try:
            scored = _evaluate(run.checkpoint, options, notify)
        except SelfAlignError as fault:
            notify(f"{run.label} is not scored: {fault.message}")
            continue
        found[run.label] = (result_of(scored.report.to_json(), run.label, str(run.checkpoint)), scored)
    return found


def _evaluate(checkpoint: Path, options: ReportOptions, notify: Callable[[str], None]) -> Evaluation:
    encoding = EncodingOptions(options.split, options.data)
    return score_files([checkpoint], encoding, device=options.device, notify=notify)


def _examples(
    runs: Sequence[Run],
    scored: dict[str, tuple[Result, Evaluation]],
    options: ReportOptions,
    notify: Callable[[str], None],
) -> Examples | None:
    """The answers of the run that is best on dev."""
    able = [run for run in runs if run.checkpoint is not None and run.best is not None]
    if not able:
        return None
    run = max(able, key=lambda one: float(one.best["rsum"]))  # type: ignore[index]
    assert run.checkpoint is not None
    notify(f"examples of {run.label}")
    try:
        answers = scored[run.label][1] if run.label in scored else _evaluate(run.checkpoint, options, notify)
        retriever = Retriever.load(run.checkpoint, device=options.device)
        file = retriever.open_features(options.data)
        return make_examples(
            run.label,
            answers,
            retriever,
            file,
            wanted=options.examples,
            explanations=options.explanations,
            given=options.pictures,
            notify=notify,
        )
    except SelfAlignError as fault:
        notify(f"no examples of {run.label}: {fault.message}")
        return None


def _tables(results: Sequence[Result], runs: Sequence[Run]) -> list[Table]:
    """A table for each set of queries, in the order of the results."""
    names = " ".join(str(part) for run in runs for part in (run.folder, _features(run)))
    groups: dict[tuple[object, ...], list[Result]] = {}
    for result in results:
        groups.setdefault((result.split, result.images, result.captions, result.folds), []).append(result)
    tables = []
    for group in groups.values():
        benchmark = benchmark_of(group[0], f"{names} {' '.join(result.label for result in group)}")
        tables.append(make_table(group, ROWS[benchmark] if benchmark else (), benchmark))
    return tables


def _summary(runs: Sequence[Run], results: Sequence[Result]) -> str:
    counted = [f"{len(runs)} run{'s' * (len(runs) != 1)}", f"{len(results)} result{'s' * (len(results) != 1)}"]
    return f"{' and '.join(counted)}; made by selfalign {__version__}"


def _facts(run: Run) -> str:
    """Recipe and progress of a run, in one line."""
    parts = [str(run.folder)]
    try:
        parts.append(f"recipe:{recipe_hash(load_recipe(run.folder / 'recipe.yaml'))}")
    except SelfAlignError:
        parts.append("recipe: not readable")
    last = max((line["step"] for line in (*run.train, *run.validation)), default=0)
    best = run.best
    parts.append(f"steps:{last}")
    if best is not None:
        parts.append(f"best epoch:{best['epoch']} with dev rsum {best['rsum']:.1f}")
    return "|".join(parts)


def _features(run: Run) -> str:
    try:
        return str(load_recipe(run.folder / "recipe.yaml").data.features)
    except SelfAlignError:
        return ""
