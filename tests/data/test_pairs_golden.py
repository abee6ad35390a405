"""The data path against what the published loader makes of the same folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.golden import golden_root, settings, tensors, under

from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.pairs import PairDataset, collate_pairs
from selfalign_cli.data.text.vocab import Vocabulary
from selfalign_cli.data.text.wordpiece import load_tokenizer
from selfalign_cli.models.parts.captioner import caption_targets

LEGACY = golden_root() / "legacy"
BATCHES = tensors(LEGACY / "expected" / "vsrn_batches.safetensors")
CAMERA_BATCHES = tensors(LEGACY / "expected" / "camera_batches.safetensors")
NUMBERS = sorted({int(name.split(".")[0].removeprefix("batch")) for name in BATCHES})


@pytest.fixture(scope="module")
def source() -> Path:
    return next(path for path in sorted((LEGACY / "data").iterdir()) if path.is_dir())


@pytest.fixture(scope="module")
def file(source: Path, tmp_path_factory: pytest.TempPathFactory) -> FeatureFile:
    path = tmp_path_factory.mktemp("golden") / "f.h5"
    convert_to_feature_file([source], path)
    return FeatureFile(path)


@pytest.fixture(scope="module")
def dataset(file: FeatureFile) -> PairDataset:
    path = next(path for path in sorted((LEGACY / "vocab").iterdir()) if path.suffix == ".json")
    ids = json.loads(path.read_text(encoding="utf-8"))["word2idx"]
    vocabulary = Vocabulary(tuple(sorted(ids, key=ids.__getitem__)), "treebank-line", "ascii")
    return PairDataset(file, "test", vocabulary.encode)


@pytest.mark.parametrize("number", NUMBERS)
def test_golden_batches(dataset, number):
    """Consecutive captions of `test`, sorted by length with equals in order, zero-padded to the longest."""
    expected = under(BATCHES, f"batch{number}")
    size = len(under(BATCHES, "batch0")["ids"])
    rows = np.arange(number * size, number * size + len(expected["ids"]))
    batch = collate_pairs(dataset, rows)
    assert torch.equal(batch.captions - int(dataset.captions[0]), expected["ids"])
    assert torch.equal(batch.texts.ids, expected["captions"])
    assert torch.equal(batch.texts.lengths, expected["lengths"])
    assert torch.equal(batch.images.features, expected["images"])
    labels, mask = caption_targets(batch.texts.ids, batch.texts.lengths, expected["caption_labels"].shape[1] - 1)
    assert torch.equal(labels, expected["caption_labels"])
    assert torch.equal(mask, expected["caption_masks"].bool())


@pytest.mark.parametrize("number", sorted({int(name.split(".")[0].removeprefix("batch")) for name in CAMERA_BATCHES}))
def test_golden_batches_of_pieces_with_boxes(file, number):
    """The same for CAMERA: captions have one width, pictures bring their boxes and sizes."""
    expected = under(CAMERA_BATCHES, f"batch{number}")
    size, width = under(CAMERA_BATCHES, "batch0")["input_ids"].shape
    dataset = PairDataset(file, "test", load_tokenizer(str(LEGACY / "bert"), published=True).encode, max_words=width)
    batch = collate_pairs(dataset, np.arange(number * size, number * size + len(expected["ids"])), width=width)
    assert torch.equal(batch.captions - int(dataset.captions[0]), expected["ids"])
    assert torch.equal(batch.texts.ids, expected["input_ids"])
    assert torch.equal(batch.texts.mask, expected["attention_mask"].bool())
    assert torch.equal(batch.texts.lengths, expected["lengths"])
    for ours, theirs in (("features", "images"), ("boxes", "boxes"), ("size", "imgs_wh")):
        assert torch.equal(getattr(batch.images, ours), expected[theirs])


def test_golden_splits_have_the_recorded_pictures(file):
    """Caption i belongs to the recorded row, in a layout where rows are pictures."""
    for split, captions in settings(LEGACY / "expected" / "vsrn_captions.json")["splits"].items():
        rows = file.facts.caption_image[file.split_captions(split)] - file.split_images(split)[0]
        assert rows.tolist() == [caption["image_row"] for caption in captions]


def test_golden_splits_stored_five_times_equal_those_stored_once(file, source):
    for path in sorted(source.glob("*dup_ims.npy")):
        split = path.name.removesuffix("_ims.npy")
        once = split.removesuffix("dup")
        ours, theirs = file.split_images(split), file.split_images(once)
        assert [file.image_ids[row] for row in ours] == [file.image_ids[row] for row in theirs]
        assert all((file.regions(a) == file.regions(b)).all() for a, b in zip(ours, theirs, strict=True))
        assert len(file.split_captions(split)) == len(file.split_captions(once))
