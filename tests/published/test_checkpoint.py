"""Old checkpoint files: nothing in them runs, and what is no checkpoint is refused with its reason."""

from __future__ import annotations

import argparse
import collections
import os
import pickle
import zipfile

import pytest
import torch
from support.published_files import published_content, write_checkpoint

from selfalign_cli.errors import CheckpointError
from selfalign_cli.published.checkpoint import read_published_checkpoint

BOTH = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older"])


class Command:
    """Creates a folder when it is unpickled freely."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        read_published_checkpoint(path)
    assert str(path) in caught.value.message
    return caught.value.message


@BOTH
def test_what_a_checkpoint_holds(tmp_path, zipped):
    found = read_published_checkpoint(write_checkpoint(tmp_path / "c", published_content(), zipped=zipped))
    assert (found.epoch, found.steps, found.selection, found.host, found.selfalign) == (3, 30, 132.5, "vsrn", True)
    assert found.options["data_name"] == "f30k_precomp"


@BOTH
@pytest.mark.parametrize("part", ["opt", "model", "beside"])
def test_a_payload_does_not_run_and_is_named(tmp_path, zipped, part):
    content = published_content()
    command = Command(tmp_path / "ran")
    if part == "opt":
        content["opt"].resume = command
    elif part == "model":
        content["model"][0]["fc.weight"] = command
    else:
        content["more"] = command
    path = write_checkpoint(tmp_path / "c", content, zipped=zipped)
    message = refusal(path)
    assert f"{os.mkdir.__module__}.mkdir" in message
    assert "nothing of it was run" in message
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)  # the same file does run elsewhere
    assert (tmp_path / "ran").exists()


@BOTH
def test_other_classes_are_named_too(tmp_path, zipped):
    content = {**published_content(), "more": [collections.deque([1]), argparse.ArgumentParser]}
    path = write_checkpoint(tmp_path / "c", content, zipped=zipped)
    assert "asks for collections.deque, argparse.ArgumentParser;" in refusal(path)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
        (b"\x80\x02c__builtin__\neval\nU\x011\x85R.", "__builtin__.eval"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "posix.system"),
    ],
)
@BOTH
def test_payloads_written_by_hand(tmp_path, content, name, zipped):
    path = tmp_path / "c"
    if zipped:
        torch.save({}, path)
        with zipfile.ZipFile(path) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in members.items():
                archive.writestr(member, content if member.endswith("data.pkl") else data)
    else:
        path.write_bytes(content)
    assert f"asks for {name};" in refusal(path)


def test_a_plain_pickle_is_no_checkpoint(tmp_path):
    path = tmp_path / "c"
    path.write_bytes(pickle.dumps({"model": []}, 2))
    assert "damaged or not a checkpoint" in refusal(path)


@BOTH
@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_cut_short(tmp_path, zipped, part):
    path = write_checkpoint(tmp_path / "c", published_content(), zipped=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    assert "damaged or not a checkpoint" in refusal(path)


@BOTH
def test_torn_in_the_middle(tmp_path, zipped):
    """any error but a CheckpointError would be a traceback; a file that is still whole is fine"""
    path = write_checkpoint(tmp_path / "c", published_content(), zipped=zipped)
    whole = path.read_bytes()
    for start in range(0, 4000, 97):
        path.write_bytes(whole[:start] + bytes(byte ^ 0x55 for byte in whole[start : start + 9]) + whole[start + 9 :])
        try:
            read_published_checkpoint(path)
        except CheckpointError:
            pass


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: [1, 2], "holds a list"),
        (lambda content: {"state_dict": {}}, "lacks model and opt; it holds state_dict"),
        (lambda content: {**content, "opt": {"a": 1}}, "opt is a dict; expected an argparse.Namespace"),
        (lambda content: {**content, "model": content["model"][0]}, "model is no list of two or three dicts"),
        (lambda content: {**content, "model": content["model"][:1]}, "model is no list of two or three dicts"),
        (lambda content: {**content, "model": [{"a": 1}, {}]}, "model is no list of two or three dicts"),
        (lambda content: {**content, "model": [{}, {}]}, "neither VSRN, CAMERA nor VSE∞"),
        (
            lambda content: {**content, "model": [{"fc.weight": torch.zeros(1)}, {}]},
            "neither VSRN, CAMERA nor VSE∞: its image encoder has none of the weights",
        ),
    ],
)
def test_files_of_another_kind(tmp_path, change, words):
    assert words in refusal(write_checkpoint(tmp_path / "c", change(published_content())))


def test_no_file_and_a_folder(tmp_path):
    assert "does not exist" in refusal(tmp_path / "nowhere")
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.parametrize("value", [132.5, 158.3])
def test_a_number_of_numpy_by_python_2(tmp_path, value):
    """its bytes stand in the file as text, which need not be UTF-8"""
    raw = torch.tensor([value], dtype=torch.float64).numpy().tobytes()
    number = (
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbU\x08" + raw + b"\x86R"
    )
    path = tmp_path / "c"
    write_checkpoint(path, {**published_content(), "best_rsum": 2**40 + 1}, zipped=False)
    placeholder = pickle.dumps(2**40 + 1, 2)[2:-1]
    content = path.read_bytes()
    assert content.count(placeholder) == 1
    path.write_bytes(content.replace(placeholder, number))
    assert read_published_checkpoint(path).selection == value


@pytest.mark.parametrize("left", range(1, len("torch\nFloatStorage\n")))
def test_cut_inside_a_name(tmp_path, left):
    """What is left of it is not what the file asks for."""
    path = write_checkpoint(tmp_path / "c", published_content(), zipped=False)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"torch\nFloatStorage\n") + left])
    assert "damaged or not a checkpoint" in refusal(path)
