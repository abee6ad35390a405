"""The golden folder is all there: tests find their cases in it, so that none would miss what is missing."""

from __future__ import annotations

from support.golden import golden_files, golden_root


def test_golden_files_are_all_there() -> None:
    found = {name: path.stat().st_size if (path := golden_root() / name).exists() else None for name in golden_files()}
    assert found == golden_files()
