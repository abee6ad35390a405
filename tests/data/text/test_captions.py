"""Reading captions from every kind of source."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from support.golden import golden_root, settings
from support.records import make_records, write_records

from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.data.features.writer import write_feature_file
from selfalign_cli.data.text.captions import read_caption_lines, read_vocabulary_captions
from selfalign_cli.errors import DataError


@pytest.fixture
def lines(tmp_path: Path):
    """A function that writes a caption file."""

    def write(content: bytes | str, name: str = "train_caps.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.mark.parametrize("mark", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r"])
def test_only_a_newline_ends_a_line(lines, mark):
    assert read_caption_lines(lines(f"a{mark}b\nc\n")) == [f"a{mark}b", "c"]


@pytest.mark.parametrize("content", ["a b\nc\n", "a b\nc", "a b\r\nc\r\n", "\ufeffa b\nc\n"])
def test_line_ends_and_byte_order_marks_do_not_matter(lines, content):
    assert read_caption_lines(lines(content)) == ["a b", "c"]


def test_captions_are_kept_as_written(lines):
    assert read_caption_lines(lines("  A\tDog  \n")) == ["  A\tDog  "]


def test_a_line_that_does_not_decode_is_named(lines):
    path = lines(b"fine\nfine too\ncaf\xe9 latin one\n")
    with pytest.raises(DataError, match=r"train_caps.txt, line 3 is not UTF-8: byte 0xe9 at column 4"):
        read_caption_lines(path)


@pytest.mark.parametrize("content", ["a\n\nb\n", "a\n \t\nb\n", "a\n\u00a0\n", "a\n\r\nb"])
def test_an_empty_line_is_named(lines, content):
    with pytest.raises(DataError, match=r"train_caps.txt, line 2 is empty; expected a caption"):
        read_caption_lines(lines(content))


def test_an_empty_file(lines):
    with pytest.raises(DataError, match="is empty; expected a caption a line"):
        read_caption_lines(lines(""))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_caption_lines(tmp_path / "none.txt")
    with pytest.raises(DataError, match="cannot read"):
        read_caption_lines(tmp_path)


def test_a_text_file_has_no_splits(lines):
    path = lines("a dog\na cat\n", "mine.txt")
    assert read_vocabulary_captions(path) == read_vocabulary_captions(path, ["train"]) == ["a dog", "a cat"]


def test_a_scan_folder_by_default_gives_train_and_dev(lines, tmp_path):
    for name in ("train", "dev", "test"):
        lines(f"{name} one\n{name} two\n", f"{name}_caps.txt")
    assert read_vocabulary_captions(tmp_path) == ["train one", "train two", "dev one", "dev two"]
    assert read_vocabulary_captions(tmp_path, ["test"]) == ["test one", "test two"]


def test_by_default_a_missing_dev_split_does_not_matter(lines, tmp_path):
    lines("a dog\n")
    assert read_vocabulary_captions(tmp_path) == ["a dog"]


def test_a_split_that_is_asked_for_must_be_there(lines, tmp_path):
    lines("a dog\n")
    with pytest.raises(DataError, match="lacks the split dev; it has train"):
        read_vocabulary_captions(tmp_path, ["train", "dev"])


def test_a_source_with_neither_train_nor_dev(lines, tmp_path):
    lines("a dog\n", "test_caps.txt")
    with pytest.raises(DataError, match="lacks the split train, dev; it has test") as caught:
        read_vocabulary_captions(tmp_path)
    assert "--splits" in caught.value.hint


def test_a_folder_without_captions(tmp_path):
    with pytest.raises(DataError, match="holds no file named SPLIT_caps.txt"):
        read_vocabulary_captions(tmp_path)


def test_a_feature_file(tmp_path):
    records = make_records()
    path = write_records(tmp_path / "f.h5", records)
    expected = [caption for record in records if record.split == "dev" for caption in record.captions]
    assert read_vocabulary_captions(path, ["dev"]) == expected


def karpathy(*images: tuple[str, list[str]]) -> str:
    return json.dumps({"images": [{"split": s, "sentences": [{"raw": t} for t in texts]} for s, texts in images]})


def test_karpathy_splits_go_by_the_usual_names(lines):
    """restval belongs to train, val is dev."""
    content = karpathy(("train", ["a", "b"]), ("test", ["c"]), ("restval", ["d"]), ("val", ["e"]))
    path = lines(content, "dataset.json")
    assert read_vocabulary_captions(path) == ["a", "b", "d", "e"]
    assert read_vocabulary_captions(path, ["test"]) == ["c"]


def test_coco_captions_have_no_splits(lines):
    content = {"images": [{"id": 1}], "annotations": [{"image_id": 1, "id": 7, "caption": "a dog"}]}
    assert read_vocabulary_captions(lines(json.dumps(content), "captions.json")) == ["a dog"]


def test_a_plain_list_of_pictures(lines):
    content = [{"image": "a.jpg", "split": "train", "captions": ["a dog", "dogs"]}, {"split": "x", "captions": ["no"]}]
    assert read_vocabulary_captions(lines(json.dumps(content), "mine.json")) == ["a dog", "dogs"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("3", "neither Karpathy's `images` with `sentences` nor COCO's `annotations`"),
        ("[]", "lacks the split train, dev; it has none"),
        ('[{"split": "train", "captions": "a dog"}]', "entry 0 has captions 'a dog'; expected a list of texts"),
        ("{}", "neither Karpathy's"),
        ('{"images": [3]}', "image 0 has split None; expected a text"),
        ('{"images": [{"split": "train"}]}', "image 0 has no list `sentences`"),
        (karpathy(("train", ["a", " "])), "image 0, sentence 1 has raw ' '; expected a text"),
        ('{"images": []}', "lacks the split train, dev; it has none"),
        ('{"annotations": [{"caption": 5}]}', "annotation 0 has caption 5; expected a text"),
        ('{"annotations": [[]]}', "annotation 0 has caption None; expected a text"),
    ],
)
def test_json_of_another_kind(lines, content, message):
    with pytest.raises(DataError, match=message):
        read_vocabulary_captions(lines(content, "x.json"))


def test_json_with_bytes_that_are_not_utf8(lines):
    with pytest.raises(DataError, match="is not JSON"):
        read_vocabulary_captions(lines(b'{"images": "\xff"}', "x.json"))


def test_golden_captions_are_read_line_by_line():
    legacy = golden_root() / "legacy"
    expected = settings(legacy / "expected" / "vsrn_captions.json")["splits"]
    folder = next(path for path in sorted((legacy / "data").iterdir()) if path.is_dir())
    for split, captions in expected.items():
        found = read_vocabulary_captions(folder, [split])
        assert [text.strip() for text in found] == [caption["raw"] for caption in captions]


def test_golden_karpathy_files():
    """Per split the first five sentences of each picture; `expected_splits.json` calls restval train already."""
    folder = golden_root() / "legacy" / "karpathy"
    for path in sorted(folder.glob("dataset_*.json")):
        images = settings(path)["images"]
        for ours, theirs in (("train", ("train", "restval")), ("dev", ("val",)), ("test", ("test",))):
            chosen = [image for image in images if image["split"] in theirs]
            captions = [sentence["raw"] for image in chosen for sentence in image["sentences"]]
            if captions:
                assert read_vocabulary_captions(path, [ours]) == captions


def test_a_vocabulary_under_another_name_is_no_list_of_captions(tmp_path):
    (tmp_path / "words.txt").write_text('{\n"format": "selfalign-vocabulary",\n"words": ["a"]\n}\n')
    with pytest.raises(DataError, match="neither Karpathy's `images`"):
        read_vocabulary_captions(tmp_path / "words.txt")
    (tmp_path / "odd.txt").write_text("{a dog}\n[a cat]\n")
    assert read_vocabulary_captions(tmp_path / "odd.txt") == ["{a dog}", "[a cat]"]


def test_captions_of_a_feature_file_do_not_bring_its_features_into_memory(tmp_path):
    path = tmp_path / "f.h5"
    records = [ImageRecord(str(row), np.ones((40, 5000), np.float32), "train", ["a dog"]) for row in range(20)]
    write_feature_file(path, records, total_images=20, total_regions=800, feature_dim=5000)
    read_vocabulary_captions(path)  # the first call also imports
    tracemalloc.start()
    try:
        assert read_vocabulary_captions(path) == ["a dog"] * 20
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 4
    finally:
        tracemalloc.stop()
