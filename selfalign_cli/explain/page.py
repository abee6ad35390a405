"""The page of an explanation: one file that shows the picture, its regions and the numbers, without any script."""

from __future__ import annotations

from pathlib import Path

from selfalign_cli import __version__
from selfalign_cli.assembly.identity import Identity
from selfalign_cli.data.atomic import replacing
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.picture_files import PictureFiles
from selfalign_cli.explain.explanation import Explanation
from selfalign_cli.pages.pictures import pack_or_none
from selfalign_cli.pages.regions import RegionView, region_view, tint
from selfalign_cli.pages.render import render

SIDE = 900
"""Pixels of the longer side of the embedded picture."""


def explanation_page(found: Explanation, view: RegionView, identity: Identity) -> str:
    """The page as HTML."""
    return render(
        "explain.html.j2",
        version=__version__,
        found=found,
        view=view,
        tint=tint,
        model=f"model:{identity.weights[:12]}|recipe:{identity.recipe}|compat:{identity.compat}"
        f"|similarity:{identity.similarity}|method:leave-out|v:{__version__}",
    )


def view_of(
    file: FeatureFile,
    row: int,
    places: PictureFiles,
    boxes: tuple[tuple[float, float, float, float], ...] | None,
    side: int = SIDE,
) -> RegionView:
    """A picture of a feature file with its boxes; a blank where the picture is not found."""
    name = None if file.file_names is None else file.file_names[row]
    packed = pack_or_none(places.find(file.image_ids[row], name), side=side)
    size = None if file.facts.image_size is None else tuple(file.facts.image_size[row].tolist())
    return region_view(packed, boxes, None if size is None else (size[0], size[1]))


def write_page(out: Path, page: str) -> None:
    """Write a page; the file is replaced as a whole."""
    with replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
