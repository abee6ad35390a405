"""Every bench runs at toy size through the command and prints the promised document; no time is judged."""

from __future__ import annotations

import ast
import copy
import inspect
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from selfalign_cli.bench import serve, train
from selfalign_cli.bench.hosts import CAMERA, VSRN, AnyHost
from selfalign_cli.bench.inputs import TINY, build, caption_lengths, pair_batch
from selfalign_cli.bench.run import BENCHES
from selfalign_cli.cli.app import app
from selfalign_cli.training.step import train_step

EXPECTED = {
    "train": {"data", "picture encoder", "text encoder", "backward", "optimizer", "step", "random access"},
    "train-camera": {"data", "picture encoder", "BERT", "diversity loss", "step", "step, cached words"},
    "losses": {"context loss", "concept loss", "caption generator", "context loss, batch 48"},
    "eval": {"ranks of 20 x 100, 24 numbers", "ranks of 20 x 100, 3 views", "scores of a block, 3 views"},
    "search": {"encode", "score", "rank", "whole query", "5 queries together", "10 pictures x 20 captions"},
    "convert": {"convert-features"},
    "extract": {"decode", "pass of the backbone", "grouping", "pooling", "writing", "extract, a picture", "3 regions"},
    "startup": {"selfalign --help", "selfalign eval, scenes", "its imports"},
    "explain": {"explain", "pointing game"},
    "serve": {"search through HTTP", "explanation through HTTP"},
    "index": {"scan, 300 x 16", "exact search, 50 x 3 views", "adding 5 to 60", "index, scenes", "cold search, CPU"},
    "chunks": {"step of 4 pairs in chunks of 2", "step of 8 pairs in chunks of 2"},
}
COMPARED = {
    "train": "step",
    "train-camera": "step",
    "losses": "context loss",
    "search": "score",
    "convert": "convert-features",
    "extract": "3 regions",
}


def test_every_bench_is_expected() -> None:
    assert set(EXPECTED) == set(BENCHES)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_bench_runs(name: str) -> None:
    result = CliRunner().invoke(app, ["bench", name, "--size", "tiny", "--threads", "1", "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert set(document) == {"bench", "size", "machine", "sizes", "results"}
    assert (document["bench"], document["size"], document["machine"]["threads"]) == (name, "tiny", 1)
    found = {line["name"]: line for line in document["results"]}
    assert set(found) >= EXPECTED[name]
    assert all(line["seconds"] >= 0 for line in found.values())
    if name in COMPARED:
        line = found[COMPARED[name]]
        assert line["plain_over_ours"] == pytest.approx(line["plain_seconds"] / line["seconds"])


def test_a_table_is_printed() -> None:
    result = CliRunner().invoke(app, ["bench", "search", "--size", "tiny"])
    assert result.exit_code == 0, result.output
    assert "whole query" in result.stdout
    assert "plain / ours" in result.stdout


def test_without_the_packages_of_a_server_only_its_bench_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    refused = CliRunner().invoke(app, ["bench", "serve", "--size", "tiny"])
    assert refused.exit_code == 1
    assert 'selfalign[serve]"' in refused.stderr
    loads = ast.parse(inspect.getsource(serve)).body
    assert not [node for node in loads if isinstance(node, ast.ImportFrom) and ".serve." in str(node.module)]


def test_pictures_of_ones_own_are_for_extract(tmp_path: Path) -> None:
    Image.new("RGB", (70, 50), "teal").save(tmp_path / "plain.png")
    (tmp_path / "none.jpg").write_bytes(b"no picture")
    options = ["--size", "tiny", "--pictures", str(tmp_path)]
    result = CliRunner().invoke(app, ["bench", "extract", *options, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["sizes"]["pictures"] == 1
    refused = CliRunner().invoke(app, ["bench", "losses", *options])
    assert refused.exit_code == 2
    assert "--pictures is for the bench extract" in refused.stderr


def test_an_unknown_bench_is_refused() -> None:
    result = CliRunner().invoke(app, ["bench", "everything"])
    assert result.exit_code == 2
    assert "everything" in result.stderr


@pytest.mark.parametrize("host", [VSRN, CAMERA], ids=["VSRN", "CAMERA"])
def test_the_step_in_parts_is_the_step(host: AnyHost) -> None:
    size, marks = host.sizes["tiny"], []
    parts, whole = (host.build(size, torch.device("cpu")) for _ in range(2))
    batch = pair_batch(size)
    torch.manual_seed(0)  # of the caption generator's dropout
    found = train.train_step(parts, batch, marks.append)
    torch.manual_seed(0)
    expected = train_step(
        whole.model, whole.objective, whole.optimizer, whole.groups, batch, grad_clip_norm=train.CLIP
    )
    for name, term in found.items():
        torch.testing.assert_close(term.detach(), expected[name], msg=name)
    torch.testing.assert_close(parts.groups.all(), whole.groups.all())
    assert marks[-1] == "optimizer"


def test_captions_are_as_long_as_asked() -> None:
    lengths = caption_lengths(TINY)
    assert len(lengths) == TINY.batch
    assert lengths[0] == TINY.longest
    assert lengths == sorted(lengths, reverse=True)


def test_weights_are_the_same_every_time() -> None:
    """The two sides of a comparison are built separately and must start from the same weights."""
    first, second = (build(copy.copy(TINY), torch.device("cpu")) for _ in range(2))
    torch.testing.assert_close(first.groups.all(), second.groups.all(), atol=0, rtol=0)
