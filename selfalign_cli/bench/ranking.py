"""Ranking of a whole split, and the picture encoder, compared with the matrix products they consist of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from selfalign_cli.bench import inputs
from selfalign_cli.bench.floors import image_work
from selfalign_cli.bench.machine import Rates
from selfalign_cli.bench.measure import Sample, Setting, Work, alternate, peak_extra, seconds_of
from selfalign_cli.bench.plain import ranking as plain
from selfalign_cli.bench.plain import vsrn as plain_vsrn
from selfalign_cli.bench.report import Line
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.metrics.ranks import rank_vectors
from selfalign_cli.similarity import similarity

ROWS, COLUMNS = 256, 4096
"""Block of the bare product."""
SLICE = 8
"""Pictures that the plain version ranks, with their captions; the rest is extrapolated."""


@dataclass(frozen=True)
class RankingSize:
    """A split to rank.

    Attributes:
        images: N.
        captions: M, the same number for every picture.
        views: V.
        pooled: width of a view.
        context: width of the context block.
    """

    images: int
    captions: int
    views: int
    pooled: int
    context: int


SIZES = {
    "tiny": (RankingSize(20, 100, 1, 8, 16), RankingSize(20, 100, 3, 8, 16)),
    "small": (RankingSize(1000, 5000, 1, 256, 512), RankingSize(500, 2500, 12, 256, 512)),
    "published": (RankingSize(5000, 25_000, 1, 2048, 4096), RankingSize(1000, 5000, 12, 2048, 4096)),
}


def run(
    name: str, setting: Setting, rates: Rates, notify: Callable[[str], None]
) -> tuple[dict[str, object], list[Line]]:
    """Measure at a size of `SIZES`.

    Returns:
        The dimensions, and the lines.
    """
    single, multiple = SIZES[name]
    lines = [_single(single, setting, notify), *_multiple(multiple, setting, notify)]
    notify("memory of ranking")
    samples = [
        Sample(rank, (toy, setting), (size, setting)) for toy, size in zip(SIZES["tiny"], SIZES[name], strict=True)
    ]
    found = peak_extra(samples, setting)
    lines = [*(replace(line, memory=extra) for line, extra in zip(lines, found, strict=False)), *lines[len(found) :]]
    lines += _encoder(inputs.SIZES[name], setting, rates, notify)
    return {"one_view": asdict(single), "several_views": asdict(multiple)}, lines


def vectors(size: RankingSize, setting: Setting) -> tuple[RetrievalVectors, RetrievalVectors, Tensor]:
    """Pictures, captions, and the picture of each caption."""
    wide = size.pooled + size.context
    images = inputs.directions(size.images, size.views, size.pooled, device=setting.device)
    shared = inputs.directions(size.images, size.context, device=setting.device, seed=1)
    captions = inputs.directions(size.captions, wide, device=setting.device, seed=2)
    truth = torch.arange(size.captions) // (size.captions // size.images)
    pooled, context = captions[:, : size.pooled], captions[:, size.pooled :]
    return RetrievalVectors(images, shared), RetrievalVectors(pooled, context), truth


def rank(size: RankingSize, setting: Setting) -> Work:
    """Our ranking, both directions."""
    images, captions, truth = vectors(size, setting)
    return lambda: rank_vectors([(images, captions)], truth, device=setting.device)


def bare_product(size: RankingSize, setting: Setting) -> Work:
    """All products of a ranking and nothing else, block by block into the same memory."""
    images, captions, _ = vectors(size, setting)
    if size.views == 1:
        pairs = [(images.concatenated()[:, 0], captions.concatenated())]
    else:
        pairs = [(images.pooled.flatten(0, 1), captions.pooled), (images.shared, captions.shared)]
    out = torch.empty(ROWS, COLUMNS, device=setting.device)

    def work() -> None:
        for rows, columns in pairs:
            for some_columns in torch.split(columns, COLUMNS):
                for some_rows in torch.split(rows, ROWS):
                    torch.mm(some_rows, some_columns.T, out=out[: len(some_rows), : len(some_columns)])

    return work


def _single(size: RankingSize, setting: Setting, notify: Callable[[str], None]) -> Line:
    """One view: our ranking, the product, and a slice of the plain version."""
    title = f"ranks of {size.images:,} x {size.captions:,}, {size.pooled + size.context:,} numbers"
    notify(title)
    seconds = alternate({"ours": rank(size, setting), "floor": bare_product(size, setting)}, setting)
    plain_seconds = _plain_ranking(size, setting)
    part = min(SLICE, size.images)
    note = f"both directions; floor: blocked product; plain extrapolated from {part} of {size.images:,} pictures"
    return Line(title, seconds["ours"], seconds["floor"], plain_seconds, note=note)


def _plain_ranking(size: RankingSize, setting: Setting) -> float:
    """Seconds of the plain version for all queries, extrapolated from a few; double precision, CPU."""
    images, captions, truth = vectors(size, setting)
    arrays = (
        images.concatenated()[:, 0].double().cpu().numpy(),
        captions.concatenated().double().cpu().numpy(),
        truth.numpy(),
    )
    rows = np.linspace(0, size.images - 1, min(SLICE, size.images)).astype(np.int64)
    for warm_up in (plain.image_ranks, plain.caption_ranks):
        warm_up(*arrays, rows[:1])
    spent = sum(
        seconds_of(partial(rank_plainly, *arrays, rows), setting)
        for rank_plainly in (plain.image_ranks, plain.caption_ranks)
    )
    return spent * size.images / len(rows)


def _multiple(size: RankingSize, setting: Setting, notify: Callable[[str], None]) -> list[Line]:
    """Several views: our ranking, and the scores alone with the context block taken once or in every view."""
    title = f"ranks of {size.images:,} x {size.captions:,}, {size.views} views"
    notify(title)
    seconds = alternate({"ours": rank(size, setting), "floor": bare_product(size, setting)}, setting)
    plain_seconds = _plain_views(size, setting)
    part = min(10 * SLICE, size.captions)
    note = f"both directions; floor: its products; plain: scores alone, extrapolated from {part:,} captions"
    ranks = Line(title, seconds["ours"], seconds["floor"], plain_seconds, note=note)
    split, whole = (size.views * size.pooled + size.context, size.views * (size.pooled + size.context))
    scores = alternate({"ours": scored(size, setting), "plain": scored(size, setting, context_in_views=True)}, setting)
    note = f"multiply-adds a pair: {split:,} (context once) against {whole:,} (context in every view)"
    return [
        ranks,
        Line(
            f"scores of a block, {size.views} views",
            scores["ours"],
            plain=scores["plain"],
            numbers={"multiply_adds_ratio": whole / split},
            note=note,
        ),
    ]


def scored(size: RankingSize, setting: Setting, *, context_in_views: bool = False) -> Work:
    """Scores of some pictures with some captions; with `context_in_views`, every view contains the context block."""
    images, captions, _ = vectors(size, setting)
    rows, columns = slice(min(size.images, ROWS)), slice(min(size.captions, COLUMNS))
    images = RetrievalVectors(images.pooled[rows], images.shared[rows])
    captions = RetrievalVectors(captions.pooled[columns].contiguous(), captions.shared[columns].contiguous())
    if context_in_views:
        images = RetrievalVectors(images.concatenated(), images.shared[:, :0])
        captions = RetrievalVectors(captions.concatenated(), captions.shared[:, :0])
    return lambda: similarity(images, captions)


def _plain_views(size: RankingSize, setting: Setting) -> float:
    """Seconds of the plain loop over all captions, extrapolated from a few."""
    images, captions, _ = vectors(size, setting)
    views = images.concatenated().cpu().numpy()
    rows = captions.concatenated()[: min(10 * SLICE, size.captions)].cpu().numpy()
    plain.view_scores(views, rows[0])
    spent = seconds_of(lambda: [plain.view_scores(views, row) for row in rows], setting)
    return spent * size.captions / len(rows)


def _encoder(size: inputs.ModelSize, setting: Setting, rates: Rates, notify: Callable[[str], None]) -> list[Line]:
    """The picture encoder in inference, its graph layers folded and not, beside its multiply-adds."""
    notify("picture encoder in inference")
    model = inputs.build(size, setting.device).model.eval()
    images = inputs.image_batch(size).to(setting.device)

    def folded() -> None:
        with torch.inference_mode():
            model.encode_image(images)

    def refolded() -> None:
        model.eval()  # drops the folded maps
        folded()

    def unfolded() -> None:
        with torch.inference_mode():
            plain_vsrn.encode_images(model.image, model.selfalign.image_head, images.features)  # type: ignore[arg-type, union-attr]

    seconds = alternate({"folded": folded, "first batch": refolded, "plain": unfolded}, setting)
    floor = {maps: rates.floor(image_work(size, maps=maps)) for maps in (2, 4)}
    note = f"batch {size.batch}, graph maps folded; floor: multiply-adds, {floor[4]:.3g} s unfolded as in plain"
    first = "the same with the folding itself, once per split"
    return [
        Line("picture encoder", seconds["folded"], floor[2], seconds["plain"], note=note),
        Line("picture encoder, first batch", seconds["first batch"], floor[2], seconds["plain"], note=first),
    ]
