"""The two presets, row by row: which recipe keys `compat: corrected` and `compat: published` set, and why.

A preset fills in only what a recipe leaves out; a key that the recipe states wins. Rows are named after the list of
defects of the published program (M: mathematics, O: optimiser, D: data and evaluation).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from selfalign_cli.recipe.schema import Recipe

Preset = Literal["corrected", "published"]
Host = Literal["vsrn", "camera"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
BOTH: tuple[Host, ...] = get_args(Host)


@dataclass(frozen=True)
class PresetKey:
    """One published oddity that changes numbers, and the recipe key that decides about it.

    Attributes:
        row: name of the oddity, e.g. `M2`.
        path: the recipe key, e.g. `padding.masked_means`.
        corrected: value under `compat: corrected`.
        published: value under `compat: published`, the mathematics of the released programs.
        sentence: what the released programs do, in one sentence.
        hosts: the models that have the key.
    """

    row: str
    path: str
    corrected: bool | int | str | None
    published: bool | int | str | None
    sentence: str
    hosts: tuple[Host, ...] = BOTH

    def value(self, preset: Preset) -> bool | int | str | None:
        """Return what a preset writes into this key."""
        return self.corrected if preset == "corrected" else self.published


PRESET_KEYS: tuple[PresetKey, ...] = (
    PresetKey(
        *("M1", "model.bounded_norm", True, False),
        "Lengths taken over regions or words have no lower bound, so a coordinate that is zero everywhere gives NaN.",
    ),
    PresetKey(
        *("M2", "padding.masked_means", True, False),
        "Means over words divide by the padded length and include padded places: a vector depends on its batch.",
    ),
    PresetKey(
        *("M3", "padding.masked_batchnorm", True, False),
        "Batch normalisation of word states counts padded places, so its running statistics depend on padding.",
    ),
    PresetKey(
        *("M4", "padding.masked_attention", True, False),
        "Attention over words runs without a mask, and padded places serve as keys of the context loss.",
    ),
    PresetKey(
        *("M5", "model.bert_eval_mode", True, False),
        "A frozen BERT stays in training mode, so its dropout makes the word features noisy.",
        hosts=("camera",),
    ),
    PresetKey(
        *("M6", "loss.context.exclude_own", True, False),
        "A pair's own logits do not leave the negatives of the context loss but become the constant -10 there.",
    ),
    PresetKey(
        *("M7", "loss.same_image_negatives", False, True),
        "Two captions of one picture that meet in a batch count as each other's negatives.",
    ),
    PresetKey(
        *("M11", "model.guard_boxes", True, False),
        "Box width is divided by box height without a guard, so a flat box gives infinity.",
        hosts=("camera",),
    ),
    PresetKey(
        *("M2", "data.pad_to_max_words", False, True),
        "Captions for BERT are padded to the largest length allowed, whatever the batch holds.",
        hosts=("camera",),
    ),
    PresetKey(
        *("O1", "optim.captioner_twice", False, True),
        "Parameters of the caption generator are listed twice: clipped twice and stepped twice per iteration.",
        hosts=("vsrn",),
    ),
    PresetKey(
        *("D1", "data.dev_limit", None, 5000),
        "Validation sees the first 5000 captions of the dev split and ignores the rest.",
    ),
    PresetKey(
        *("D2", "data.lowercase", "unicode", "ascii"),
        "Captions are lower-cased as bytes, so letters outside ASCII keep their case.",
        hosts=("vsrn",),
    ),
    PresetKey(
        *("D6", "validation.select_by", "rsum", "r1+r5"),
        "The best checkpoint maximises R@1 + R@5 of both directions, though the sum is stored under the name rsum.",
    ),
)


def rows_of(host: str) -> Iterator[PresetKey]:
    """Yield the rows that concern a model (`vsrn` or `camera`; any other name yields those of both)."""
    return (row for row in PRESET_KEYS if host in row.hosts or row.hosts == BOTH)


def fill_preset(tree: dict[str, Any], preset: Preset, host: str, *, overwrite: bool = False) -> None:
    """Write a preset into a recipe that is still plain dictionaries, in place.

    Args:
        tree: the recipe as read; sections that are missing are made, sections that are no dictionaries are left.
        preset: which column of the table.
        host: `model.name` of the recipe.
        overwrite: also replace keys that the recipe states.
    """
    for row in rows_of(host):
        section: Any = tree
        *names, key = row.path.split(".")
        for name in names:
            section = section.setdefault(name, {}) if isinstance(section, dict) else None
        if isinstance(section, dict) and (overwrite or key not in section):
            section[key] = row.value(preset)


def compat_label(recipe: Recipe) -> str:
    """Name the preset of a recipe and every key that departs from it, e.g. `published+masked_means`."""
    departures = [
        row.path.rpartition(".")[2]
        for row in rows_of(recipe.model.name)
        if _value_at(recipe, row.path) != row.value(recipe.compat)
    ]
    return "+".join([recipe.compat, *departures])


def _value_at(recipe: Recipe, path: str) -> Any:
    value: Any = recipe
    for name in path.split("."):
        value = getattr(value, name)
    return value
