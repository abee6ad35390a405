"""Files that make the library that reads them crash or hang: what happens to the child is told by the parent."""

from __future__ import annotations

import collections
import itertools
import multiprocessing
import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.processes import until

from selfalign_cli.data.formats import apart
from selfalign_cli.data.formats.pictures import Pictures, Regions
from selfalign_cli.errors import DataError

SOURCES = [Path("a.h5")]


def pictures(read) -> Pictures:
    @contextmanager
    def reading():
        yield read

    return Pictures("a.h5", 2, ["x", "y"], [1, 3], reading, ["told"])


def whole(row):
    features = np.full((1 + 2 * row, 2), row, np.float16)
    return Regions(features, np.ones((len(features), 4), np.float32), (3.0, 4.0)) if row else Regions(features)


def crash(_):
    os.kill(os.getpid(), signal.SIGKILL)


def hang(_):
    time.sleep(1000)


def circle(_):
    """As a library in C does: signals are noticed, and never answered."""
    collections.deque(itertools.repeat(0), maxlen=0)


def complain(_):
    os.write(2, b"free(): invalid pointer")
    os.abort()


def test_pictures_come_over_whole():
    found = apart.opening(lambda sources: pictures(whole))(SOURCES)
    assert (found.ids, found.regions, found.feature_dim, found.notes) == (["x", "y"], [1, 3], 2, ["told"])
    with found.reading() as read:
        for row in (1, 0, 1):
            there, expected = read(row), whole(row)
            assert (there.features.dtype, there.features.tolist()) == (np.float16, expected.features.tolist())
            assert (there.boxes is None, there.size) == (expected.boxes is None, expected.size)


@pytest.mark.parametrize(
    ("reader", "message"), [(crash, r"a.h5 is so damaged that .* \(exit code -9\)"), (hang, "a.h5 gives no answer")]
)
def test_a_reader_that_crashes_or_hangs(monkeypatch, reader, message):
    monkeypatch.setattr(apart, "PATIENCE", 0.5)
    monkeypatch.setattr(apart, "SOON", 0.1)
    with pytest.raises(DataError, match=message):
        apart.opening(reader)(SOURCES)
    with pytest.raises(DataError, match=message), apart.opening(lambda _: pictures(reader))(SOURCES).reading() as read:
        read(0)


def test_a_reader_that_runs_in_circles_is_stopped_long_before_patience_ends(monkeypatch):
    monkeypatch.setattr(apart, "CIRCLES", 0)
    with pytest.raises(DataError, match="a.h5 is so damaged that the library which reads it runs in circles"):
        apart.opening(circle)(SOURCES)


def test_honest_work_may_take_longer(monkeypatch):
    monkeypatch.setattr(apart, "CIRCLES", 1)

    def slow(_):
        while time.process_time() < 2.2:
            pass
        return pictures(whole)

    assert apart.opening(slow)(SOURCES).ids == ["x", "y"]


def test_last_words_of_a_library_are_not_shown(capfd):
    with pytest.raises(DataError, match="exit code -6"):
        apart.opening(complain)(SOURCES)
    assert capfd.readouterr().err == ""


def test_the_child_does_not_outlive_its_parent(tmp_path):
    mark = tmp_path / "child"

    def settle(_):
        mark.with_suffix(".new").write_text(str(os.getpid()))
        mark.with_suffix(".new").rename(mark)
        signal.pause()

    parent = os.fork()
    if parent == 0:
        apart.opening(settle)(SOURCES)
        os._exit(0)
    until(mark.exists)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    until(lambda: has_ended(int(mark.read_text())))


def has_ended(number: int) -> bool:
    """Whether a process is gone, or waits only to be collected."""
    try:
        return "State:\tZ" in Path(f"/proc/{number}/status").read_text()
    except FileNotFoundError:
        return True


def test_faults_keep_their_words():
    def faulty(_):
        raise DataError("what", "hint")

    with pytest.raises(DataError, match="what") as caught:
        apart.opening(faulty)(SOURCES)
    assert caught.value.hint == "hint"


def test_a_bug_stays_a_bug():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        apart.opening(lambda _: 1 / 0)(SOURCES)


def test_a_source_that_changes_between_counting_and_reading(tmp_path):
    mark = tmp_path / "changed"

    def opened(_):
        found = pictures(whole)
        found.ids[0] = str(mark.exists())
        return found

    found = apart.opening(opened)(SOURCES)
    mark.touch()
    with pytest.raises(DataError, match="a.h5 changed while it was read"), found.reading():
        pass


def test_nothing_is_left_running():
    with apart.opening(lambda _: pictures(whole))(SOURCES).reading() as read:
        read(0)
    assert not multiprocessing.active_children()
