"""Damaged checkpoints of the published programs: our error, or a model of the same shapes."""

from __future__ import annotations

import random
from functools import partial

import pytest
import torch
from support.damage import attempted, cut_short, flipped
from support.published_files import published_content, write_checkpoint, write_vocabulary

from selfalign_cli.published.importing import ImportSources, import_checkpoint

ROUNDS = 40


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older"])
@pytest.mark.parametrize("change", [cut_short, flipped])
def test_a_damaged_checkpoint(tmp_path, change, zipped):
    """A zip archive has checksums: what passes is what was written. Older files have none."""
    path, out = write_checkpoint(tmp_path / "old.pth.tar", published_content(), zipped=zipped), tmp_path / "new.ckpt"
    sources = ImportSources(vocab=write_vocabulary(tmp_path / "v.pkl"))
    work = partial(import_checkpoint, path, out, sources, overwrite=True)
    whole, content, chance = work().checkpoint.model, path.read_bytes(), random.Random(0)
    out.unlink()
    for _ in range(ROUNDS):
        path.write_bytes(change(chance, content))
        found = attempted(work, tmp_path)
        assert out.exists() == (found is not None)
        out.unlink(missing_ok=True)
        if found is not None:
            model = found.checkpoint.model
            assert {name: value.shape for name, value in model.items()} == {n: v.shape for n, v in whole.items()}
            assert not zipped or all(torch.equal(value, whole[name]) for name, value in model.items())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["old.pth.tar", "v.pkl"]
