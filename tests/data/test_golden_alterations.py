"""Captions of VSE∞ as ids, and regions and words left out or altered, against the released program with its draws."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.golden import golden_root, settings, skip_where_left_out, tensors, under

from selfalign_cli.data.alterations import Alterations
from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.pairs import PairDataset, collate_pairs
from selfalign_cli.data.text.vocab import MASK_WORD, Vocabulary
from selfalign_cli.data.text.wordpiece import WordPieceTokenizer, load_tokenizer

LEGACY = golden_root() / "legacy"
CHANCE = 0.2
TEXTS = {"bigru": "words", "bert": "pieces"}
each_text = pytest.mark.parametrize("text", TEXTS)


def encoder(text: str) -> Vocabulary | WordPieceTokenizer:
    if text == "bert":
        return load_tokenizer(str(LEGACY / "bert_long"), published=True, split_chinese=True)
    path = next(path for path in sorted((LEGACY / "vocab").iterdir()) if path.suffix == ".json")
    ids = json.loads(path.read_text(encoding="utf-8"))["word2idx"]
    return Vocabulary(tuple(sorted(ids, key=ids.__getitem__)), "treebank-line", "unicode").with_mask()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> FeatureFile:
    path = tmp_path_factory.mktemp("golden") / "f.h5"
    convert_to_feature_file([next(path for path in sorted((LEGACY / "data").iterdir()) if path.is_dir())], path)
    return FeatureFile(path)


class Recorded(np.random.Generator):
    """Gives the recorded numbers, in the order in which they are asked for."""

    def __init__(self, numbers: Sequence[Sequence[float]], ids: Sequence[int]) -> None:
        super().__init__(np.random.PCG64(0))
        self.numbers, self.ids = list(numbers), list(ids)

    def random(self, size: Any = None, *unused: Any, **also: Any) -> Any:
        found = self.numbers.pop(0)
        assert len(found) == size
        return np.asarray(found)

    def integers(self, low: Any, *unused: Any, **also: Any) -> Any:
        return self.ids.pop(0)


def expected_file(pattern: str) -> Path:
    found = sorted((LEGACY / "expected").glob(pattern))
    if not found:
        skip_where_left_out(f"legacy/expected/{pattern}")
    return found[0]


@each_text
def test_golden_alterations(file: FeatureFile, text: str) -> None:
    """Whole batches from recorded draws: ids, lengths, and the regions that stay."""
    captions = encoder(text)
    assert captions.mask is not None
    alterations = Alterations(CHANCE, CHANCE, captions.mask, len(captions))
    dataset = PairDataset(file, "train", captions.encode, alterations=alterations, words=captions.word_numbers)
    samples = settings(expected_file(f"vse_infty_*{text}_dropping.json"))["samples"]
    size = 12
    for start in range(0, len(samples), size):
        part = samples[start : start + size]
        regions, words = ([sample[key] for sample in part] for key in ("region_draws", "word_draws"))
        draws = Recorded([*regions, *words], [number for sample in part for number in sample["random_ids"]])
        batch = collate_pairs(dataset, [sample["caption"] for sample in part], draws=draws)
        assert not draws.numbers
        assert not draws.ids
        by_caption = {sample["caption"]: sample for sample in part}
        for row, caption in enumerate((batch.captions - int(dataset.captions[0])).tolist()):
            sample = by_caption[caption]
            assert batch.texts.ids[row][batch.texts.mask[row]].tolist() == sample["ids"]
            kept = file.regions(int(dataset.images[caption]))[sample["regions_kept"]]
            assert torch.equal(batch.images.features[row][batch.images.mask[row]], torch.from_numpy(kept))
            assert not batch.images.features[row][~batch.images.mask[row]].any()
        assert batch.images.features.shape[1] == max(len(sample["regions_kept"]) for sample in part)


@each_text
def test_golden_altered_batches_as_collated(file: FeatureFile, text: str) -> None:
    path = expected_file(f"vse_infty_*{text}_dropping_batches.safetensors")
    batches = tensors(path)
    samples = {
        sample["caption"]: sample for sample in settings(expected_file(f"vse_infty_*{text}_dropping.json"))["samples"]
    }
    captions = encoder(text)
    assert captions.mask is not None
    alterations = Alterations(CHANCE, CHANCE, captions.mask, len(captions))
    dataset = PairDataset(file, "train", captions.encode, alterations=alterations, words=captions.word_numbers)
    numbers = sorted({int(name.split(".")[0].removeprefix("batch")) for name in batches})
    order = sorted(samples)
    for number in numbers:
        expected = under(batches, f"batch{number}")
        members = expected["ids"].tolist()
        given = [caption for caption in order if caption in members]
        part = [samples[caption] for caption in given]
        regions, words = ([sample[key] for sample in part] for key in ("region_draws", "word_draws"))
        draws = Recorded([*regions, *words], [number for sample in part for number in sample["random_ids"]])
        batch = collate_pairs(dataset, given, draws=draws)
        rows = (batch.captions - int(dataset.captions[0])).tolist()
        moved = torch.tensor([rows.index(caption) for caption in members])
        assert torch.equal(batch.texts.ids[moved], expected["captions"])
        assert torch.equal(batch.texts.lengths[moved], expected["lengths"])
        assert torch.equal(batch.images.features[moved], expected["images"])
        assert torch.equal(batch.images.mask.sum(1)[moved], expected["image_lengths"])


@each_text
def test_golden_captions_as_ids(text: str) -> None:
    captions, checked = encoder(text), 0
    for case in settings(expected_file("vse_infty_tokenisation_cases.json"))["cases"]:
        assert captions.encode(case["raw"].strip()) == case[f"{text}_ids"], case["raw"]
        checked += 1
    for path in sorted((LEGACY / "expected").glob(f"vse_infty_*{text}_captions.json")):
        for rows in settings(path)["splits"].values():
            for row in rows:
                assert captions.encode(row["raw"]) == row["ids"], row["raw"]
                if text == "bert":
                    words = [word for word, count in enumerate(row["pieces_per_word"]) for _ in range(count)]
                    assert captions.word_numbers(row["raw"]) == [-1, *words, -1]
                checked += 1
    assert checked


def test_golden_vocabulary_has_its_mask_last() -> None:
    found = encoder("bigru")
    assert isinstance(found, Vocabulary)
    assert found.words[-1] == MASK_WORD
    assert found.mask == len(found) - 1
    assert found.with_mask() is found
