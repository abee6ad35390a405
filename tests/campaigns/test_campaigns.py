"""Soak, memory and fuzz through the command, at toy size; and that each detects faults."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
from pathlib import Path
from typing import Any

import pytest
from campaigns import extraction, fuzz, memory, soak
from campaigns.__main__ import main
from campaigns.commands import Command, prepare_forks
from campaigns.fuzz_readers import READERS, Wrong
from campaigns.run import CAMPAIGNS
from campaigns.small_run import make_small_run

from selfalign_cli.errors import DataError

EXPECTED = {
    "soak": ["--rounds", "1", "--seed", "1"],
    "extract": ["--rounds", "1", "--seed", "3"],
    "memory": ["--size", "tiny"],
    "fuzz": ["--rounds", "600", "--seed", "2"],
    "regions": ["--size", "tiny"],
    "scenes": ["--size", "tiny"],
}


def document_of(capsys: pytest.CaptureFixture[str], name: str, *options: str) -> dict[str, Any]:
    assert main([name, *options, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert set(document) == {"campaign", "size", "machine", "settings", "results", "faults"}
    assert (document["campaign"], document["machine"]["threads"]) == (name, 1)
    return document


def test_every_campaign_is_expected() -> None:
    assert set(EXPECTED) == set(CAMPAIGNS)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_campaign_runs_and_finds_nothing(capsys: pytest.CaptureFixture[str], name: str) -> None:
    document = document_of(capsys, name, *EXPECTED[name])
    assert document["faults"] == []
    found = {row["name"]: row for row in document["results"]}
    if name == "soak":
        settings = document["settings"]
        assert (settings["seed"], settings["rounds"], settings["survived"], settings["lost"]) == (1, 1, 1, 0)
        assert set(found) == {*soak.PHASES, "in all"}
        assert found["in all"]["kills"] >= 1
    if name == "extract":
        assert (document["settings"]["survived"], document["settings"]["lost"]) == (1, 0)
        assert set(found) == {*extraction.PHASES, "in all"}
    if name == "memory":
        assert found["steps"]["count"] >= 20
        assert found["validations"]["count"] >= 5
        assert found["steps"]["start_bytes"] > 1 << 20
    if name == "fuzz":
        assert set(found) == {*fuzz.WEIGHTS, "in all"}
        assert found["in all"]["inputs"] >= 600
        assert all(row["read"] and row["refused"] for row in found.values())
    if name == "regions":
        assert set(found) == {"whole picture", "grid", "grouping", "known boxes"}
        assert found["grouping"]["found_10"] > 2 * found["grid"]["found_10"]
        assert "±" in found["grouping"]["rsum_embedding"]
    if name == "scenes":
        assert set(found) == {"make-scenes", "extract, weightless"}
        assert "±" in found["make-scenes"]["rsum"]


def test_data_are_for_campaigns_that_need_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["memory", "--data", "somewhere"])
    assert ended.value.code == 2
    assert "memory makes its data itself" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--rounds", "3"], ["--seed", "3"]])
def test_rounds_and_seeds_are_for_random_campaigns(capsys: pytest.CaptureFixture[str], option: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["memory", *option])
    assert ended.value.code == 2
    assert "memory is not random" in capsys.readouterr().err


# Extract


def test_a_feature_file_of_other_bytes_counts_as_lost(tmp_path: Path) -> None:
    class Ended(extraction.Round):
        def kill(self, draw: random.Random, seconds: float) -> bool:
            self.out.write_bytes(b"another")
            return True

    fault = extraction.play(Ended(tmp_path / "round", tmp_path, 1), b"one", 0.1, random.Random(1))
    assert fault == "lost: another feature file"
    assert (tmp_path / "round").exists()


# Soak


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe for a small run; not to be written to."""
    folder = tmp_path_factory.mktemp("soak")
    make_small_run(folder, images=4, batch_size=10, epochs=2, save_every=2, validate_every=4)
    prepare_forks(1, folder)
    return folder


def round_of(small: Path, folder: Path, *options: str) -> soak.Round:
    return soak.Round(folder / "round", ["train", str(small / "small.yaml"), "--resume", *options], False, 1)


def unbroken_of(small: Path, folder: Path) -> soak.Unbroken:
    """One run from start to end, without the cold one."""
    folder.mkdir()
    whole = soak.Round(folder, ["train", str(small / "small.yaml")], False, 1)
    whole.finish()
    return soak.Unbroken(soak.outcome(whole.run), {False: 0.1}, 0.01, 0.01)


def test_a_round_with_another_outcome_is_lost(small: Path, tmp_path: Path) -> None:
    """Another seed simulates a resume that loses state."""
    unbroken = unbroken_of(small, tmp_path / "unbroken")
    assert set(unbroken.ended) == {"metrics", "last", "best"}
    assert {"optimizer", "objective", "rng", "best_score"} <= set(unbroken.ended["last"]["training"])
    assert soak.play(round_of(small, tmp_path), unbroken, random.Random(1)) == ""
    fault = soak.play(round_of(small, tmp_path, "--set", "run.seed=8"), unbroken, random.Random(1))
    assert fault.startswith("lost: ")
    assert " differences: /metrics/0/" in fault
    assert (tmp_path / "round/run/last.ckpt").exists()


def test_a_process_that_ends_by_itself_is_a_loss(small: Path, tmp_path: Path) -> None:
    unbroken = soak.Unbroken({}, {False: 0.1}, 0.01, 0.01)
    fault = soak.play(round_of(small, tmp_path, "--set", "optim.epochs=0"), unbroken, random.Random(1))
    assert fault.startswith("lost: process 1 ended with 2: error: ")


def test_kills_are_aimed_at_every_phase() -> None:
    unbroken = soak.Unbroken({}, {False: 0.5, True: 3.0}, 0.05, 0.02)
    draw = random.Random(0)
    aims = [soak.draw_aim(draw, unbroken, kills=3, cold=number % 2 == 0) for number in range(200)]
    assert {aim.phase for aim in aims} == set(soak.PHASES)
    assert max(aim.delay for aim in aims if aim.phase == "start-up") > 1.0
    assert max(aim.delay for aim in aims if aim.phase == "validation") < 0.02


@pytest.mark.parametrize(
    ("printed", "log", "beside", "expected"),
    [
        ("", [], [], "start-up"),
        ("training: 5 epochs", [], [], "step"),
        ("training: 5 epochs", [{"kind": "train", "step": 3}], [], "step"),
        ("resuming after step 2", [{"kind": "train", "step": 4}], [], "validation"),
        ("resuming after step 2", [{"kind": "train", "step": 4}], [".last.ckpt.7.tmp"], "checkpoint"),
        ("resuming after step 2", [{"kind": "validation", "step": 4}], [], "step"),
    ],
)
def test_phase_of_a_kill(
    small: Path, tmp_path: Path, printed: str, log: list[object], beside: list[str], expected: str
) -> None:
    command = Command(["--version"], folder=tmp_path, printed=tmp_path / "version.txt", cold=False, threads=1)
    assert command.wait() == 0
    command.printed.write_text(printed)
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    for name in beside:
        (tmp_path / name).touch()
    assert soak.phase_of(tmp_path, command) == expected


# Memory


def test_slope_of_a_line() -> None:
    """5, 7, 9: two for each. 1, 1, 4: ((-1)(-1) + 0 + (1)(2)) / 2 = 1.5"""
    assert memory.slope([5, 7, 9]) == pytest.approx(2.0)
    assert memory.slope([1, 1, 4]) == pytest.approx(1.5)


def test_a_summary_excludes_the_warm_up() -> None:
    """After the warm-up: 300, 301, 302, 303, 304, 308; (-2.5, …, 2.5) times them over its square: 25 / 17.5."""
    found = memory.summary("steps", [100, 200, 250, 280, 300, 301, 302, 303, 304, 308])
    assert (found["count"], found["warm_up"]) == (10, 4)
    assert (found["start_bytes"], found["end_bytes"], found["highest_bytes"]) == (300, 308, 308)
    assert found["bytes_per_one"] == pytest.approx(1.4, abs=0.06)


def test_allocated_memory_is_seen() -> None:
    before = memory.resident_bytes()
    held = os.urandom(1 << 26)
    assert memory.resident_bytes() - before > len(held) // 2


# Fuzz


def test_the_same_input_is_made_again(tmp_path: Path) -> None:
    samples = tmp_path / "samples/recipe/small"
    samples.mkdir(parents=True)
    (samples / "r.yaml").write_text("run: {dir: a}\n" * 20)
    inputs = fuzz.Inputs(tmp_path / "samples", "recipe", 3)
    made = [inputs.make(14, tmp_path / name).read_bytes() for name in ("a", "b")]
    assert made[0] == made[1] != (samples / "r.yaml").read_bytes()


def refuse(path: Path) -> None:
    raise DataError("it is damaged")


def refuse_at_length(path: Path) -> None:
    raise DataError("x" * 30_000)


def fail(path: Path) -> None:
    fuzz.damaged(None, b"", random.Random(0))  # type: ignore[arg-type]


def accept_too_much(path: Path) -> None:
    raise Wrong("a caption is no text")


@pytest.mark.parametrize(
    ("reader", "expected"),
    [
        (Path.exists, "read"),
        (refuse, "refused"),
        (refuse_at_length, "refuse_at_length: a message of 30,000 characters"),
        (fail, "fail: AttributeError in damage.py:"),
        (accept_too_much, "accept_too_much: accepted, but a caption is no text"),
    ],
)
def test_verdicts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reader: Any, expected: str) -> None:
    monkeypatch.setitem(READERS, "recipe", (reader,))
    assert fuzz.verdict_of("recipe", tmp_path / "r.yaml").startswith(expected)


def test_a_reader_that_dies_or_hangs_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "START_PATIENCE", 0.1)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("forkserver").Process(target=os._exit, args=(3,))
    process.start()
    assert list(fuzz._answers(ours, process, 5, 0.1)) == ["no answer for 0 seconds"]
    theirs.send("read")
    theirs.close()
    process.join()
    assert list(fuzz._answers(ours, process, 5, 0.1)) == ["read", "the process ended with 3"]


def test_faults_are_counted_and_the_first_is_kept() -> None:
    tally = fuzz.Tally()
    for number, verdict in enumerate(["read", "refused", "odd", "refused", "odd", "worse"]):
        tally.add(number, verdict)
    assert dict(tally.counts) == {"read": 1, "refused": 2, "faults": 3}
    assert tally.faults == {"odd": 2, "worse": 5}
