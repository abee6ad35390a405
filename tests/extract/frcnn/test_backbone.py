"""The backbone: sizes, pooling of the stem, and norms that are multiplied into the weights."""

from __future__ import annotations

import pytest
import torch
from support.frcnn import config
from torch import nn

from selfalign_cli.extract.frcnn.backbone import Backbone, Bottleneck, NormedConv, Stem, stage


def half(length: int) -> int:
    return (length - 1) // 2 + 1


@pytest.mark.parametrize("length", [3, 4, 15, 16, 17, 18, 33, 34, 35, 36])
@pytest.mark.parametrize("caffe", [True, False])
def test_sizes_of_a_map(length, caffe):
    """The stem halves, pools by 3×3 of stride 2 (Caffe: no padding, rounded up), and res3 and res4 halve again."""
    made = Backbone(config(model__max_pool=caffe)).eval()
    pooled = -(-(half(length) - 3) // 2) + 1 if caffe else (half(length) - 1) // 2 + 1
    found = made(torch.zeros(1, 3, length, 40))
    assert found.shape[1:3] == (32, half(half(pooled)))


@pytest.mark.parametrize(("caffe", "expected"), [(True, [[7, 7]]), (False, [[1, 7], [1, 7]])])
def test_caffe_pools_from_the_first_pixel_on(caffe, expected):
    """Columns 1, 0, 7, 3: windows of Caffe start at 0 and 2 (cut off by the edge), the others at -1 and 1."""
    stem = Stem(config(model__max_pool=caffe))
    stem.conv1 = nn.Identity()
    assert stem(torch.tensor([[[[1.0, 0, 7, 3]] * 3]]))[0, 0].tolist() == expected


def test_a_shortcut_is_a_convolution_where_channels_differ():
    """F4: res2 has one though its stride is 1, and none where the stem has as many channels."""
    assert [block.shortcut is not None for block in stage(config(), 2, stride=1)] == [True, False, False]
    alike = config(resnets__stem_out_channels=8)
    assert stage(alike, 2, stride=1)[0].shortcut is None


@pytest.mark.parametrize(("in_1x1", "strides"), [(True, (2, 1)), (False, (1, 2))])
def test_the_stride_sits_where_the_settings_say(in_1x1, strides):
    first = stage(config(resnets__stride_in_1x1=in_1x1, roi_box_head__res5halve=True), 3, stride=2)[0]
    assert isinstance(first, Bottleneck)
    assert (first.conv1.stride[0], first.conv2.stride[0]) == strides
    assert first.shortcut.stride[0] == 2


@pytest.mark.parametrize(("depth", "blocks"), [(50, (3, 4, 6, 3)), (101, (3, 4, 23, 3)), (152, (3, 8, 36, 3))])
def test_blocks_by_depth(depth, blocks):
    with torch.device("meta"):
        assert tuple(len(stage(config(resnets__depth=depth), k, stride=1)) for k in (2, 3, 4, 5)) == blocks


def test_a_norm_by_hand_and_folded():
    """(2·3 - 1)/√(0.25 - 1e-5 + 1e-5)·4 + 5 = 45."""
    conv = NormedConv(1, 1, 1).requires_grad_(False)
    conv.weight.fill_(3)
    conv.norm.running_mean.fill_(1)
    conv.norm.running_var.fill_(0.25 - 1e-5)
    conv.norm.weight.fill_(4)
    conv.norm.bias.fill_(5)
    two = torch.full((1, 1, 1, 1), 2.0)
    assert conv(two).item() == pytest.approx(45, rel=1e-6)
    conv.fold()
    assert isinstance(conv.norm, nn.Identity)
    assert conv(two).item() == pytest.approx(45, rel=1e-6)
    conv.fold()
    assert conv(two).item() == pytest.approx(45, rel=1e-6)
