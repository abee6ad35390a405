"""`selfalign inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from selfalign_cli.cli.console import progress, show_json, show_table
from selfalign_cli.cli.options import JsonOpt
from selfalign_cli.errors import DataError

FileArg = Annotated[Path, typer.Argument(metavar="FILE", help="Feature file or vocabulary.")]
QuickOpt = Annotated[bool, typer.Option("--quick", help="Leave regions and captions unread.")]


def inspect_file(file: FileArg, quick: QuickOpt = False, as_json: JsonOpt = False) -> None:
    """Say what a file holds, and its faults; exit with 2 when there are some.

    Example: selfalign inspect data/f30k.h5
    """
    found = _inspect(file, quick)
    if as_json:
        show_json(found)
    else:
        _show(found)
    if found["faults"]:
        listed = "\n".join(f"  {fault}" for fault in found["faults"])
        count = len(found["faults"])
        raise DataError(f"{file} has {count} fault{'s' if count > 1 else ''}\n{listed}")


def _inspect(file: Path, quick: bool) -> dict[str, Any]:
    """Ask the part of the program that reads files of this kind."""
    from selfalign_cli.data.feature_layout import starts_as_hdf5
    from selfalign_cli.data.inspection import inspect_feature_file, inspect_vocabulary

    if starts_as_hdf5(file):
        return inspect_feature_file(file, quick=quick, progress=progress)
    return inspect_vocabulary(file)


def _show(found: dict[str, Any]) -> None:
    plain = {name: value for name, value in found.items() if name not in ("path", "splits", "faults")}
    show_table(
        ["", ""], [[name.replace("_", " "), _cell(value)] for name, value in plain.items()], title=found["path"]
    )
    if "splits" in found:
        columns = ["split", "pictures", "captions", "captions per picture"]
        rows = [
            [name, f"{split['images']:,}", f"{split['captions']:,}", _cell(split["captions_per_image"])]
            for name, split in found["splits"].items()
        ]
        show_table(columns, rows)


def _cell(value: object) -> str:
    """One value as text; a spread as `min to max, mean m`."""
    if isinstance(value, dict):
        if value["min"] == value["max"]:
            return f"{value['min']:,}"
        return f"{value['min']:,} to {value['max']:,}, mean {value['mean']:.2f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
