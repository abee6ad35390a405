"""Keys of a recipe that are fine alone and cannot stand together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from selfalign_cli.recipe.hosts import HOSTS, BertSection, Part
from selfalign_cli.recipe.schema import RankingSection, Recipe


class Disagreement(NamedTuple):
    """Two keys, each fine alone, that cannot stand together.

    Attributes:
        path: the key to change, as `section.key`.
        message: what is wrong, in plain words.
        because: the other keys that take part; if one of them is itself at fault, the disagreement is not reported.
    """

    path: str
    message: str
    because: tuple[str, ...]


class HostKey(NamedTuple):
    """A key that only hosts with some part have any use for.

    Attributes:
        path: the key, as `section.key`; null and false stand for leaving it out.
        part: what a host needs to have for it.
        message: for a host without; `{host}` is its name, `{only}` says which hosts have the part.
    """

    path: str
    part: Part
    message: str


HOST_KEYS = (
    HostKey("loss.captioning", "captioning", "{only} a caption generator (remove this section)"),
    HostKey("optim.captioner_twice", "captioning", "{only} a caption generator (remove this key)"),
    HostKey("loss.diversity", "diversity", "{only} views to keep apart (remove this section)"),
    HostKey("optim.bert_learning_rate", "pieces", "{host} has no BERT (remove this key)"),
    HostKey("data.cache_words", "pieces", "{host} has no BERT (remove this key)"),
)


class KindKey(NamedTuple):
    """A key of `loss.ranking` that only some kinds of ranking loss have any use for.

    Attributes:
        key: its name; the schema's default stands for leaving it out.
        kinds: which have it.
    """

    key: str
    kinds: tuple[str, ...]


KIND_KEYS = (
    KindKey("margin", ("hinge",)),
    KindKey("hardest_negative", ("hinge",)),
    KindKey("warmup_epochs", ("hinge",)),
    KindKey("warmup_mode", ("hinge",)),
    KindKey("temperature", ("infonce", "sigmoid")),
    KindKey("learn_temperature", ("infonce", "sigmoid")),
    KindKey("bias", ("sigmoid",)),
)


def disagreements(recipe: Recipe) -> Iterator[Disagreement]:
    """Check the keys of a recipe against each other (each key alone was checked by its section)."""
    yield from _ranking_disagreements(recipe.loss.ranking)
    epochs, warmup = recipe.optim.epochs, recipe.loss.ranking.warmup_epochs
    if warmup > epochs:
        message = f"expected at most the {epochs} of optim.epochs, got {warmup}"
        yield Disagreement("loss.ranking.warmup_epochs", message, ("optim.epochs",))
    if recipe.data.pad_to_max_words and recipe.data.max_words is None:
        yield Disagreement("data.pad_to_max_words", "needs a width: set data.max_words", ("data.max_words",))
    yield from _host_disagreements(recipe)
    yield from _section_disagreements(recipe)
    if isinstance(recipe.model, BertSection):
        yield from _bert_disagreements(recipe, recipe.model)


def _ranking_disagreements(ranking: RankingSection) -> Iterator[Disagreement]:
    """Keys of another kind of ranking loss."""
    for key, kinds in KIND_KEYS:
        if ranking.kind not in kinds and getattr(ranking, key) != RankingSection.model_fields[key].default:
            only = f"only {' and '.join(kinds)} {'has' if len(kinds) == 1 else 'have'}"
            message = f"{only} this key, and loss.ranking.kind is {ranking.kind} (remove it)"
            yield Disagreement(f"loss.ranking.{key}", message, ("loss.ranking.kind",))


def _host_disagreements(recipe: Recipe) -> Iterator[Disagreement]:
    """What the recipe's host needs beside its own section, and what it has no use for."""
    host, because = recipe.host, ("model.name",)
    if host.captions == "words" and recipe.data.vocab is None:
        message = f"{host.name} needs a vocabulary (selfalign build-vocab makes one)"
        yield Disagreement("data.vocab", message, because)
    if host.captions == "pieces" and recipe.data.max_words is None:
        yield Disagreement("data.max_words", f"{host.name} needs a limit (32 in the published settings)", because)
    for key in HOST_KEYS:
        section, _, name = key.path.partition(".")
        if getattr(getattr(recipe, section), name) in (None, False) or host.has(key.part):
            continue
        yield Disagreement(key.path, key.message.format(host=host.name, only=_only(key.part)), because)


def _only(part: Part) -> str:
    """Which hosts have a part: `only vsrn has`, or `only vsrn and camera have`."""
    names = [host.name for host in HOSTS.values() if host.has(part)]
    return f"only {' and '.join(names)} {'has' if len(names) == 1 else 'have'}"


def _section_disagreements(recipe: Recipe) -> Iterator[Disagreement]:
    """Keys of the `model` section, for whichever hosts have them."""
    keys = dict(recipe.model)
    heads, views = keys.get("heads", 1), keys.get("views", 1)
    if recipe.model.embed_dim is not None and recipe.model.embed_dim % heads:
        message = f"expected a divisor of the {recipe.model.embed_dim} of model.embed_dim, got {heads}"
        yield Disagreement("model.heads", message, ("model.embed_dim",))
    if recipe.loss.ranking.similarity == "order" and views > 1:
        message = f"order compares single vectors, and model.views is {views} (write dot)"
        yield Disagreement("loss.ranking.similarity", message, ("model.views",))


def _bert_disagreements(recipe: Recipe, model: BertSection) -> Iterator[Disagreement]:
    """A BERT that is frozen has no step size; its states can be kept only if no step changes them."""
    if recipe.optim.bert_learning_rate is not None and not model.finetune:
        message = "BERT is frozen (set model.finetune: true, or remove this key)"
        yield Disagreement("optim.bert_learning_rate", message, ("model.finetune",))
    if recipe.data.cache_words:
        yield from _cache_disagreements(recipe, model)


def _cache_disagreements(recipe: Recipe, model: BertSection) -> Iterator[Disagreement]:
    """Token states can be kept only if no step changes them and nothing reads those of padded positions."""
    unmasked = [f"padding.{key}" for key, masked in recipe.padding if not masked]
    if model.finetune:
        message = "BERT is trained, so its states change (set model.finetune: false)"
        yield Disagreement("data.cache_words", message, ("model.finetune",))
    elif not model.bert_eval_mode:
        message = "BERT's dropout changes its states in every step (set model.bert_eval_mode: true)"
        yield Disagreement("data.cache_words", message, ("model.bert_eval_mode", "compat"))
    elif recipe.data.alter_words:
        message = "altered words have other states than those that are kept (set data.alter_words: 0)"
        yield Disagreement("data.cache_words", message, ("data.alter_words",))
    elif unmasked:
        message = f"states of padded positions are read, and only real ones are kept (set {unmasked[0]}: true)"
        yield Disagreement("data.cache_words", message, (*unmasked, "compat"))
