"""Pictures: sizes by hand, kinds of pictures, and resizing against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from support import frcnn_plain
from support.frcnn import config, drawn_picture, settings

from selfalign_cli.errors import DataError
from selfalign_cli.extract.frcnn.preprocessing import prepare, resized_size, rgb_array

PUBLISHED = config(input__min_size_test=800, input__max_size_test=1333)
ORIENTATION = 0x0112


@pytest.mark.parametrize(
    ("raw", "resized"),
    [
        ((480, 640), (800, 1067)),  # 640 · 800/480 = 1066.67
        ((640, 480), (1067, 800)),
        ((500, 500), (800, 800)),
        ((2000, 500), (1333, 333)),  # 3200 is too long: both times 1333/3200
        ((1, 1), (800, 800)),
        ((3, 1333), (3, 1333)),
    ],
)
def test_sizes_by_hand(raw, resized):
    assert resized_size(*raw, PUBLISHED) == resized


@pytest.mark.parametrize("raw", [(2, 1333), (1333, 2), (1, 1333), (1, 3000)])
def test_a_picture_too_thin_is_refused(raw):
    with pytest.raises(DataError, match=r"pixels becomes .*the detector needs 3 pixels a side"):
        resized_size(*raw, PUBLISHED)


def test_pooling_with_padding_needs_one_pixel():
    padded = config(input__min_size_test=800, input__max_size_test=1333, model__max_pool=False)
    assert resized_size(1, 1333, padded) == (1, 1333)
    with pytest.raises(DataError, match="becomes 1333×0, .*needs 1 pixels a side"):
        resized_size(1, 3000, padded)


@pytest.mark.parametrize("shape", [(90, 120), (300, 77), (40, 41), (9, 12)])
def test_preparing_equals_loops(shape):
    """Larger and smaller than before, without antialiasing (F2); in B, G, R order (F1)."""
    picture = drawn_picture(*shape)
    found = prepare(picture, config())
    pixels, scales = frcnn_plain.preprocess(picture, settings())
    assert found.pixels.dtype == torch.float32
    assert found.sizes.tolist() == list(pixels.shape[2:])
    # Single precision rounds positions up to 300 by 1.5e-5, which counts as often as neighbours differ (by 130).
    assert torch.allclose(found.pixels.double(), pixels, rtol=0, atol=5e-3)
    assert found.scales_yx.tolist() == list(scales)


def test_numbers_of_a_one_coloured_picture():
    picture = np.full((72, 72, 3), (1, 2, 3), dtype=np.uint8)
    made = config(model__pixel_mean=[0.5, 0, 0], model__pixel_std=[1, 4, 1])
    assert prepare(picture, made).pixels[0, :, 5, 5].tolist() == [2.5, 0.5, 1]


def test_no_random_number_is_drawn():
    """F15."""
    before = np.random.get_state()[1].copy()
    prepare(drawn_picture(), config())
    assert np.array_equal(np.random.get_state()[1], before)


def test_grey_becomes_three_channels_and_alpha_is_dropped():
    picture = drawn_picture()
    grey = picture[:, :, 0]
    three = np.stack((grey, grey, grey), 2)
    assert np.array_equal(rgb_array(grey), three)
    assert np.array_equal(rgb_array(grey[:, :, None]), three)
    transparent = np.concatenate((picture, np.zeros_like(picture[:, :, :1])), 2)
    assert np.array_equal(rgb_array(transparent), picture)


def test_images_of_pil():
    picture = drawn_picture()
    image = Image.fromarray(picture)
    assert np.array_equal(rgb_array(image), picture)
    image.putalpha(0)
    assert np.array_equal(rgb_array(image), picture)
    grey = Image.fromarray(picture[:, :, 0])
    assert np.array_equal(rgb_array(grey), rgb_array(picture[:, :, 0]))
    pale = Image.merge("LA", (grey, Image.new("L", grey.size, 7)))
    assert np.array_equal(rgb_array(pale), rgb_array(picture[:, :, 0]))


def test_a_palette_is_looked_up():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([1, 0])
    assert rgb_array(image).tolist() == [[[40, 50, 60], [10, 20, 30]]]


def test_sixteen_bits_are_cut_to_eight():
    image = Image.fromarray(np.array([[0x12FF, 0xFF00]], dtype=np.uint16))
    assert rgb_array(image).tolist() == [[[0x12] * 3, [0xFF] * 3]]


def test_orientation_is_obeyed(tmp_path):
    """6: the camera was turned; the first column, from below, is the first row."""
    picture = drawn_picture(20, 30)
    image = Image.fromarray(picture)
    exif = image.getexif()
    exif[ORIENTATION] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        assert np.array_equal(rgb_array(turned), np.rot90(picture, -1))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((4, 4, 3), dtype=np.float32), "a picture of float32 numbers; expected uint8"),
        (np.zeros((3, 4, 4, 1), dtype=np.uint8), r"a picture of shape \(3, 4, 4, 1\)"),
        (np.zeros((4, 4, 2), dtype=np.uint8), r"a picture of shape \(4, 4, 2\)"),
        (np.zeros((0, 4, 3), dtype=np.uint8), r"a picture of shape \(0, 4, 3\)"),
        (Image.new("F", (2, 2)), "an image of mode F; expected 8 or 16 bits"),
    ],
)
def test_what_is_no_picture(picture, message):
    with pytest.raises(DataError, match=message):
        rgb_array(picture)
