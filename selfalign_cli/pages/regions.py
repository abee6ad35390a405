"""A picture with boxes on it, as a page draws it: places, and how strongly each box is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from selfalign_cli.pages.pictures import Packed

Box = tuple[float, float, float, float]
LABELLED = 5
"""Boxes of a layer that carry their number; all of them would cover the picture."""
FAINT, STRONG = 0.12, 1.0
STRONGEST_TINT = 0.52
"""Of the background of a number: text stays readable on it, in light and in dark."""


@dataclass(frozen=True)
class Mark:
    """A box to draw; `number` counts regions from 1."""

    number: int
    value: float
    x: float
    y: float
    width: float
    height: float
    opacity: float
    labelled: bool
    tag_x: float
    tag_width: float


@dataclass(frozen=True)
class RegionView:
    """A picture and its regions in one system of coordinates: pixels of the original.

    Attributes:
        picture: address of the picture; None for a blank.
        width, height: of the picture in pixels.
        boxes: of the regions; None where they are not known.
        note: what the reader should know about the picture, or "".
    """

    picture: str | None
    width: float
    height: float
    boxes: tuple[Box, ...] | None
    note: str

    @property
    def unit(self) -> float:
        """A hundredth of the longer side, for letters."""
        return max(self.width, self.height) / 100

    def marked(self, values: Sequence[float]) -> list[Mark]:
        """The boxes for numbers of either sign, the strongest last, on top."""
        if self.boxes is None:
            return []
        largest = max(map(abs, values), default=0.0)
        order = sorted(range(len(values)), key=lambda region: abs(values[region]))
        labelled = {region for region in order[-LABELLED:] if share(values[region], largest) > 0.2}
        return [self._mark(region, values[region], largest, region in labelled) for region in order]

    def _mark(self, region: int, value: float, largest: float, labelled: bool) -> Mark:
        assert self.boxes is not None
        x, y, width, height = _sides(self.boxes[region])
        strength = share(value, largest) ** 0.75
        tag_width = self.unit * (2.2 + 2.4 * len(str(region + 1)))
        tag_x = x + max(0.0, width - tag_width) * (region % 2)  # in either corner, for boxes lie upon one another
        opacity = round(FAINT + (STRONG - FAINT) * strength, 3)
        return Mark(region + 1, value, x, y, width, height, opacity, labelled, round(tag_x, 2), tag_width)

    def crop(self, region: int) -> str | None:
        """The `viewBox` of a region, or None."""
        return None if self.boxes is None else " ".join(f"{value:g}" for value in _sides(self.boxes[region]))


def region_view(
    packed: Packed | None,
    boxes: tuple[Box, ...] | None,
    size: tuple[float, float] | None,
    *,
    missing: str = "the picture was not found; only its boxes are drawn",
) -> RegionView:
    """Put a picture and its boxes together.

    Args:
        packed: the picture, or None.
        boxes: in pixels of the picture whose size is `size`.
        size: width and height that belong to the boxes; None for the picture's own, or what the boxes span.
        missing: the note where there is no picture.
    """
    if size is None:
        spanned = [max(box[side] for box in boxes) for side in (2, 3)] if boxes else [100.0, 75.0]
        size = packed.size if packed is not None else (max(1.0, spanned[0]), max(1.0, spanned[1]))
    notes = [] if packed is not None else [missing]
    if boxes is None:
        notes.append("its features came without boxes, so regions are only numbered")
    return RegionView(None if packed is None else packed.uri, size[0], size[1], boxes, "; ".join(notes))


def share(value: float, largest: float) -> float:
    """How large a number is among others, 0 to 1."""
    return abs(value) / largest if largest else 0.0


def tint(value: float, largest: float) -> Markup:
    """Class and style of a number's background; blue above zero, orange below, more of it for larger ones."""
    sign = "plus" if value > 0 else "minus" if value < 0 else "none"
    return Markup(f'class="tinted {sign}" style="--strength:{STRONGEST_TINT * share(value, largest):.3f}"')


def _sides(box: Box) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box
    return x1, y1, max(x2 - x1, 0.1), max(y2 - y1, 0.1)
