"""Pictures of every mode and kind, and files that are none."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import permissions

from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.errors import DataError
from selfalign_cli.extract.pictures import UnreadableError, decode, find_pictures
from selfalign_cli.extract.regions import GroupingExtractor
from selfalign_cli.extract.run import extract_pictures
from selfalign_cli.extract.weightless import WeightlessBackbone

RED, GREEN, WHITE = [255, 0, 0], [0, 255, 0], [255, 255, 255]


def two_halves(path: Path, mode: str = "RGB", **options: object) -> Path:
    """A picture 8 wide and 4 high, red on the left, green on the right."""
    image = Image.new("RGB", (8, 4), "red")
    image.paste((0, 255, 0), (4, 0, 8, 4))
    image.convert(mode).save(path, **options)  # type: ignore[arg-type]
    return path


def corners_of(path: Path) -> tuple[list[int], list[int]]:
    pixels = decode(path).pixels
    return pixels[0, 0].tolist(), pixels[-1, -1].tolist()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".gif"])
@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_each_format_is_read(tmp_path: Path, suffix: str, mode: str) -> None:
    options = {"lossless": True} if suffix == ".webp" else {}
    mode = "RGB" if suffix == ".webp" else mode
    assert corners_of(two_halves(tmp_path / f"a{suffix}", mode, **options)) == (RED, GREEN)


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_jpeg_of_both_colour_spaces(tmp_path: Path, mode: str) -> None:
    left, right = corners_of(two_halves(tmp_path / "a.jpg", mode, quality=95, subsampling=0))
    np.testing.assert_allclose([left, right], [RED, GREEN], atol=60)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    """5 to 8 swap the sides; where red ends up follows from the table of EXIF 2.3, tag 274."""
    exif = Image.Exif()
    exif[274] = orientation
    path = two_halves(tmp_path / "a.png", exif=exif)
    picture = decode(path)
    assert picture.size == ((4, 8) if orientation > 4 else (8, 4))
    assert picture.pixels.shape == (picture.size[1], picture.size[0], 3)
    red_first = orientation in (1, 4, 5, 6)
    assert picture.pixels[0, 0].tolist() == (RED if red_first else GREEN)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_lies_on_white(tmp_path: Path, mode: str) -> None:
    if mode == "PA":
        image = Image.new("P", (2, 2), 0)
        image.save(tmp_path / "a.png", transparency=0)
    else:
        Image.new(mode, (2, 2), (0,) * len(mode)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png").pixels[0, 0].tolist() == WHITE


def test_half_transparent_is_mixed_with_white(tmp_path: Path) -> None:
    """51 of 255 is a fifth: 255 - 255 / 5 = 204 where black lies on white."""
    Image.new("RGBA", (1, 1), (0, 0, 0, 51)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png").pixels[0, 0].tolist() == [204] * 3


MODES: dict[str, tuple[str, object, str, list[int]]] = {
    # Mode, what one pixel holds, suffix of the file, and the pixel as red, green and blue, by hand.
    "black and white": ("1", 1, ".png", WHITE),
    "grey": ("L", 100, ".png", [100] * 3),
    "grey with alpha": ("LA", (100, 51), ".png", [224] * 3),  # 100 / 5 + 255 * 4 / 5
    "luminance and two colours": ("YCbCr", (100, 128, 128), ".tif", [100] * 3),
    "palette with alpha": ("PA", (7, 51), ".tif", [205] * 3),  # 7 / 5 + 255 * 4 / 5 = 205.4
    "colours": ("RGB", (10, 20, 30), ".bmp", [10, 20, 30]),
    "colours with alpha": ("RGBA", (10, 20, 30, 51), ".webp", [206, 208, 210]),  # a fifth, and 204
    "inks": ("CMYK", (255, 0, 255, 0), ".tif", GREEN),
    "32 bits, of 65535": ("I", 25700, ".tif", [100] * 3),
    "floats, of 1": ("F", 0.4, ".tif", [102] * 3),
}


@pytest.mark.parametrize("name", MODES)
def test_a_pixel_of_each_mode(tmp_path: Path, name: str) -> None:
    mode, value, suffix, expected = MODES[name]
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    Image.new(mode, (3, 2), value).save(tmp_path / f"a{suffix}", **options)  # type: ignore[arg-type]
    with Image.open(tmp_path / f"a{suffix}") as saved:
        assert saved.mode == mode
    found = decode(tmp_path / f"a{suffix}").pixels
    assert found.shape == (2, 3, 3)
    assert np.abs(found[1, 2].astype(int) - expected).max() <= (1 if "alpha" in name else 0)


def test_sixteen_bits_of_either_order(tmp_path: Path) -> None:
    for order in "<>":
        Image.fromarray(np.array([[65535, 25700, 257]], dtype=f"{order}u2")).save(tmp_path / "a.tif")
        assert decode(tmp_path / "a.tif").pixels[0, :, 0].tolist() == [255, 100, 1]


def test_a_large_jpeg_that_lies_on_its_side(tmp_path: Path) -> None:
    """Decoded smaller, and turned: the size is that of the upright picture in the file."""
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (1600, 800), "red").save(tmp_path / "a.jpg", exif=exif)
    picture = decode(tmp_path / "a.jpg", pixels_wanted=100 * 50)
    assert picture.size == (800, 1600)
    assert picture.pixels.shape[0] == 2 * picture.pixels.shape[1] < 1600


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    """65535 / 257 = 255, 25700 / 257 = 100."""
    Image.fromarray(np.array([[65535, 25700, 0]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png").pixels[0, :, 0].tolist() == [255, 100, 0]


def test_floats_from_zero_to_one_are_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.array([[1.0, 0.2, 0.0]], dtype=np.float32)).save(tmp_path / "a.tif")
    assert decode(tmp_path / "a.tif").pixels[0, :, 1].tolist() == [255, 51, 0]


def test_floats_of_any_range_are_stretched(tmp_path: Path) -> None:
    Image.fromarray(np.array([[-1.0, 0.0, 1.0]], dtype=np.float32)).save(tmp_path / "a.tif")
    assert decode(tmp_path / "a.tif").pixels[0, :, 2].tolist() == [0, 128, 255]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_the_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime")]
    options = {"lossless": True} if suffix == ".webp" else {}
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], **options)
    assert decode(tmp_path / f"a{suffix}").pixels[0, 0].tolist() == RED


def test_a_large_jpeg_is_decoded_smaller(tmp_path: Path) -> None:
    """4,000 x 2,000 where 200 x 100 pixels are wanted: a quarter of the sides still leaves twice the wanted ones."""
    Image.new("RGB", (4000, 2000), "red").save(tmp_path / "a.jpg")
    picture = decode(tmp_path / "a.jpg", pixels_wanted=200 * 100)
    assert picture.size == (4000, 2000)
    assert picture.pixels.shape == (250, 500, 3)


@pytest.mark.parametrize("size", [(1, 1), (2000, 10), (1, 3000)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png").size == size


def bomb() -> bytes:
    """A PNG that claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def truncated() -> bytes:
    import io

    out = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(out, "JPEG")
    return out.getvalue()[:700]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "it is empty"),
        ("text.jpg", b"hello, I am text", "not a picture of a known format"),
        ("page.png", b"<!DOCTYPE html><html></html>", "not a picture of a known format"),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0heicmif1", "HEIC pictures are not decoded; convert them"),
        ("photo.avif", b"\0\0\0\x18ftypavis\0\0\0\0", "AVIF pictures are not decoded; convert them"),
        ("bomb.png", bomb(), "far too many pixels|more than the 150,000,000 allowed"),
        ("cut.jpg", truncated(), "truncated|broken"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_what_cannot_be_decoded_says_why(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableError, match=reason):
        decode(tmp_path / name)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere.png")


def forbidden(path: Path) -> None:
    Image.new("RGB", (2, 2)).save(path)
    path.chmod(0)


def forbidden_folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0)


BROKEN = {
    "pipe.png": (pipe, "it is not a regular file"),
    "link.png": (link_to_nowhere, "No such file"),
    "forbidden.png": (forbidden, "Permission denied"),
    "forbidden folder": (forbidden_folder, "this folder cannot be read"),
}


def test_what_cannot_be_read_is_named_and_does_not_end_the_run(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "folder.jpg").mkdir(parents=True)
    for name in ("folder.jpg/a.png", "z.png"):
        two_halves(photos / name)
    for name, (make, _) in BROKEN.items():
        make(photos / name)
    (photos / "text.jpg").write_text("text")
    with permissions.obeyed():
        extractor = GroupingExtractor(WeightlessBackbone(side=32), count=3)
        made = extract_pictures([photos], tmp_path / "f.h5", extractor, workers=2)
        with pytest.raises(DataError, match=r"forbidden folder: this folder cannot be read"):
            extract_pictures([photos], tmp_path / "g.h5", extractor, strict=True)
    reasons = dict(made.unreadable)
    assert set(reasons) == {*BROKEN, "text.jpg"}
    assert all(reason in reasons[name] for name, (_, reason) in BROKEN.items())
    assert (made.pictures, FeatureFile(tmp_path / "f.h5").image_ids) == (7, ["folder.jpg/a.png", "z.png"])


# Finding


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "a.png", "sub/deep/c.webp", ".hidden.png", ".git/d.png", "notes.txt", "e.heic"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "photos"


def test_folders_are_searched_through(folder: Path) -> None:
    assert [picture.image_id for picture in find_pictures([folder])] == [
        *("a.JPG", "a.png", "b.png", "e.heic", "sub/deep/c.webp")
    ]


def test_files_and_lists(folder: Path) -> None:
    listed = folder.parent / "list.txt"
    listed.write_text("photos/b.png\n\nphotos/sub/deep/c.webp\n")
    assert [picture.image_id for picture in find_pictures([listed])] == ["photos/b.png", "photos/sub/deep/c.webp"]
    assert [picture.image_id for picture in find_pictures([folder / "b.png"])] == ["b.png"]


def test_a_picture_that_is_named_twice_is_taken_once(folder: Path) -> None:
    assert len(find_pictures([folder / "b.png", folder / "b.png"])) == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["nowhere"], "there is no .*nowhere"),
        (["photos/sub/deep/c.webp", "other"], "c.webp and .* would both have the id c.webp"),
        (["empty"], "there are no pictures in .*empty"),
        (["bad.txt"], "line 2: there is no picture"),
    ],
)
def test_sources_at_fault(folder: Path, names: list[str], expected: str) -> None:
    (folder.parent / "empty").mkdir()
    (folder.parent / "other").mkdir()
    (folder.parent / "other/c.webp").touch()
    (folder.parent / "bad.txt").write_text("photos/b.png\nphotos/gone.png\n")
    with pytest.raises(DataError, match=expected):
        find_pictures([folder.parent / name for name in names])
