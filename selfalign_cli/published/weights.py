"""Fit the weights of a published checkpoint to our model: every one is used, and every misfit is listed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from selfalign_cli.errors import CheckpointError
from selfalign_cli.models.bert import OLDER_ENDINGS, UNREAD
from selfalign_cli.published import names
from selfalign_cli.published.checkpoint import PublishedCheckpoint, State

SHOWN = 20
SIDES = ("image", "text")
COUNTER = "num_batches_tracked"  # torch 0.4 and older kept none; evaluation reads none
BERT = "bert."
BERT_POSITIONS = "bert.embeddings.position_ids"  # 0, 1, 2, …: a buffer that some releases of transformers save
PROTOTYPES = "v_prototypes.weight"
_LAYER = re.compile(r"agsa\.(?:att_layers|bns)\.([0-9]{1,2})\.")


def attention_layers(image: State) -> int:
    """Number of CAMERA's attention layers; 1 for a state without any, so that they are missed by name."""
    return 1 + max((int(found[1]) for name in image if (found := _LAYER.match(name))), default=0)


def tensor_size(published: PublishedCheckpoint, side: str, name: str, *, axis: int) -> int:
    """Length of one axis of a matrix.

    Raises:
        CheckpointError: there is no such matrix, so that the model is unknown.
    """
    found = _state(published, side).get(name)
    if found is None or found.dim() != 2:
        has = "it is missing" if found is None else f"it has shape {tuple(found.shape)}"
        raise CheckpointError(f"{published.path}: the {side} encoder needs a matrix {name}; {has}")
    return int(found.shape[axis])


def fit_weights(
    published: PublishedCheckpoint, own: Mapping[str, Tensor], *, prototypes: int
) -> tuple[State, list[str]]:
    """Rename the weights of a published checkpoint to those of our model.

    Args:
        published: the checkpoint.
        own: state of our model; only names, shapes and types are read, so it may be on the meta device.
        prototypes: their number by the options.

    Returns:
        The state of our model, and what the user should know about it.

    Raises:
        CheckpointError: weights are missing, unexpected, misshapen or not finite; all are listed.
    """
    found: State = {}
    faults: list[str] = []
    notes: list[str] = []
    for side in SIDES:
        rules = _rules(published, side)
        state, doubled = _without_old_names(_state(published, side))
        used = {name: value for name, value in state.items() if not name.startswith(names.UNUSED)}
        renamed, unknown = names.rename_state(used, rules)
        expected = {name: value for name, value in own.items() if _belongs(name, side)}
        notes += _fill_harmless(renamed, expected)
        back = tuple((ours, theirs) for theirs, ours in rules)
        side_faults = [
            *(f"unexpected weight {name}" for name in (*unknown, *doubled)),
            *_misfits(renamed, expected, back),
        ]
        faults += [f"{side} encoder: {fault}" for fault in side_faults]
        found.update(renamed)
    faults += _prototype_faults(published, own, prototypes)
    if faults:
        more = [f"… and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        listed = "".join(f"\n  {fault}" for fault in [*faults[:SHOWN], *more])
        raise CheckpointError(f"the weights of {published.path} do not fit its options:{listed}")
    return {name: _plain(found[name], own[name]) for name in own}, notes


def _state(published: PublishedCheckpoint, side: str) -> State:
    return published.image if side == "image" else published.text


def _rules(published: PublishedCheckpoint, side: str) -> names.Rules:
    return names.side_rules(names.HOSTS[published.host][SIDES.index(side)], side=side)


def _belongs(name: str, side: str) -> bool:
    return name.startswith((f"{side}.", f"selfalign.{side}_head."))


def _without_old_names(state: State) -> tuple[State, list[str]]:
    """BERT's weights under today's names; also the names of weights that are there under both."""
    renamed: State = {}
    doubled = []
    for name, value in state.items():
        if name == BERT_POSITIONS:
            continue
        today = _todays_bert_name(name) if name.startswith(BERT) else name
        if today in renamed or (today != name and today in state):
            doubled.append(name)
        else:
            renamed[today] = value
    return renamed, doubled


def _todays_bert_name(name: str) -> str:
    """Layer norms once called their weight and bias gamma and beta."""
    for theirs, ours in OLDER_ENDINGS:
        if name.endswith(theirs):
            return name.removesuffix(theirs) + ours
    return name


def _fill_harmless(renamed: State, expected: Mapping[str, Tensor]) -> list[str]:
    """Fill in zeros for missing weights that no result depends on; note those that are more than a counter."""
    unread = tuple(f"text.bert.{part}" for part in UNREAD)
    notes = []
    for name, value in expected.items():
        if name not in renamed and (name.endswith(f".{COUNTER}") or name.startswith(unread)):
            renamed[name] = torch.zeros(value.shape, dtype=value.dtype)
            if not name.endswith(COUNTER):
                notes.append(f"{name} is not in the file; nothing reads it")
    return notes


def _misfits(renamed: State, expected: Mapping[str, Tensor], back: names.Rules) -> Iterator[str]:
    """Yield what is wrong with the weights of one side, under published names."""
    for name, value in expected.items():
        if name not in renamed:
            yield f"missing weight {names.rename(name, back)}"
            continue
        found = renamed[name]
        if found.shape != value.shape:
            shape, needed = tuple(found.shape), tuple(value.shape)
            yield f"{names.rename(name, back)} has shape {shape}; the options need {needed}"
        elif found.layout != torch.strided or found.is_floating_point() != value.is_floating_point():
            yield f"{names.rename(name, back)} holds {found.layout} {found.dtype}; expected plain {value.dtype}"
        elif not bool(torch.isfinite(found).all()):
            yield f"{names.rename(name, back)} holds NaN or infinite numbers"
    for name in renamed:
        if name not in expected:
            yield f"unexpected weight {names.rename(name, back) or name}"


def _prototype_faults(published: PublishedCheckpoint, own: Mapping[str, Tensor], prototypes: int) -> Iterator[str]:
    """Check the prototypes too, though only training reads them: a file that lacks them is not whole."""
    if not published.selfalign:
        return
    state = published.prototypes or {}
    if PROTOTYPES not in state:
        yield f"prototypes: missing weight {PROTOTYPES}"
    elif state[PROTOTYPES].shape != (prototypes, (width := own["image.fc.weight"].shape[0])):
        found = tuple(state[PROTOTYPES].shape)
        yield f"prototypes: {PROTOTYPES} has shape {found}; the options need {(prototypes, width)}"
    for name in state:
        if name != PROTOTYPES:
            yield f"prototypes: unexpected weight {name}"


def _plain(found: Tensor, own: Tensor) -> Tensor:
    """A copy of its own, in the type of our model; views of a larger storage would drag it into the new file."""
    return found.detach().to(own.dtype).clone(memory_format=torch.contiguous_format)
