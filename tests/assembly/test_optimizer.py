"""Parameter groups, their step sizes and order, and the oddities of the published programs."""

from __future__ import annotations

import pytest
import torch
from support.tiny_models import CAMERA, VSRN, Tiny, build_tiny, pairs

from selfalign_cli.assembly.optimizer import (
    NO_QUIRKS,
    TrainingQuirks,
    build_optimizer,
    parameter_groups,
    training_quirks,
)
from selfalign_cli.training.step import clip_gradients, train_step


def stepped(tiny: Tiny, quirks: TrainingQuirks) -> dict[str, torch.Tensor]:
    """Take one step of plain gradient descent at rate 1 and return how far each parameter has moved."""
    before = {name: value.detach().clone() for name, value in tiny.trainable().items()}
    optimizer = torch.optim.SGD(tiny.groups.all(), lr=1.0)
    batch = pairs([4, 6, 5, 6], [7, 5, 4, 3]).to("cpu", torch.float64)
    train_step(tiny.model, tiny.objective, optimizer, tiny.groups, batch, grad_clip_norm=0.0, quirks=quirks)
    return {name: value.detach() - before[name] for name, value in tiny.trainable().items()}


def test_a_group_is_stepped_twice() -> None:
    plain, twice = (
        stepped(build_tiny(VSRN, dtype=torch.float64).train(), quirks)
        for quirks in (NO_QUIRKS, TrainingQuirks(stepped_twice=("captioner",)))
    )
    for name, moved in plain.items():
        factor = 2 if name.startswith("objective.captioner.") else 1
        torch.testing.assert_close(twice[name], factor * moved)


def test_a_group_is_frozen() -> None:
    plain, frozen = (
        stepped(build_tiny(VSRN, dtype=torch.float64).train(), quirks)
        for quirks in (NO_QUIRKS, TrainingQuirks(frozen=("captioner",)))
    )
    for name, moved in plain.items():
        factor = 0 if name.startswith("objective.captioner.") else 1
        torch.testing.assert_close(frozen[name], factor * moved)


def test_a_group_is_counted_and_clipped_twice() -> None:
    """Gradients 3 and 4: length 5; with the 4 twice, the root of 41."""
    tiny = build_tiny(VSRN)
    groups = parameter_groups(tiny.model, tiny.objective)
    first, second = groups.of(["model"])[0], groups.of(["captioner"])[0]

    def clip(quirks: TrainingQuirks) -> tuple[float, float, float]:
        for parameter, value in ((first, 3.0), (second, 4.0)):
            parameter.grad = torch.zeros_like(parameter)
            parameter.grad.view(-1)[0] = value
        norm = clip_gradients(groups, 1.0, quirks)
        return float(norm), float(first.grad.max()), float(second.grad.max())

    length = 41**0.5
    assert clip(NO_QUIRKS) == pytest.approx((5.0, 3 / 5, 4 / 5), rel=1e-6)
    assert clip(TrainingQuirks(stepped_twice=("captioner",))) == pytest.approx((length, 3 / length, 4 / 41), rel=1e-6)


@pytest.mark.parametrize(
    ("overrides", "epoch", "quirks"),
    [
        ((), 0, NO_QUIRKS),
        (("optim.captioner_twice=true",), 3, TrainingQuirks(stepped_twice=("captioner",))),
        (("loss.concept.frozen_epochs=2",), 1, TrainingQuirks(frozen=("concept",))),
        (("loss.concept.frozen_epochs=2",), 2, NO_QUIRKS),
    ],
)
def test_quirks_of_a_recipe(overrides: tuple[str, ...], epoch: int, quirks: TrainingQuirks) -> None:
    assert training_quirks(build_tiny(VSRN, *overrides).recipe, epoch=epoch) == quirks


@pytest.mark.parametrize("text", [VSRN, CAMERA], ids=["vsrn", "camera"])
def test_the_optimizer_keeps_the_order_that_checkpoints_know(text: str) -> None:
    """Model, prototypes, caption generator; a fine-tuned BERT apart, with its own step size."""
    more = () if text is VSRN else ("model.finetune=true", "optim.bert_learning_rate=0.5")
    tiny = build_tiny(text, *more)
    names = {id(value): name for name, value in tiny.trainable().items()}
    sections = build_optimizer(tiny.recipe, tiny.groups).param_groups
    of_bert = [name for name in names.values() if name.startswith("model.text.bert.")]
    assert [names[id(value)] for value in sections[0]["params"]] == [n for n in names.values() if n not in of_bert]
    assert sections[0]["lr"] == sections[0]["initial_lr"] == tiny.recipe.optim.learning_rate
    if text is CAMERA:
        assert [names[id(value)] for value in sections[1]["params"]] == of_bert
        assert sections[1]["lr"] == sections[1]["initial_lr"] == 0.5
    assert len(sections) == (1 if text is VSRN else 2)
