"""Every reader of a file is given a payload that would make a folder if it were run; none of them runs it.

`free` shows that the payload is live: it opens the same file as these readers never do, and the folder appears.
(The weights of a BERT folder and code beside them: `models/test_bert.py`.)
"""

from __future__ import annotations

import ast
import json
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from support.dialects import make_pictures, write_butd, write_captions, write_mmf, write_x_modaler
from support.published_files import published_content, write_checkpoint
from support.scan_dialects import write_scan

from selfalign_cli.assembly.checkpoint import load_checkpoint
from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.text.token_table import TokenTable
from selfalign_cli.data.text.wordpiece import load_tokenizer
from selfalign_cli.errors import SelfAlignError
from selfalign_cli.inspection.files import inspect_any
from selfalign_cli.published.checkpoint import read_published_checkpoint
from selfalign_cli.published.vocabulary import read_vocabulary
from selfalign_cli.recipe.load import load_recipe
from selfalign_cli.scoring.embeddings import read_embeddings
from selfalign_cli.training import cached_words

PACKAGE = Path(__file__).parents[1] / "selfalign_cli"
PICTURES = make_pictures([2, 2, 2])


class Bomb:
    """Makes a folder when it is unpickled freely."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def objects(mark: Path, shape: tuple[int, ...] = (2,)) -> np.ndarray[Any, Any]:
    array = np.empty(shape, dtype=object)
    array[...] = Bomb(mark)
    return array


@dataclass(frozen=True)
class Case:
    """A reader and a file with a payload.

    Attributes:
        write: makes the file in a folder, around a payload that would make `mark`.
        read: the reader; it may refuse the file or leave the payload alone.
        free: opens the file so that the payload runs; None where no program does.
    """

    write: Callable[[Path, Path], Path]
    read: Callable[[Path], object]
    free: Callable[[Path], object] | None


def unpickled(path: Path) -> object:
    return pickle.loads(path.read_bytes())


def torch_loaded(path: Path) -> object:
    return torch.load(path, weights_only=False)


def npy_loaded(path: Path) -> object:
    loaded = np.load(path, allow_pickle=True)
    return loaded if path.suffix == ".npy" else [loaded[name] for name in loaded]


def yaml_loaded(path: Path) -> object:
    return yaml.unsafe_load(path.read_text())


def converted(path: Path) -> object:
    """Convert the folder, or the file, that the payload belongs to."""
    captions = write_captions(path.parents[1] / "captions.json", PICTURES)
    source = next(path.parent.glob("*.hdf5"), None) or path.parent
    scan = any(path.parent.glob("*_caps.txt"))
    return convert_to_feature_file([source], path.parents[1] / "out.h5", captions=None if scan else captions)


def checkpoint_file(content: Callable[[Path], object], **options: Any) -> Callable[[Path, Path], Path]:
    def write(folder: Path, mark: Path) -> Path:
        torch.save(content(mark), folder / "c.ckpt", **options)
        return folder / "c.ckpt"

    return write


def pickle_file(name: str) -> Callable[[Path, Path], Path]:
    def write(folder: Path, mark: Path) -> Path:
        (folder / name).write_bytes(pickle.dumps({"word2idx": Bomb(mark)}, 2))
        return folder / name

    return write


def published_file(*, zipped: bool) -> Callable[[Path, Path], Path]:
    def write(folder: Path, mark: Path) -> Path:
        content = published_content()
        content["opt"].resume = Bomb(mark)
        return write_checkpoint(folder / "old.pth.tar", content, zipped=zipped)

    return write


def embedding_file(folder: Path, mark: Path) -> Path:
    np.savez(folder / "e.npz", image=objects(mark), caption=objects(mark), image_of_caption=np.zeros(2, int))
    return folder / "e.npz"


def embedding_file_with_bytes(folder: Path, mark: Path) -> Path:
    """HDF5 knows no Python objects; some programs pickle them into it, as bytes."""
    with h5py.File(folder / "e.h5", "w") as file:
        file.attrs["signature"] = np.void(pickle.dumps(Bomb(mark)))
        file["image"] = np.void(pickle.dumps(Bomb(mark)))
    return folder / "e.h5"


def feature_file_with_bytes(folder: Path, mark: Path) -> Path:
    with h5py.File(folder / "f.h5", "w") as file:
        file.attrs["format"] = np.bytes_(b"selfalign-features")
        file.attrs["version"] = np.void(pickle.dumps(Bomb(mark)))
    return folder / "f.h5"


def scan_folder(name: str, shape: tuple[int, ...], boxes: str) -> Callable[[Path, Path], Path]:
    def write(folder: Path, mark: Path) -> Path:
        (source,) = write_scan(folder, PICTURES, boxes=boxes)
        np.save(source / name, objects(mark, shape))
        return source / name

    return write


def picture_archive(folder: Path, mark: Path) -> Path:
    (source,) = write_x_modaler(folder, PICTURES)
    np.savez(source / "12.npz", feat=objects(mark))
    return source / "12.npz"


def picture_information(folder: Path, mark: Path) -> Path:
    (source,) = write_mmf(folder, PICTURES)
    np.save(source / "12_info.npy", np.array({"bbox": Bomb(mark)}, dtype=object))
    return source / "12_info.npy"


def butd_map(folder: Path, mark: Path) -> Path:
    (folder / "source").mkdir()
    write_butd(folder / "source", PICTURES)
    (path,) = (folder / "source").glob("*.pkl")
    path.write_bytes(pickle.dumps({11: Bomb(mark)}))
    return path


def recipe_file(tag: str) -> Callable[[Path, Path], Path]:
    def write(folder: Path, mark: Path) -> Path:
        path = folder / "r.yaml"
        path.write_text(f"run: {{dir: !!python/object/{tag} [{json.dumps(str(mark))}]}}\n")
        return path

    return write


def tokenizer_folder(folder: Path, mark: Path) -> Path:
    """A tokenizer whose code lies beside it."""
    settings = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", "mine.Mine"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}))
    (folder / "mine.py").write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Mine: pass\n")
    return folder / "mine.py"


def token_states(folder: Path, mark: Path) -> Path:
    np.save(folder / "states.npy", objects(mark, (1, 3)))
    return folder / "states.npy"


def cached_states(path: Path) -> object:
    return cached_words._open(path, TokenTable.encode(["a"], lambda text: [5]), 3)


CASES = {
    "recipe, called": Case(recipe_file("apply:os.mkdir"), load_recipe, yaml_loaded),
    "recipe, made": Case(recipe_file("new:os.mkdir"), load_recipe, None),
    "vocabulary": Case(pickle_file("v.pkl"), read_vocabulary, unpickled),
    "tokenizer": Case(tokenizer_folder, lambda path: load_tokenizer(str(path.parent)), lambda p: exec(p.read_text())),
    "feature file": Case(feature_file_with_bytes, FeatureFile, None),
    "SCAN features": Case(scan_folder("train_ims.npy", (1, 2, 4), ""), converted, npy_loaded),
    "SCAN boxes": Case(scan_folder("train_boxes.npy", (1, 2, 4), "camera"), converted, npy_loaded),
    "SCAN sizes": Case(scan_folder("train_img_sizes.npy", (1, 2), "camera"), converted, npy_loaded),
    "SCAN size records": Case(scan_folder("train_ims_size.npy", (1,), "gsmn"), converted, npy_loaded),
    "picture archive": Case(picture_archive, converted, npy_loaded),
    "picture information": Case(picture_information, converted, npy_loaded),
    "map of pictures": Case(butd_map, converted, unpickled),
    "checkpoint": Case(checkpoint_file(lambda mark: {"model": Bomb(mark)}), load_checkpoint, torch_loaded),
    "old checkpoint": Case(
        checkpoint_file(lambda mark: {"model": Bomb(mark)}, _use_new_zipfile_serialization=False),
        load_checkpoint,
        torch_loaded,
    ),
    "published checkpoint": Case(published_file(zipped=True), read_published_checkpoint, torch_loaded),
    "old published checkpoint": Case(published_file(zipped=False), read_published_checkpoint, torch_loaded),
    "embeddings, npz": Case(embedding_file, read_embeddings, npy_loaded),
    "embeddings, HDF5": Case(embedding_file_with_bytes, read_embeddings, None),
    "token states": Case(token_states, cached_states, npy_loaded),
    **{
        f"inspect {name}": Case(write, inspect_any, free)
        for name, write, free in (
            ("a pickle", pickle_file("v.pkl"), unpickled),
            ("a checkpoint", checkpoint_file(lambda mark: {"model": Bomb(mark)}), torch_loaded),
            ("an archive", embedding_file, npy_loaded),
        )
    },
}


@pytest.mark.parametrize("name", CASES)
def test_a_payload_does_not_run(name: str, tmp_path: Path) -> None:
    case, folder, mark = CASES[name], tmp_path / "data", tmp_path / "ran"
    folder.mkdir()
    path = case.write(folder, mark)
    with suppress(SelfAlignError):
        assert case.read(path) is None  # token states that are no token states
    assert not mark.exists()
    if case.free is not None:
        with suppress(Exception):  # the second of several payloads finds the folder made
            case.free(path)
        assert mark.is_dir()


# What no file of the package may do, by name: everything that runs what it reads, or has an option to.
FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "pickle.load",
    "pickle.loads",
    "marshal.load",
    "marshal.loads",
    "shelve.open",
    "yaml.load",
    "yaml.full_load",
    "yaml.unsafe_load",
    "os.system",
    "os.popen",
}
REQUIRED = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}


def calls() -> list[tuple[str, ast.Call]]:
    """Every call by a dotted name, in every file of the package."""
    return [
        (f"{path.relative_to(PACKAGE)}:{node.lineno}: {ast.unparse(node.func)}", node)
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute))
    ]


def test_no_code_of_ours_runs_what_it_reads() -> None:
    assert [where for where, node in calls() if ast.unparse(node.func) in FORBIDDEN] == []


def test_libraries_are_called_so_that_they_run_nothing() -> None:
    """`np.load` runs nothing by default. `torch.load` must always get `weights_only`."""
    for where, node in calls():
        name, given = ast.unparse(node.func), {word.arg: word.value for word in node.keywords}
        if name in REQUIRED:
            option, value = REQUIRED[name]
            found = given.get(option)
            assert (found is None and name == "np.load") or ast.literal_eval(found) is value, where
        if "trust_remote_code" in given:
            assert ast.literal_eval(given["trust_remote_code"]) is False, where
        if name.endswith((".from_pretrained", "Model.from_pretrained")):
            assert "trust_remote_code" in given, where
