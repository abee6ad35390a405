"""Captions in files of their own, and how they find their pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from selfalign_cli.data.formats.caption_join import join
from selfalign_cli.data.formats.caption_tables import read_caption_table
from selfalign_cli.data.formats.pictures import Counted, Regions
from selfalign_cli.data.text.captions import read_vocabulary_captions
from selfalign_cli.errors import DataError


@pytest.fixture
def saved(tmp_path: Path):
    """A function that writes JSON."""

    def write(content, name: str = "captions.json") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


def karpathy(number=0, split="train", captions=("a dog",), **changes):
    sentences = [
        {"tokens": [], "raw": text, "imgid": number, "sentid": 10 * number + k} for k, text in enumerate(captions)
    ]
    entry = {"imgid": number, "filename": f"COCO_{number:06}.jpg", "cocoid": 1000 - number, "filepath": "val2014"}
    entry |= {"split": split, "sentences": sentences, "sentids": [row["sentid"] for row in sentences]}
    return {**entry, **changes}


def coco(images=2):
    return {
        "images": [{"id": 7 + i, "file_name": f"{7 + i}.jpg", "width": 64, "height": 48} for i in range(images)],
        "annotations": [{"id": 100 + i, "image_id": 7 + i % images, "caption": f"cat {i}"} for i in range(2 * images)],
    }


def open_pictures(ids):
    """Pictures of one region each; picture number i has the feature i."""

    class Reading:
        def __enter__(self):
            return lambda row: Regions(np.full((1, 1), row, np.float32))

        def __exit__(self, *_):
            return None

    counted = Counted()
    for number, name in enumerate(ids):
        counted.add(name, 1, 1, f"line {number}")
    return counted.pictures([Path("source")], Reading)


def matched(ids, captions, splits=(), **options):
    plan = join("test", open_pictures(ids), captions, splits, **options)
    return plan, list(plan.records())


def test_karpathy(saved):
    """`val` is dev, `restval` is train; names, sentence ids and the order stay."""
    images = [karpathy(0, "test"), karpathy(1, "restval", ("b", "c")), karpathy(2, "val"), karpathy(3, "train")]
    table = read_caption_table(saved({"images": images, "dataset": "coco"}))
    assert [picture.split for picture in table] == ["test", "train", "dev", "train"]
    assert table[1].captions == ["b", "c"]
    assert table[1].caption_ids == ["10", "11"]
    path = "val2014/COCO_000001.jpg"
    assert table[1].names == {"cocoid": "999", "filename": "COCO_000001.jpg", "imgid": "1", "path": path}
    assert table[1].file_name == "COCO_000001.jpg"


def test_coco(saved):
    """No splits: all are one, named test or as asked; captions keep the order of the annotations."""
    path = saved(coco())
    table = read_caption_table(path)
    assert [(p.split, p.captions, p.caption_ids) for p in table] == [
        ("test", ["cat 0", "cat 2"], ["100", "102"]),
        ("test", ["cat 1", "cat 3"], ["101", "103"]),
    ]
    assert (table[0].names, table[0].file_name, table[0].size) == (
        {"id": "7", "file_name": "7.jpg"},
        "7.jpg",
        (64.0, 48.0),
    )
    assert {p.split for p in read_caption_table(path, ["train"])} == {"train"}
    with pytest.raises(DataError, match="knows no splits; expected one name"):
        read_caption_table(path, ["train", "dev"])


def test_coco_pictures_without_captions_are_left_out(saved):
    content = coco()
    content["images"].append({"id": 99, "file_name": "99.jpg"})
    assert len(read_caption_table(saved(content))) == 2


def test_a_plain_list(saved):
    path = saved([{"image": "pets/dog.jpg", "split": "train", "captions": ["Ein Hund.", "É"], "note": "mine"}])
    (picture,) = read_caption_table(path)
    assert (picture.split, picture.captions, picture.file_name) == ("train", ["Ein Hund.", "É"], "pets/dog.jpg")
    assert read_vocabulary_captions(path) == ["Ein Hund.", "É"]


@pytest.mark.parametrize("ids", ["7\n8\n", "7\n7\n8\n8\n"])
def test_scan_lines_beside_ids(tmp_path, ids):
    """Four captions for two ids, or for two ids that are repeated for each caption."""
    (tmp_path / "dev_caps.txt").write_text("a\nb\nc\nd\n")
    (tmp_path / "dev_ids.txt").write_text(ids)
    (tmp_path / "other_ids.txt").write_text("7\n")
    for path in (tmp_path, tmp_path / "dev_caps.txt"):
        table = read_caption_table(path)
        assert [(p.names["id"], p.split, p.captions) for p in table] == [
            ("7", "dev", ["a", "b"]),
            ("8", "dev", ["c", "d"]),
        ]


@pytest.mark.parametrize(("captions", "ids"), [("a\nb\nc\n", "7\n8\n"), ("a\n", "7\n8\n")])
def test_scan_lines_that_do_not_fit_the_ids(tmp_path, captions, ids):
    (tmp_path / "dev_caps.txt").write_text(captions)
    (tmp_path / "dev_ids.txt").write_text(ids)
    with pytest.raises(DataError, match=r"dev_caps.txt has \d captions for the 2 lines of dev_ids.txt"):
        read_caption_table(tmp_path)


def test_scan_lines_without_ids(tmp_path):
    (tmp_path / "dev_caps.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"there is no .*dev_ids.txt"):
        read_caption_table(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ({}, "is JSON without captions"),
        ([], "holds no captions"),
        ({"images": []}, "holds no captions"),
        ({"images": [3]}, r"image 0 has split None; expected a text"),
        ({"images": [karpathy(split=3)]}, r"image 0 has split 3; expected a text"),
        ({"images": [karpathy(sentences="x")]}, r"image 0 has sentences 'x'; expected a list"),
        ({"images": [karpathy(captions=["ok", " "])]}, r"image 0, sentence 1 has raw ' '; expected a text"),
        ({"images": [karpathy(sentences=[{"raw": "a"}])]}, r"image 0, sentence 0 has sentid None"),
        ({"images": [karpathy(cocoid=1.5)]}, r"image 0 has cocoid 1.5; expected a number or a text"),
        ({"images": [{"id": True}], "annotations": []}, r"image 0 has id True"),
        ({"images": [{"id": 1}, {"id": 1}], "annotations": []}, r"image 1 has the id 1 of one before it"),
        ({"images": [{"id": 1, "width": 0, "height": 1}], "annotations": []}, r"image 0 has width 0 and height 1"),
        ({"images": [{"id": 1}], "annotations": [{"image_id": 2}]}, r"annotation 0 belongs to picture 2"),
        ({"images": [{"id": 1}], "annotations": [{"image_id": 1, "id": 1}]}, r"annotation 0 has caption None"),
        (["x"], r"entry 0 has image None"),
        ([{"image": "a", "split": "train", "captions": []}], r"entry 0 \(a\) has captions \[\]"),
        ([{"image": "a", "split": "train", "captions": [""]}], r"entry 0 \(a\) has captions \[''\]"),
        ([{"image": "a", "split": None, "captions": ["a"]}], r"entry 0 has split None"),
    ],
)
def test_faulty_captions_are_named(saved, content, message):
    path = saved(content)
    with pytest.raises(DataError, match=message) as caught:
        read_caption_table(path)
    assert str(path) in caught.value.message


def test_a_split_that_is_not_there(saved):
    path = saved({"images": [karpathy()]})
    with pytest.raises(DataError, match="has no split 'val'; it has train"):
        read_caption_table(path, ["val"])


def test_rows_come_in_the_order_of_the_captions(saved):
    """Splits in the usual order, the file's order within each, whatever the order of the features."""
    images = [karpathy(5, "test"), karpathy(2, "train"), karpathy(9, "val"), karpathy(1, "restval")]
    plan, records = matched(["999", "998", "991", "995"], saved({"images": images}))
    assert [(r.split, r.image_id, float(r.features[0, 0])) for r in records] == [
        ("train", "998", 1.0),
        ("train", "999", 0.0),
        ("dev", "991", 2.0),
        ("test", "995", 3.0),
    ]
    assert (plan.splits, plan.total_regions) == ({"train": 2, "dev": 1, "test": 1}, 4)
    assert records[0].caption_ids == ["20"]


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        (["1000", "999"], "cocoid"),
        (["00001000", "0999"], "cocoid"),
        (["COCO_000000", "COCO_000001"], "filename"),
        (["COCO_000000.jpg", "COCO_000001.jpg"], "filename"),
        (["val2014/COCO_000000.jpg", "val2014/COCO_000001.jpg"], "path"),
        (["0", "1"], "imgid"),
    ],
)
def test_one_kind_of_name_is_taken_for_all(saved, ids, kind):
    plan, records = matched(ids, saved({"images": [karpathy(0), karpathy(1)]}))
    assert [record.image_id for record in records] == ids
    assert f"pictures are matched with captions by {kind}" in plan.notes


def test_a_small_imgid_is_not_mistaken_for_a_cocoid(saved):
    """Picture 1 by cocoid is imgid 0; by imgid it is the other one. Most entries decide."""
    images = [karpathy(0, cocoid=1), karpathy(1, cocoid=500), karpathy(2, cocoid=600)]
    _, records = matched(["1", "500", "600"], saved({"images": images}))
    assert [record.caption_ids for record in records] == [["0"], ["10"], ["20"]]


def test_a_path_finds_a_file_by_its_last_part(saved):
    _, records = matched(["dog"], saved([{"image": "pets/dog.JPG", "split": "train", "captions": ["a"]}]))
    assert (records[0].image_id, records[0].file_name) == ("dog", "pets/dog.JPG")


def test_pictures_that_the_captions_do_not_know(saved):
    """An error, unless they are to be left out; then they are counted."""
    path = saved({"images": [karpathy(0)]})
    with pytest.raises(DataError, match="does not know 2 of the 3 pictures of source; the first is 5 .* by cocoid"):
        matched(["1000", "5", "6"], path)
    plan, records = matched(["1000", "5", "6"], path, skip_unknown=True)
    assert [record.image_id for record in records] == ["1000"]
    assert any(note.startswith("2 of 3 pictures are left out: ") and "does not know" in note for note in plan.notes)


def test_pictures_of_other_splits_and_without_captions_are_counted(saved):
    path = saved({"images": [karpathy(0), karpathy(1, "val"), karpathy(2, captions=[])]})
    plan, records = matched(["1000", "999", "998"], path, ["train"])
    assert [record.image_id for record in records] == ["1000"]
    assert any(note.startswith("2 of 3 pictures are left out: ") and "no captions" in note for note in plan.notes)


def test_captions_of_pictures_that_are_not_there(saved):
    path = saved({"images": [karpathy(0), karpathy(1, "val"), karpathy(2)]})
    with pytest.raises(
        DataError,
        match="has captions for pictures that source lacks .1 of them.; the first is cocoid 999 of split dev",
    ):
        matched(["1000", "998"], path)
    assert len(matched(["1000", "998"], path, ["train"])[1]) == 2


def test_no_picture_fits(saved):
    with pytest.raises(DataError, match="no picture of source is in .*: it has x, y; .* by cocoid: 1000;"):
        matched(["x", "y"], saved({"images": [karpathy(0)]}))


def test_captions_that_name_a_picture_twice(saved):
    with pytest.raises(DataError, match=r"names the picture 1000 \(cocoid\) twice"):
        matched(["1000"], saved({"images": [karpathy(0), karpathy(0)]}))


def listed(*names):
    return [{"image": name, "split": "test", "captions": [f"a {name}"]} for name in names]


def test_ids_that_differ_by_their_suffix_meet_their_own_captions(saved):
    _, records = matched(["a.jpg", "a.png", "007", "7"], saved(listed("a.png", "7", "a.jpg", "007")))
    assert {record.image_id: record.captions for record in records} == {
        name: [f"a {name}"] for name in ("a.jpg", "a.png", "007", "7")
    }


def test_a_name_that_may_mean_two_pictures(saved):
    with pytest.raises(DataError, match=r"names the picture a \(image\); source has a\.jpg, a\.png"):
        matched(["a.jpg", "a.png", "b.jpg"], saved(listed("a", "b")))
    with pytest.raises(DataError, match=r"does not know 1 of the 2 pictures .*; the first is a\.png"):
        matched(["a.jpg", "a.png"], saved(listed("a.jpg")))
    with pytest.raises(DataError, match=r"names the picture a \(image\) twice"):
        matched(["a"], saved(listed("a.jpg", "a.png")))


def test_sizes_come_from_the_captions_if_the_features_have_none(saved):
    _, records = matched(["7", "8"], saved(coco()))
    assert [record.size for record in records] == [(64.0, 48.0)] * 2


def test_a_picture_that_changed_since_it_was_counted(saved):
    pictures = open_pictures(["1000"])
    pictures.regions[0] = 2
    plan = join("test", pictures, saved({"images": [karpathy(0)]}))
    with pytest.raises(DataError, match="picture 1000 of source has 1 regions, and had 2 when they were counted"):
        list(plan.records())
