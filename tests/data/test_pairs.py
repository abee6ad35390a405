"""Collating pairs, and the order in which they come."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.records import WIDTH, make_record, make_records, write_records

from selfalign_cli.data import pairs
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.pairs import (
    PairDataset,
    collate_images,
    collate_pairs,
    epoch_order,
    pair_batches,
)
from selfalign_cli.data.text.token_table import TokenTable, collate_texts
from selfalign_cli.errors import DataError, RunError


def encode(text: str) -> list[int]:
    """1, one id for each word, 2"""
    return [1, *(10 + len(word) for word in text.split()), 2]


@pytest.fixture
def file(tmp_path: Path) -> FeatureFile:
    """Four pictures with 3, 1, 4, 3 regions and three captions of 3 to 6 ids each; then dev."""
    records = [
        make_record(row, regions, split=split, captions=["a", "b c", "d e f g"[: 2 * row + 1]], caption_ids=None)
        for row, (regions, split) in enumerate([(3, "train"), (1, "train"), (4, "train"), (3, "train"), (2, "dev")])
    ]
    return FeatureFile(write_records(tmp_path / "f.h5", records))


@pytest.fixture
def dataset(file: FeatureFile) -> PairDataset:
    return PairDataset(file, "train", encode)


def same(first, second) -> bool:
    """Whether two batches agree in every tensor."""
    return all(
        torch.equal(a, b)
        for a, b in [
            (first.captions, second.captions),
            (first.images.features, second.images.features),
            (first.images.mask, second.images.mask),
            (first.images.index, second.images.index),
            (first.images.boxes, second.images.boxes),
            (first.texts.ids, second.texts.ids),
            (first.texts.mask, second.texts.mask),
        ]
    )


def slowly_padded(file: FeatureFile, rows) -> torch.Tensor:
    """What collate_images gives, by lists."""
    longest = max(len(file.regions(row)) for row in rows)
    padded = [file.regions(row).tolist() + [[0.0] * WIDTH] * (longest - len(file.regions(row))) for row in rows]
    return torch.tensor(padded)


@pytest.mark.parametrize("rows", [[0], [2, 0], [1, 1, 3], [0, 3], [4, 2, 0, 1], [0, 1, 2, 3, 4], [3, 0]])
def test_images_are_padded_with_zeros(file, rows):
    batch = collate_images(file, rows)
    assert torch.equal(batch.features, slowly_padded(file, rows))
    assert batch.mask.sum(1).tolist() == [len(file.regions(row)) for row in rows]
    assert batch.mask.sort(dim=1, descending=True).values.equal(batch.mask)
    assert batch.index.tolist() == rows


def test_boxes_and_sizes_come_along(file):
    batch = collate_images(file, [1, 2])
    assert batch.boxes.shape == (2, 4, 4)
    assert (batch.boxes[1].numpy() == file.boxes(2)).all()
    assert (batch.boxes[0, 1:] == 0).all()
    assert batch.size.tolist() == [[40, 30], [40, 30]]


def test_without_boxes_there_are_none(tmp_path):
    record = make_record(boxes=None, size=None)
    batch = collate_images(FeatureFile(write_records(tmp_path / "f.h5", [record])), [0])
    assert (batch.boxes, batch.size) == (None, None)


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0]])
def test_equal_region_counts_give_the_same_by_one_read_or_many(tmp_path, rows):
    records = [make_record(row, 3) for row in range(3)]
    batch = collate_images(FeatureFile(write_records(tmp_path / "f.h5", records)), rows)
    assert (batch.features.numpy() == np.stack([records[row].features for row in rows])).all()
    assert batch.mask.all()


def test_half_precision_features_arrive_as_stored(tmp_path):
    records = make_records()
    batch = collate_images(FeatureFile(write_records(tmp_path / "f.h5", records, dtype="float16")), [2, 1])
    assert batch.features.dtype == torch.float16
    assert (batch.features[0].numpy() == records[2].features.astype(np.float16)).all()
    assert (batch.features[1, 1:] == 0).all()


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_half_precision_that_is_not_finite_is_found(value):
    features = np.zeros((2, 3, 4), np.float16)
    features[0] = np.finfo(np.float16).max
    features[1, 2, 3] = value
    file = SimpleNamespace(path="f.h5", image_ids=["a", "b"])
    pairs._expect_finite(file, np.asarray([0]), features[:1])
    with pytest.raises(DataError, match=r"picture b \(row 1\)"):
        pairs._expect_finite(file, np.asarray([0, 1]), features)


def test_huge_but_finite_features_are_fine(tmp_path):
    record = make_record(features=np.full((2, WIDTH), 3e38, np.float32), boxes=None)
    batch = collate_images(FeatureFile(write_records(tmp_path / "f.h5", [record])), [0])
    assert torch.isfinite(batch.features).all()


def damage(file: FeatureFile, row: int, value: float) -> None:
    """Write a value over the first feature of a picture, as a failing disk would."""
    position = file.path.read_bytes().index(file.regions(row).tobytes())
    with open(file.path, "r+b") as raw:
        raw.seek(position)
        raw.write(np.float32(value).tobytes())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_picture_with_nan_is_named(file, value):
    damage(file, 2, value)
    with pytest.raises(DataError, match=r"picture im2 \(row 2\) holds NaN or infinite features"):
        collate_images(FeatureFile(file.path), [0, 2])


def test_texts_are_padded_with_zeros():
    batch = collate_texts([[1, 5, 2], [1, 6, 7, 2]])
    assert batch.ids.tolist() == [[1, 5, 2, 0], [1, 6, 7, 2]]
    assert batch.mask.tolist() == [[True, True, True, False], [True] * 4]
    assert batch.lengths.tolist() == [3, 4]


def test_texts_may_have_a_fixed_width():
    assert collate_texts([[1, 5, 2]], width=5).ids.tolist() == [[1, 5, 2, 0, 0]]
    with pytest.raises(DataError, match="a caption has 3 tokens; expected at most 2"):
        collate_texts([[1, 5, 2]], width=2)


def test_a_word_id_of_zero_is_masked_by_position_and_not_by_value():
    assert collate_texts([[1, 0, 2]]).mask.all()


def test_long_captions_are_cut_but_keep_their_end():
    table = TokenTable.encode(["a b c d", "a b"], encode, max_words=4)
    assert table.row(0).tolist() == [1, 11, 11, 2]
    assert table.row(1).tolist() == [1, 11, 11, 2]
    assert table.cut == 1


def test_a_token_table_holds_every_caption():
    table = TokenTable.encode(["a", "", "bb c"], encode)
    assert [table.row(row).tolist() for row in range(len(table))] == [[1, 11, 2], [1, 2], [1, 12, 11, 2]]
    assert table.lengths([2, 0]).tolist() == [4, 3]


def test_pairs_of_a_split(dataset):
    assert len(dataset) == 12
    assert dataset.images.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert dataset.tokens.row(5).tolist() == [1, 11, 11, 2]


def test_an_unknown_split(file):
    with pytest.raises(DataError, match="it has train, dev"):
        PairDataset(file, "test", encode)


def test_a_batch_is_sorted_by_length_and_stays_paired(dataset):
    """Lengths of pairs 0, 1, 8, 4, 11: 3, 4, 5, 4, 6; equals keep their order."""
    batch = collate_pairs(dataset, [0, 1, 8, 4, 11])
    assert batch.captions.tolist() == [11, 8, 1, 4, 0]
    assert batch.images.index.tolist() == [3, 2, 0, 1, 0]
    assert batch.texts.lengths.tolist() == [6, 5, 4, 4, 3]


def test_an_order_is_a_permutation_of_its_own(dataset):
    orders = [tuple(epoch_order(50, seed, epoch).tolist()) for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len(set(orders)) == 4
    assert tuple(epoch_order(50, 0, 1).tolist()) == orders[1]


def test_an_order_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    epoch_order(9, 3, 4)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_epoch_shows_every_pair_once_and_keeps_the_rest(dataset):
    batches = list(pair_batches(dataset, batch_size=5, seed=3, epoch=1))
    assert [len(batch.captions) for batch in batches] == [5, 5, 2]
    assert sorted(torch.cat([batch.captions for batch in batches]).tolist()) == list(range(12))


@given(start=st.integers(0, 4), size=st.integers(1, 13))
def test_an_epoch_can_be_taken_up_at_any_step(tmp_path_factory, start, size):
    path = tmp_path_factory.getbasetemp() / "taken_up.h5"
    if not path.exists():
        write_records(path, make_records(train=6))
    dataset = PairDataset(FeatureFile(path), "train", encode)
    whole = list(pair_batches(dataset, batch_size=size, seed=7, epoch=2))
    rest = list(pair_batches(dataset, batch_size=size, seed=7, epoch=2, start_step=start))
    assert len(rest) == max(0, len(whole) - start)
    assert all(same(a, b) for a, b in zip(rest, whole[start:], strict=True))


def test_steps_left_out_are_not_read(dataset, monkeypatch):
    read = []
    monkeypatch.setattr(pairs, "collate_images", lambda file, rows, *_: read.append(len(rows)))
    list(pair_batches(dataset, batch_size=5, seed=0, epoch=0, start_step=2))
    assert read == [2]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_same_batches(dataset, workers):
    options = {"batch_size": 5, "seed": 1, "epoch": 3, "start_step": 1}
    alone = list(pair_batches(dataset, **options))
    helped = list(pair_batches(dataset, workers=workers, **options))
    assert len(alone) == len(helped) == 2
    assert all(same(a, b) for a, b in zip(alone, helped, strict=True))


def test_workers_leave_the_global_generator_alone(dataset):
    before = torch.get_rng_state()
    list(pair_batches(dataset, batch_size=5, seed=1, epoch=3, workers=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_fault_found_by_a_worker_has_no_traceback(file):
    damage(file, 2, np.nan)
    dataset = PairDataset(FeatureFile(file.path), "train", encode)
    with pytest.raises(DataError, match="picture im2") as caught:
        list(pair_batches(dataset, batch_size=3, seed=1, epoch=0, workers=1))
    assert "Traceback" not in caught.value.message


def test_a_file_cut_short_is_noticed_by_a_worker(dataset):
    collate_pairs(dataset, [0])
    os.truncate(dataset.file.path, 400)
    with pytest.raises(RunError, match="was (cut short|replaced) while in use"):
        list(pair_batches(dataset, batch_size=3, seed=1, epoch=0, workers=1))


def test_leaving_an_epoch_early_ends_its_workers(dataset):
    batches = pair_batches(dataset, batch_size=2, seed=1, epoch=0, workers=2)
    next(batches)
    assert len(loader_threads()) == 2
    batches.close()
    assert loader_threads() == []


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_workers_read_no_further_ahead_than_they_should(dataset, monkeypatch):
    read = []
    collate = pairs.collate_images
    monkeypatch.setattr(pairs, "collate_images", lambda *parts: (read.append(1), collate(*parts))[1])
    batches = pair_batches(dataset, batch_size=1, seed=1, epoch=0, workers=1)
    next(batches)
    batches.close()
    assert 1 <= len(read) <= 1 + pairs.BATCHES_AHEAD


def test_a_data_set_can_be_sent_to_a_new_process(dataset):
    collate_pairs(dataset, [0])
    assert same(collate_pairs(pickle.loads(pickle.dumps(dataset)), [4, 9]), collate_pairs(dataset, [4, 9]))


@pytest.mark.parametrize("shard", [slice(0, None, 2), slice(1, None, 2), slice(2, None, 3)])
def test_a_shard_of_a_batch_is_padded_as_the_whole(dataset, shard):
    """What one of several processes reads: rows of the sorted batch, padded to the width of the whole batch."""
    rows = [11, 0, 5, 7, 2]
    whole, part = collate_pairs(dataset, rows), collate_pairs(dataset, rows, shard=shard)
    assert part.texts.ids.equal(whole.texts.ids[shard])
    assert part.images.features.equal(whole.images.features[shard])
    assert part.images.mask.equal(whole.images.mask[shard])
    assert part.captions.equal(whole.captions[shard])
