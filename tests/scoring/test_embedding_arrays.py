"""Our own HDF5 files are read at once, all others by an isolated process first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import CheckpointError
from selfalign_cli.scoring import embedding_arrays
from selfalign_cli.scoring.embedding_arrays import has_own_form
from selfalign_cli.scoring.embedding_writer import write_embeddings
from selfalign_cli.scoring.embeddings import read_embeddings

IDS, TEXTS = ["7", "ä", "x.jpg"], ["Ein Müller", "日本語の文", "", "a \t cat"]


def own(path: Path, *, views: int = 3) -> Path:
    torch.manual_seed(0)
    images = RetrievalVectors(torch.randn(3, views, 5), torch.randn(3, 4))
    captions = RetrievalVectors(torch.randn(4, 5), torch.randn(4, 4))
    write_embeddings(
        path,
        images,
        captions,
        image_of_caption=torch.tensor([2, 0, 1, 1]),
        image_ids=IDS,
        caption_texts=TEXTS,
        attributes={"signature": "split:tést", "batch": 7},
    )
    return path


def as_it_was(path: Path) -> Path:
    """A file as earlier releases wrote it: texts and attributes of variable length, HDF5's oldest records."""
    with h5py.File(own(path.with_name("own.h5"))) as source, h5py.File(path, "w") as file:
        file.attrs.update(format="selfalign-embeddings", version=1, context_width=4, signature="split:tést", batch=7)
        for name in ("image_views", "image_context", "caption", "image_of_caption"):
            file[name] = source[name][()]
        for name, texts in (("image_id", IDS), ("caption_text", TEXTS)):
            file.create_dataset(name, data=texts, dtype=h5py.string_dtype("utf-8"))
    return path


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the files that an isolated process has read."""
    sizes: list[int] = []
    completes_in_child = embedding_arrays.completes_in_child

    def watched(work: Any, *, size: int) -> bool:
        sizes.append(size)
        return completes_in_child(work, size=size)

    monkeypatch.setattr(embedding_arrays, "completes_in_child", watched)
    return sizes


@pytest.mark.parametrize("views", [1, 3])
def test_our_own_files_need_no_other_process(tmp_path: Path, isolated: list[int], views: int):
    found = read_embeddings(own(tmp_path / "e.h5", views=views))
    assert (found.image_ids, found.caption_texts) == (IDS, TEXTS)
    assert (found.attributes["signature"], found.attributes["batch"]) == ("split:tést", 7)
    assert isolated == []


def test_our_own_files_hold_no_heap_but_that_of_the_virtual_array(tmp_path: Path):
    """Texts would lie in a global heap, which begins with GCOL and carries no checksum."""
    assert b"GCOL" not in own(tmp_path / "one.h5", views=1).read_bytes()
    with h5py.File(own(tmp_path / "three.h5")) as file:
        assert {name: file[name].dtype.kind for name in file} == {
            **dict.fromkeys(("image", "image_views", "image_context", "caption"), "f"),
            **{"image_of_caption": "i", "image_id": "S", "caption_text": "S"},
        }


def test_files_of_earlier_releases_are_read_alike(tmp_path: Path, isolated: list[int]):
    old, new = read_embeddings(as_it_was(tmp_path / "old.h5")), read_embeddings(own(tmp_path / "new.h5"))
    assert len(isolated) == 1
    assert (old.image_ids, old.caption_texts, old.attributes) == (new.image_ids, new.caption_texts, new.attributes)
    for one, other in ((old.images, new.images), (old.captions, new.captions)):
        assert torch.equal(one.pooled, other.pooled)
        assert torch.equal(one.shared, other.shared)


def replaced(file: h5py.File, name: str, **options: Any) -> None:
    values = file[name][()]
    del file[name]
    file.create_dataset(name, data=values, **options)


CHANGES = {
    "texts of variable length": lambda file: replaced(file, "image_id", dtype=h5py.string_dtype("utf-8")),
    "an attribute of variable length": lambda file: file.attrs.update(signature="x"),
    "chunks": lambda file: replaced(file, "caption", chunks=(1, 9)),
    "another format": lambda file: file.attrs.create("format", b"x"),
    "a link": lambda file: (file.move("caption", "other"), file.update(caption=h5py.SoftLink("/other"))),
    "a group": lambda file: (file.move("image_id", "other"), file.create_group("image_id")),
    "nothing": lambda file: (file.move("image_id", "other"), file.update(image_id=h5py.Empty("S1"))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_form_is_noticed(tmp_path: Path, change: str):
    path = own(tmp_path / "e.h5")
    assert has_own_form(path)
    with h5py.File(path, "a") as file:
        CHANGES[change](file)
    assert not has_own_form(path)


def test_other_versions_of_hdf5_are_another_form(tmp_path: Path):
    for name, libver in (("old.h5", ("earliest", "v108")), ("new.h5", ("latest", "latest"))):
        with h5py.File(tmp_path / name, "w", libver=libver) as file:
            file.attrs.create("format", b"selfalign-embeddings")
            file["image"] = np.eye(3)
        assert not has_own_form(tmp_path / name)


def test_more_than_the_file_holds_is_another_form(tmp_path: Path):
    path = own(tmp_path / "e.h5")
    with h5py.File(path, "a") as file:
        del file["caption"]
        file.create_dataset("caption", (1 << 20, 9), np.float32)  # never written: no room in the file
    assert not has_own_form(path)


def test_every_flipped_bit_of_the_records_is_noticed_or_harmless(tmp_path: Path):
    """Without another process: the library refuses it, or all that is read is as it was."""
    path = own(tmp_path / "e.h5", views=1)
    good, expected = path.read_bytes(), read_embeddings(path)
    with h5py.File(path) as file:
        first = min(file[name].id.get_offset() for name in file)
    refused = 0
    for position in range(8, first, 3):
        path.write_bytes(good[:position] + bytes([good[position] ^ (1 << position % 8)]) + good[position + 1 :])
        try:
            found = read_embeddings(path)
        except CheckpointError:
            refused += 1
            continue
        assert (found.image_ids, found.caption_texts) == (expected.image_ids, expected.caption_texts)
        assert torch.equal(found.images.pooled, expected.images.pooled)
    assert refused > 50
