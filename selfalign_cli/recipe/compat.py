"""The two presets, row by row: which recipe keys `compat: corrected` and `compat: published` set, and why.

A preset fills in only what a recipe leaves out; a key that the recipe states wins. Rows are named after the list of
defects of the published program (M: mathematics, O: optimiser, D: data and evaluation; G: of VSE∞).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from selfalign_cli.recipe.hosts import HOSTS, Host, Part
from selfalign_cli.recipe.schema import Recipe

Preset = Literal["corrected", "published"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
EVERY_HOST: Literal["every host"] = "every host"
WITH_THE_KEY: Literal["with the key"] = "with the key"


@dataclass(frozen=True)
class PresetKey:
    """One published oddity that changes numbers, and the recipe key that decides about it.

    Attributes:
        row: name of the oddity, e.g. `M2`.
        path: the recipe key, e.g. `padding.masked_means`.
        applies_to: every host, those whose `model` section has the key, or those that have a part, by the table of
            hosts.
        corrected: value under `compat: corrected`.
        published: value under `compat: published`, the mathematics of the released programs.
        sentence: what the released programs do, in one sentence.
    """

    row: str
    path: str
    applies_to: Literal["every host", "with the key"] | Part
    corrected: bool | int | str | None
    published: bool | int | str | None
    sentence: str

    def value(self, preset: Preset) -> bool | int | str | None:
        """Return what a preset writes into this key."""
        return self.corrected if preset == "corrected" else self.published

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of the hosts that the row applies to."""
        return tuple(name for name, host in HOSTS.items() if self.row not in host.spared and self._has_the_key(host))

    def _has_the_key(self, host: Host) -> bool:
        if self.applies_to == EVERY_HOST:
            return True
        if self.applies_to == WITH_THE_KEY:
            return self.path.removeprefix("model.") in host.section.model_fields
        return host.has(self.applies_to)


PRESET_KEYS: tuple[PresetKey, ...] = (
    PresetKey(
        row="M1",
        path="model.bounded_norm",
        applies_to=WITH_THE_KEY,
        corrected=True,
        published=False,
        sentence="Lengths taken over regions or words have no lower bound, so a coordinate that is zero everywhere "
        "gives NaN.",
    ),
    PresetKey(
        row="M2",
        path="padding.masked_means",
        applies_to=EVERY_HOST,
        corrected=True,
        published=False,
        sentence="Means over words divide by the padded length and include padded positions: a vector depends on its "
        "batch.",
    ),
    PresetKey(
        row="M3",
        path="padding.masked_batchnorm",
        applies_to=EVERY_HOST,
        corrected=True,
        published=False,
        sentence="Batch normalisation of word states counts padded positions, so its running statistics depend on "
        "padding.",
    ),
    PresetKey(
        row="M4",
        path="padding.masked_attention",
        applies_to=EVERY_HOST,
        corrected=True,
        published=False,
        sentence="Attention over words runs without a mask, and padded positions serve as keys of the context loss.",
    ),
    PresetKey(
        row="M5",
        path="model.bert_eval_mode",
        applies_to=WITH_THE_KEY,
        corrected=True,
        published=False,
        sentence="A frozen BERT stays in training mode, so its dropout makes the word features noisy.",
    ),
    PresetKey(
        row="M6",
        path="loss.context.exclude_own",
        applies_to=EVERY_HOST,
        corrected=True,
        published=False,
        sentence="A pair's own logits do not leave the negatives of the context loss but become the constant -10 "
        "there.",
    ),
    PresetKey(
        row="M7",
        path="loss.same_image_negatives",
        applies_to=EVERY_HOST,
        corrected=False,
        published=True,
        sentence="Two captions of one picture that meet in a batch count as each other's negatives.",
    ),
    PresetKey(
        row="M11",
        path="model.guard_boxes",
        applies_to=WITH_THE_KEY,
        corrected=True,
        published=False,
        sentence="Box width is divided by box height without a guard, so a flat box gives infinity.",
    ),
    PresetKey(
        row="M2",
        path="data.pad_to_max_words",
        applies_to="pieces",
        corrected=False,
        published=True,
        sentence="Captions for BERT are padded to the largest length allowed, whatever the batch holds.",
    ),
    PresetKey(
        row="G3",
        path="model.mask_regions",
        applies_to=WITH_THE_KEY,
        corrected=True,
        published=False,
        sentence="Batch normalisation of regions counts padded ones, so its running statistics depend on the largest "
        "picture of each batch.",
    ),
    PresetKey(
        row="O1",
        path="optim.captioner_twice",
        applies_to="captioning",
        corrected=False,
        published=True,
        sentence="Parameters of the caption generator are listed twice: clipped twice and stepped twice per "
        "iteration.",
    ),
    PresetKey(
        row="D1",
        path="data.dev_limit",
        applies_to=EVERY_HOST,
        corrected=None,
        published=5000,
        sentence="Validation sees the first 5000 captions of the dev split and ignores the rest.",
    ),
    PresetKey(
        row="D2",
        path="data.lowercase",
        applies_to="words",
        corrected="unicode",
        published="ascii",
        sentence="Captions are lower-cased as bytes, so letters outside ASCII keep their case.",
    ),
    PresetKey(
        row="D6",
        path="validation.select_by",
        applies_to=EVERY_HOST,
        corrected="rsum",
        published="r1+r5",
        sentence="The best checkpoint maximises R@1 + R@5 of both directions, though the sum is stored under the name "
        "rsum.",
    ),
)


def rows_of(host: str) -> Iterator[PresetKey]:
    """Yield the rows that concern a host; those of every host for a name that is not in the table."""
    known = host in HOSTS
    return (row for row in PRESET_KEYS if host in row.hosts or (not known and row.applies_to == EVERY_HOST))


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
