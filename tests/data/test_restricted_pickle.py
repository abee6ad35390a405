"""Pickles that hold data are read; pickles that want anything else are refused by name, and never run."""

from __future__ import annotations

import io
import os
import pickle

import numpy as np
import pytest

from selfalign_cli.data.restricted_pickle import ARRAYS, load_restricted, names_in_pickle
from selfalign_cli.errors import DataError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Command:
    """Creates a file when it is unpickled freely."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Record:
    """A stand-in."""

    def __setstate__(self, state):
        self.state = state


def record_pickle(module="vocab", build=b"}U\x01aK\x01sb"):
    """by hand, since Python 2 wrote it: a new object of class `module`.Record, then `build`"""
    return b"\x80\x02c" + module.encode() + b"\nRecord\n)\x81" + build + b"."


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data(protocol):
    content = {"a": [1, 2.5, None, True], "é": ("x", {3: "y"}), "large": 2**70}
    assert load_restricted(pickle.dumps(content, protocol)) == content


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_a_pickle_wants_to_run_is_refused_by_name_and_not_run(protocol, tmp_path):
    content = pickle.dumps({"a": Command(tmp_path / "ran")}, protocol)
    with pytest.raises(DataError, match=r"rows\.bin asks for the Python object (posix|nt)\.mkdir"):
        load_restricted(content, ARRAYS, what="rows.bin")
    assert not (tmp_path / "ran").exists()
    pickle.loads(content)  # the same bytes do run elsewhere
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "__builtin__.eval"),
        (b"\x80\x02cnumpy.core.multiarray\nfromfile\n.", "numpy.core.multiarray.fromfile"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93.", "builtins.exec"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0ctesting.exec\x93.", "numpy.testing.exec"),
    ],
)
def test_every_way_to_name_something_is_refused(content, name):
    with pytest.raises(DataError, match=f"Python object {name}, "):
        load_restricted(content, ARRAYS)
    assert name in list(names_in_pickle(io.BytesIO(content)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        np.arange(4, dtype=">f8"),
        np.array(["a", "bcd"]),
        np.array(True),
        np.array([{"image_h": 3, "image_w": 4}, None, [1, "x"]], dtype=object),
        np.zeros((0, 4), np.float16),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_arrays(array, protocol):
    found = load_restricted(pickle.dumps({"rows": array}, protocol), ARRAYS)
    assert isinstance(found, dict)
    rows = found["rows"]
    assert isinstance(rows, np.ndarray)
    assert (rows.dtype.newbyteorder("="), rows.shape) == (array.dtype.newbyteorder("="), array.shape)
    assert rows.tolist() == array.tolist()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("number", [np.float64(1.5), np.float32(-2.0), np.int64(7), np.bool_(True)])
def test_numbers_of_numpy(number, protocol):
    assert load_restricted(pickle.dumps(number, protocol), ARRAYS) == number.item()


def test_arrays_need_to_be_allowed():
    with pytest.raises(DataError, match=r"Python object numpy\._?core\.multiarray\._reconstruct"):
        load_restricted(pickle.dumps(np.zeros(2), 2))


def test_an_object_array_by_python_2():
    """bytes as text, the array class by its old name"""
    content = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x10" + np.array([0.1, 158.3]).tobytes() + b"tb."
    )
    assert np.asarray(load_restricted(content, ARRAYS, encoding="latin-1")).tolist() == [0.1, 158.3]
    assert np.asarray(load_restricted(content, ARRAYS, encoding="bytes")).tolist() == [0.1, 158.3]
    with pytest.raises(DataError, match="not a whole pickle"):
        load_restricted(content, ARRAYS)


def array_state(shape=(2,), code="f8", flags=(3, "<", None, None, None, -1, -1, 0), content=b"\0" * 16):
    """a pickle of an array, each part of its state free to choose"""

    class Type:
        def __reduce__(self):
            return np.dtype, (code, False, True), flags

    class Array:
        def __reduce__(self):
            # _reconstruct is pickled under its name, and never called here
            return np.zeros(1).__reduce__()[0], (np.ndarray, (0,), b"b"), (1, shape, Type(), False, content)

    return pickle.dumps(Array(), 2)


def test_the_arrays_made_by_hand_are_arrays():
    assert np.asarray(load_restricted(array_state(), ARRAYS)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "fault",
    [
        {"shape": (3,)},
        {"shape": (-2,)},
        {"shape": ("2",)},
        {"shape": (2**40, 2**40)},
        {"code": "O8", "content": b"\0" * 16},
        {"code": "O8", "content": [1]},
        {"content": [1.0, 2.0]},
        {"code": "V8"},
        {"code": "f8,f8"},
        {"code": [("a", "f8")]},
        {"flags": (3, "<", None, ("a",), {"a": 1}, 8, 8, 0)},
    ],
    ids=str,
)
def test_arrays_that_lie_about_themselves(fault):
    with pytest.raises(DataError, match="not a whole pickle"):
        load_restricted(array_state(**fault), ARRAYS)


def test_a_type_cannot_bring_its_own_flags():
    """without the flag that its content are references, an object array would read raw bytes as addresses"""
    content = array_state(code="O8", flags=(3, "|", None, None, None, -1, -1, 0), content=b"\x41" * 16)
    with pytest.raises(DataError, match="do not fill its shape"):
        load_restricted(content, ARRAYS)


def test_a_stand_in_receives_the_state_and_nothing_else():
    found = load_restricted(record_pickle(), {"vocab.Record": Record})
    assert isinstance(found, Record)
    assert found.state == {"a": 1}


def test_a_pickle_cannot_change_a_stand_in_for_others():
    """the state of a class, not of an object: sets attributes on what stands for the class"""
    content = b"\x80\x02cvocab\nRecord\n\x30cvocab\nRecord\nN}U\x05stateU\x03badsb\x86b."
    assert b"Record" in content
    with pytest.raises(DataError):
        load_restricted(content, {"vocab.Record": Record})
    assert not hasattr(Record, "state")


@pytest.mark.parametrize("length", [0, 1, 10, 40])
def test_cut_short(length):
    content = pickle.dumps({"words": ["a", "b"], "more": 1.5, "text": "x" * 30}, 2)
    with pytest.raises(DataError, match="not a whole pickle") as caught:
        load_restricted(content[:length], what="v.pkl")
    assert caught.value.hint


@pytest.mark.parametrize(
    "content", [b"words", b"\x80\xff.", b"\x80\x02h\x05.", b"\x80\x02U\x01\xff.", b"\x80\x02P1\n."]
)
def test_no_pickle(content):
    with pytest.raises(DataError, match="not a whole pickle"):
        load_restricted(content)


def test_names_of_a_damaged_pickle_are_those_before_the_damage():
    assert list(names_in_pickle(io.BytesIO(b"cos\nsystem\n\xfe\xfe"))) == ["os.system"]
