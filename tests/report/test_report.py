"""`selfalign report`: what it reads and refuses, what it counts, and the page as a browser shows it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from support.browser import Browser
from support.world import World
from typer.testing import CliRunner

from selfalign_cli.cli.app import app
from selfalign_cli.errors import DataError
from selfalign_cli.pages.charts import MOST_POINTS, line_chart, thin, ticks
from selfalign_cli.report.examples import choose
from selfalign_cli.report.inputs import METRICS, Result, read_inputs, read_run, result_of
from selfalign_cli.report.published import ROWS, benchmark_of
from selfalign_cli.report.table import make_table


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(part) for part in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def evaluated(unbroken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `eval --json` prints of the run, named `ours.json`."""
    code, out, err = invoke("eval", unbroken / "best.ckpt", "--json", "--device", "cpu")
    assert code == 0, err
    path = tmp_path_factory.mktemp("evaluated") / "ours.json"
    path.write_text(out)
    return path


def test_the_page_in_a_browser(unbroken: Path, evaluated: Path, browser: Browser, tmp_path: Path):
    out = tmp_path / "report.html"
    code, printed, err = invoke("report", unbroken, evaluated, "--out", out, "--examples", 2, "--device", "cpu")
    assert (code, printed) == (0, ""), err
    page = browser.page().open(out)
    document = json.loads(evaluated.read_text())
    for label in ("ours", "run"):  # named, and scored by the report itself: the same numbers
        row = page.run(
            f"[...document.querySelectorAll('.numbers tr')].find(r => r.innerText.startsWith('{label}')).innerText"
        )
        assert f"{document['i2t']['r1']:.1f} ±" in row
        assert re.search(rf"\t{document['rsum']:.1f} ±", row)
    assert page.count(".chart") == 7 + 6  # rsum and six recalls; the total and five terms
    assert page.count(".chart path.curve") == page.count(".chart")
    assert page.count(".example") == 4
    assert page.run("[...document.querySelectorAll('.example')].every(e => e.querySelectorAll('.right').length === 1)")
    assert page.run("[...document.images].every(i => i.naturalWidth > 0 && i.src.startsWith('data:'))")
    assert page.count(".why") == 2 + 2 * 2
    page.click(".why summary")
    assert page.run("document.querySelector('details').open")
    assert page.run("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size") == page.count("[id]")
    assert document["signature"] in page.text()
    assert ("image", page.run("document.querySelector('.chart svg').getAttribute('aria-label')")) in page.spoken()
    assert (page.requests, page.faults) == ([out.as_uri()], [])


def test_a_run_whose_features_are_gone_still_has_curves(unbroken: Path, tmp_path: Path):
    run = tmp_path / "<b>moved"
    shutil.copytree(unbroken, run)
    code, _, err = invoke("report", run, "--out", tmp_path / "r.html", "--data", tmp_path / "gone.h5")
    assert code == 0
    assert "is not scored: there is no feature file" in err
    page = (tmp_path / "r.html").read_text()
    assert page.count('<figure class="chart card">') == 13
    assert "&lt;b&gt;moved" in page
    assert "<b>moved" not in page


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no"),
        ("{", "is not JSON"),
        ("[]", "holds a list"),
        ('{"split": "test"}', "is no result of selfalign eval"),
        (json.dumps({"i2t": {"r1": 101}}), "a recall of 101 %"),
    ],
)
def test_what_is_no_result_is_refused(content: str | None, reason: str, tmp_path: Path):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    code, out, err = invoke("report", path, "--out", tmp_path / "r.html")
    assert (code, out) == (2, "")
    assert reason in err
    assert not (tmp_path / "r.html").exists()


def test_a_log_is_read_with_care(tmp_path: Path):
    log = tmp_path / "metrics.jsonl"
    with pytest.raises(DataError, match=r"is no run folder: no metrics\.jsonl"):
        read_run(tmp_path, "x")
    step = '{"kind": "train", "step": 2, "epoch": 1, "total": 3.5, "seconds": 1}\n'
    log.write_text(step + '{"kind": "validation", "step": 2, "ep')  # cut by a kill
    run = read_run(tmp_path, "x")
    assert ([line["total"] for line in run.train], run.validation, run.best) == ([3.5], (), None)
    log.write_text(step + "nonsense\n" + step)
    with pytest.raises(DataError, match="line 2 is damaged"):
        read_run(tmp_path, "x")


def test_names_tell_files_apart(world: World, unbroken: Path, evaluated: Path, tmp_path: Path):
    other = tmp_path / "other" / "ours.json"
    other.parent.mkdir()
    shutil.copy(evaluated, other)
    demo = tmp_path / "demo.json"
    demo.write_text('{"format": "selfalign-demo"}')
    said: list[str] = []
    runs, results = read_inputs([unbroken, evaluated, other, demo], said.append)
    assert [run.label for run in runs] == ["run"]
    assert [result.label for result in results] == [f"{evaluated.parent.name}/ours", "other/ours"]
    assert len(said) == 1
    with pytest.raises(DataError, match="nothing to report on"):
        read_inputs([demo], said.append)


def result(images: int, folds: int = 1, **scores: float) -> Result:
    values = dict.fromkeys(METRICS, 50.0) | scores
    return Result("ours", "test", images, 5 * images, folds, values, {"rsum": (290.0, 310.0)}, 2, "s")


def test_published_rows_are_of_the_same_data_set():
    assert benchmark_of(result(1000), "data/f30k.h5") == "f30k"
    assert benchmark_of(result(1000), "scenes.h5") is None
    assert benchmark_of(result(5000, 5), "coco_testall.h5") == "coco-1k"
    assert benchmark_of(result(5000), "coco_testall.h5") == "coco-5k"
    assert benchmark_of(result(1000), "coco_testall.h5") is None
    table = make_table([result(1000, rsum=300.0)], ROWS["f30k"], "f30k")
    assert [row.detail for row in table.rows[:3]] == [
        "ensemble of 2",
        "published, ensemble of 2",
        "published, ensemble of 2",
    ]
    assert table.rows[0].cells[-1].text == "300.0 ±10.0"
    assert table.rows[1].cells[-1].text == "482.6"  # 71.3 + 90.6 + 96.0 + 54.7 + 81.8 + 88.2
    assert all(0 <= cell.at <= 100 for row in table.rows for cell in row.cells)
    assert len(table.sources) == 3


def test_rows_are_consistent():
    for rows in ROWS.values():
        for row in rows:
            assert all(
                0 < low < high <= 100
                for half in (row.recalls[:3], row.recalls[3:])
                for low, high in zip(half, half[1:], strict=False)
            )


def test_examples_are_drawn_by_their_text():
    texts = [f"caption {row}" for row in range(40)]
    ranks = [1, 5, 40, 2] * 10
    hits, near = choose(ranks, texts, 3)
    assert [ranks[row] for row in hits] == [1, 1, 1]
    assert all(1 < ranks[row] <= 10 for row in near)
    shuffled = list(reversed(range(40)))
    again, _ = choose([ranks[row] for row in shuffled], [texts[row] for row in shuffled], 3)
    assert [texts[shuffled[row]] for row in again] == [texts[row] for row in hits]


def test_charts():
    assert ticks(0, 1) == [0, 0.25, 0.5, 0.75, 1.0]
    assert ticks(3, 3) == [3, 4, 5, 6]
    assert ticks(-0.3, 880) == [-250, 0, 250, 500, 750, 1000]
    assert len(thin([(float(x), 1.0) for x in range(10_000)])) <= MOST_POINTS
    assert line_chart("empty", [("a", 0, []), ("b", 1, [(1.0, float("nan"))])]) is None
    chart = line_chart("up", [("a", 0, [(0.0, 0.0), (10.0, 4.0)])], marked=True)
    assert chart is not None
    assert chart.lines[0].path == "M46.0 202.0 L408.0 10.0"
    assert chart.lines[0].mark == (408.0, 10.0, "a: 4.0 at step 10")


def test_the_document_is_read_as_it_is_written(evaluated: Path):
    found = result_of(json.loads(evaluated.read_text()), "ours", "ours.json")
    assert set(found.scores) == set(METRICS) == set(found.intervals)
    assert found.members == 1
