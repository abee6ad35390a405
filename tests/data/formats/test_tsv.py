"""Faults of tab-separated detector output, each named with its file and line."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from support.dialects import (
    HEIGHT,
    WIDTH,
    b64,
    make_pictures,
    tsv,
    write_bua,
    write_captions,
    write_lxmert,
    write_vinvl,
)

from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.formats import tsv_rows
from selfalign_cli.errors import DataError

PICTURES = make_pictures([3, 2, 4])


@pytest.fixture
def captions(tmp_path):
    return write_captions(tmp_path / "captions.json", PICTURES)


@pytest.fixture
def convert(tmp_path, captions):
    """A function that converts sources."""

    def run(*sources, **options) -> FeatureFile:
        convert_to_feature_file(sources, tmp_path / "out.h5", captions=captions, overwrite=True, **options)
        return FeatureFile(tmp_path / "out.h5")

    return run


@pytest.fixture
def refused(tmp_path, convert):
    """A function that expects a conversion to fail, with a message, and to leave nothing."""

    def expect(message, *sources, **options) -> None:
        with pytest.raises(DataError, match=message):
            convert(*sources, **options)
        assert not [path for path in tmp_path.iterdir() if path.name.endswith((".h5", ".tmp"))]

    return expect


def row(picture, **changes):
    """The six fields of a picture, some of them changed."""
    fields = {"id": picture.image_id, "w": WIDTH, "h": HEIGHT, "n": len(picture.features)}
    fields |= {"boxes": b64(picture.boxes), "features": b64(picture.features), **changes}
    return list(fields.values())


def second(tmp_path, **changes):
    """A file whose second line is changed."""
    return tsv(tmp_path / "d.tsv", [row(PICTURES[0]), row(PICTURES[1], **changes), row(PICTURES[2])])


def test_line_ends_do_not_matter(tmp_path, convert):
    hashes = set()
    for end in (b"\r\n", b"\n"):
        path = tsv(tmp_path / "d.tsv", [row(picture) for picture in PICTURES], end)
        hashes.add(convert(path).content_hash)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    hashes.add(convert(path).content_hash)
    assert len(hashes) == 1


def test_several_files(tmp_path, convert):
    paths = [tsv(tmp_path / f"d.tsv.{i}", [row(picture)]) for i, picture in enumerate(PICTURES)]
    assert convert(*paths[::-1]).image_ids == ["11", "12", "13"]


def test_a_picture_in_two_files(tmp_path, refused):
    paths = [tsv(tmp_path / f"d.tsv.{i}", [row(picture) for picture in PICTURES]) for i in range(2)]
    refused(r"d.tsv.1, line 1 holds the picture 11, as does .*d.tsv.0, line 1", *paths)


def test_lxmert_has_the_height_in_front_of_the_width(tmp_path, convert):
    assert convert(*write_lxmert(tmp_path, PICTURES)).facts.image_size.tolist() == [[WIDTH, HEIGHT]] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": ""}, "d.tsv, line 2 names no picture"),
        ({"id": "11"}, "d.tsv, line 2 holds the picture 11, as does .*d.tsv, line 1; expected every picture once"),
        ({"id": b"\xff"}, "d.tsv, line 2 has the id b'.xff'; expected UTF-8"),
        ({"w": "x"}, "d.tsv, line 2 has the width b'x'; expected a whole number"),
        ({"h": -3}, "d.tsv, line 2 has the height b'-3'"),
        ({"h": 0}, r"picture 12 of split dev: its size is \(640.0, 0.0\)"),
        ({"n": ""}, "d.tsv, line 2 has num_boxes b''"),
        ({"n": 0, "boxes": "", "features": ""}, "d.tsv, line 2: picture 12 has no regions"),
        ({"n": 3}, "d.tsv, line 2 has 44 characters of features, which are not 3 rows"),
        ({"n": 4}, r"d.tsv, line 2 has 44 characters of boxes; expected 4 x 4"),
        ({"boxes": b64(np.zeros((2, 3), "f4"))}, r"d.tsv, line 2 has 32 characters of boxes; expected 2 x 4"),
        ({"features": b64(PICTURES[1].features)[:-5]}, "d.tsv, line 2 has 39 characters of features"),
        (
            {"features": b64(PICTURES[1].features)[:-12]},
            "d.tsv, line 2: picture 12 has regions of width 3; expected 4",
        ),
        (
            {"features": b64(np.ones((2, 5), "f4"))},
            "line 2: picture 12 has regions of width 5; expected 4, as in .*line 1",
        ),
        (
            {"features": b64(PICTURES[1].features).replace(b"v", b"!", 1)},
            "d.tsv, line 2 has features that are not base64",
        ),
        ({"features": b64(np.full((2, 4), np.nan, "f4"))}, "picture 12 of split dev: region 0 holds nan in column 0"),
        (
            {"features": b64(np.full((2, 4), -np.inf, "f4"))},
            "picture 12 of split dev: region 0 holds -inf in column 0",
        ),
        ({"boxes": b64(np.full((2, 4), 0x7FA00000, "u4"))}, "picture 12 of split dev: box 0 is nan nan nan nan"),
        ({"boxes": b64(np.full((2, 4), 9, "f4"))}, "picture 12 of split dev: box 0 is 9 9 9 9"),
        ({"boxes": b64(np.full((2, 4), [0, 0, 5, 999], "f4"))}, "box 0 is 0 0 5 999; .* inside 640 x 480"),
    ],
)
def test_a_faulty_field_is_named(tmp_path, refused, changes, message):
    refused(message, second(tmp_path, **changes), format="bua-tsv")


def test_a_base64_that_is_cut_at_a_whole_number_of_rows(tmp_path, refused):
    """Every byte is there but the last region's: only the count shows it."""
    fields = row(PICTURES[0])
    fields[5] = base64.b64encode(base64.b64decode(fields[5])[:32])
    refused("line 1 has 44 characters of features, which are not 3 rows", tsv(tmp_path / "d.tsv", [fields]))


def test_a_file_cut_short_anywhere_is_an_error_or_whole(tmp_path, convert, captions):
    """Cut in front of the last line end nothing is lost; cut at the end of a line pictures are missing."""
    path = tsv(tmp_path / "d.tsv", [row(picture) for picture in PICTURES])
    content, whole = path.read_bytes(), convert(path).content_hash
    for length in range(len(content)):
        path.write_bytes(content[:length])
        if length >= len(content) - 2:
            assert convert(path).content_hash == whole
        else:
            with pytest.raises(DataError):
                convert(path)


def test_one_line_without_an_end(tmp_path, captions):
    """Nothing states how wide regions are; the rest of the line might be taken for it."""
    path = tsv(tmp_path / "d.tsv", [row(PICTURES[0])])
    path.write_bytes(path.read_bytes()[:-18] + b"A")
    with pytest.raises(DataError, match="d.tsv, line 1 has "):
        convert_to_feature_file([path], tmp_path / "out.h5", captions=captions, format="bua-tsv")


def test_a_number_of_fields_that_changes(tmp_path, refused):
    path = tsv(tmp_path / "d.tsv", [row(PICTURES[0]), row(PICTURES[1])[:5]])
    refused("d.tsv, line 2 has 5 fields; expected 6", path)


def test_a_number_of_fields_that_nobody_writes(tmp_path, refused):
    refused(
        "d.tsv, line 1 has 5 fields; expected 6, 7 .* or 10",
        tsv(tmp_path / "d.tsv", [list("abcde")]),
        format="bua-tsv",
    )


def test_a_blank_line(tmp_path, refused):
    path = tsv(tmp_path / "d.tsv", [row(PICTURES[0]), [""], row(PICTURES[1])])
    refused("d.tsv, line 2 has 1 fields; expected 6", path)


def test_a_line_without_end_is_not_read_whole(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(tsv_rows, "LONGEST_LINE", 100)
    refused("d.tsv, line 1 is longer than 100 bytes", second(tmp_path), format="bua-tsv")


def test_a_file_that_changes_while_it_is_read(tmp_path, captions):
    from selfalign_cli.data.formats import plan_conversion

    path = tsv(tmp_path / "d.tsv", [row(picture) for picture in PICTURES])
    plan = plan_conversion([path], captions)
    tsv(path, [row(picture) for picture in PICTURES[::-1]])
    with pytest.raises(DataError, match=r"d.tsv, line . changed while it was read"):
        list(plan.records())


def test_without_captions(tmp_path, captions):
    """Pictures only, in the order of the source; captions can be added later."""
    made = convert_to_feature_file([second(tmp_path)], tmp_path / "out.h5")
    file = FeatureFile(tmp_path / "out.h5")
    assert (made.splits, file.image_ids, file.captions) == ({"test": 3}, ["11", "12", "13"], [])
    assert file.regions(2).tobytes() == PICTURES[2].features.tobytes()
    assert any("pictures only" in note for note in made.notes)
    later = convert_to_feature_file([tmp_path / "out.h5"], tmp_path / "later.h5", captions=captions)
    at_once = convert_to_feature_file([tmp_path / "d.tsv"], tmp_path / "at_once.h5", captions=captions)
    assert later.content_hash == at_once.content_hash


def test_without_captions_there_is_one_split(tmp_path):
    convert_to_feature_file([second(tmp_path)], tmp_path / "out.h5", splits=["mine"])
    assert list(FeatureFile(tmp_path / "out.h5").facts.splits) == ["mine"]
    with pytest.raises(DataError, match="without captions there is one split; expected one name, not a, b"):
        convert_to_feature_file([second(tmp_path)], tmp_path / "two.h5", splits=["a", "b"])


# VinVL


def test_vinvl_lines_without_a_picture_are_left_out(tmp_path, convert):
    write_vinvl(tmp_path, [*PICTURES, *make_pictures([2] * 5)[4:]])
    rows = {picture.image_id: row for row, picture in enumerate(PICTURES)}
    (tmp_path / "imageid2idx.json").write_text(json.dumps(rows))
    assert convert(tmp_path / "features.tsv").image_ids == ["11", "12", "13"]


def change_prediction(tmp_path, change):
    path = tmp_path / "predictions.tsv"
    key, content = path.read_text().splitlines()[0].split("\t")
    found = json.loads(content)
    change(found)
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    tsv(path, [[key, json.dumps(found)], *rows], b"\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found["objects"].pop(), r"predictions.tsv, line 1 \(k2\) has 3 objects; its features have 4"),
        (lambda found: found["objects"][0].pop("rect"), r"predictions.tsv, line 1 \(k2\) is not JSON with a rect"),
        (lambda found: found["objects"][0].update(rect=[1, 2, 3]), r"line 1 \(k2\) has a rect or a size that is not"),
        (lambda found: found["objects"][0].update(rect="abcd"), r"line 1 \(k2\) has a rect or a size that is not"),
        (lambda found: found["objects"][0].update(rect=[1, 2, True, None]), r"line 1 \(k2\) has a rect or a size"),
        (lambda found: found["objects"][0].update(rect=[9, 2, 3, 4]), "picture 13 of split test: box 0 is 9 2 3 4"),
        (lambda found: found.update(image_w="wide"), r"line 1 \(k2\) has a rect or a size that is not"),
        (lambda found: found.pop("image_h"), r"line 1 \(k2\) is not JSON"),
        (lambda found: found.pop("objects"), r"line 1 \(k2\) is not JSON"),
    ],
)
def test_vinvl_predictions_that_do_not_fit(tmp_path, refused, change, message):
    (source,) = write_vinvl(tmp_path, PICTURES)
    change_prediction(tmp_path, change)
    refused(message, source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "features.lineidx",
            "0\n71\n99\n",
            r"features.lineidx, line 2 says b'71', but line 2 of the features starts at byte",
        ),
        ("features.lineidx", "0\n" * 4, r"features.lineidx, line 2 says b'0'"),
        ("features.lineidx", "x\n" * 3, r"features.lineidx, line 1 says b'x'"),
        ("features.lineidx", "0\n", r"features.lineidx has 1 lines; the features have 3"),
        ("imageid2idx.json", "[]", "imageid2idx.json is not an object"),
        ("imageid2idx.json", '{"11": "a"}', "imageid2idx.json is not an object of picture ids and line numbers"),
        ("imageid2idx.json", '{"11": 0, "12": 0}', "imageid2idx.json gives line 0 to both 11 and 12"),
        ("imageid2idx.json", '{"11": 0, "12": 1, "13": 3}', "imageid2idx.json names line 3 of .*, which has 3"),
        ("predictions.tsv", "k0\t{}\n", "features.tsv, line 2 is of picture k1, which .*predictions.tsv lacks"),
        ("predictions.tsv", "k0\t{}\nk0\t{}\n", "predictions.tsv, line 2 should hold a key that was not there before"),
    ],
)
def test_vinvl_companions_that_do_not_fit(tmp_path, refused, name, content, message):
    (source,) = write_vinvl(tmp_path, PICTURES)
    (tmp_path / name).write_text(content)
    refused(message, source)


def test_vinvl_features_cut_at_the_end_of_a_line_are_missed_by_their_index(tmp_path, refused):
    (source,) = write_vinvl(tmp_path, PICTURES)
    (tmp_path / "imageid2idx.json").unlink()
    (tmp_path / "predictions.tsv").unlink()
    source.write_bytes(b"".join(source.read_bytes().splitlines(keepends=True)[:2]))
    refused("features.lineidx, line 3 says .* but line 3 of the features is missing", source)


@pytest.mark.parametrize("fields", [["k", "x", b"AAAA"], ["k", 1], ["k", 2, b"AAAAAA=="]])
def test_vinvl_lines_that_are_faulty(tmp_path, refused, fields):
    refused(r"features.tsv, line 1 has ", tsv(tmp_path / "features.tsv", [fields], b"\n"), format="vinvl-tsv")


def test_sources_with_and_without_predictions(tmp_path, refused):
    for name, pictures in (("a", PICTURES[:1]), ("b", PICTURES[1:])):
        (tmp_path / name).mkdir()
        write_vinvl(tmp_path / name, pictures)
    (tmp_path / "a" / "predictions.tsv").unlink()
    refused("some sources have predictions.tsv and some have none", tmp_path / "a", tmp_path / "b")


def test_the_three_dialects_of_a_detector_agree(tmp_path, convert):
    hashes = {convert(*write(tmp_path, PICTURES)).content_hash for write in (write_bua, write_lxmert, write_vinvl)}
    assert len(hashes) == 1
