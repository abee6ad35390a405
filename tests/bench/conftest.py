"""VSRN and CAMERA with SelfAlign at toy size in double precision, as published, and pairs without padded regions."""

from __future__ import annotations

import pytest
import torch
from support import tiny_models
from support.tiny_models import Tiny

from selfalign_cli.encodings import PairBatch


@pytest.fixture
def tiny() -> Tiny:
    overrides = ("compat=published", "loss.context.negatives=11", "model.normalize_regions=true")
    return tiny_models.build_tiny(tiny_models.VSRN, *overrides, dtype=torch.float64).train()


@pytest.fixture
def pairs() -> PairBatch:
    return tiny_models.pairs([5, 5, 5, 5], [9, 7, 4, 3]).to("cpu", torch.float64)


@pytest.fixture(params=[1, 2], ids=["1 layer", "2 layers"])
def tiny_camera(request: pytest.FixtureRequest) -> Tiny:
    overrides = ("compat=published", "loss.context.negatives=11", f"model.attention_layers={request.param}")
    return tiny_models.build_tiny(tiny_models.CAMERA, *overrides, dtype=torch.float64).train()


@pytest.fixture
def padded_pairs() -> PairBatch:
    """Captions padded beyond the longest of the batch."""
    return tiny_models.pairs([5, 5, 5, 5], [9, 7, 4, 3], words=12).to("cpu", torch.float64)
