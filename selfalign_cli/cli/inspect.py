"""`selfalign inspect`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from selfalign_cli.cli.console import show_json, show_table
from selfalign_cli.cli.options import JsonOpt
from selfalign_cli.cli.progress import progress
from selfalign_cli.errors import DataError

FileArg = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="Feature file, vocabulary (WordPieces: its folder), checkpoint or embeddings."
    ),
]
QuickOpt = Annotated[bool, typer.Option("--quick", help="Of a feature file, leave regions and captions unread.")]

CaptionsOpt = Annotated[
    Path | None,
    typer.Option(
        "--captions",
        metavar="FILE",
        help="Feature file or captions: say which share of their words a vocabulary does not know.",
        show_default=False,
    ),
]

SHOWN_SEPARATELY = ("path", "shapes", "options", "splits", "scores", "unknown", "faults")
VOCABULARIES = ("vocabulary", "word pieces")


def inspect_file(
    file: FileArg, quick: QuickOpt = False, captions: CaptionsOpt = None, as_json: JsonOpt = False
) -> None:
    """Show what a file holds, and its faults; exit with 2 when there are some.

    Example: selfalign inspect data/f30k.h5
    """
    from selfalign_cli.inspection.files import inspect_any

    found = inspect_any(file, quick=quick, progress=progress)
    if captions is not None:
        found["unknown"] = _unknown(file, found["kind"], captions)
    if as_json:
        show_json(found)
    else:
        _show(found)
    if found["faults"]:
        listed = "\n".join(f"  {fault}" for fault in found["faults"])
        count = len(found["faults"])
        raise DataError(f"{file} has {count} fault{'s' if count > 1 else ''}\n{listed}")


def _unknown(file: Path, kind: str, captions: Path) -> dict[str, dict[str, float]]:
    from selfalign_cli.inspection.unknown import unknown_by_split

    if kind not in VOCABULARIES:
        raise DataError(f"--captions is for vocabularies; {file} holds {kind}", "leave it out")
    return {name: asdict(shares) for name, shares in unknown_by_split(file, captions).items()}


def _show(found: dict[str, Any]) -> None:
    plain = {
        name: value for name, value in found.items() if name not in SHOWN_SEPARATELY and value not in (None, "", [])
    }
    show_table(
        ["", ""], [[name.replace("_", " "), _cell(value)] for name, value in plain.items()], title=found["path"]
    )
    if "splits" in found:
        columns = ["split", "pictures", "captions", "captions per picture", "first ids"]
        rows = [
            [
                *(name, f"{split['images']:,}", f"{split['captions']:,}", _cell(split["captions_per_image"])),
                _cell(split.get("first_image_ids", [])),
            ]
            for name, split in found["splits"].items()
        ]
        show_table(columns, rows)
    if "unknown" in found:
        rows = [
            [name, f"{shares['occurrences']:.1%}", f"{shares['words']:.1%}"]
            for name, shares in found["unknown"].items()
        ]
        show_table(["unknown in split", "of occurrences", "of different words"], rows)
    if found.get("scores"):
        rows = [[name, f"{value:.2f}"] for name, value in found["scores"].items()]
        show_table(["dev score", ""], rows)


def _cell(value: object) -> str:
    """One value as text; a spread as `min to max, mean m`."""
    if isinstance(value, dict):
        if value["min"] == value["max"]:
            return f"{value['min']:,}"
        return f"{value['min']:,} to {value['max']:,}, mean {value['mean']:.2f}"
    if isinstance(value, list):
        return ", ".join(str(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
