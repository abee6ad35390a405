"""InfoNCE and the pairwise sigmoid: by hand, against loops, gradients, blocks, precision, and what recipes may say."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from support.tiny_models import VSRN, build_tiny
from torch import Tensor

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import RecipeError
from selfalign_cli.losses import contrastive
from selfalign_cli.losses.contrastive import InfoNce, PairwiseSigmoid
from selfalign_cli.recipe.load import parse_recipe
from selfalign_cli.similarity import similarity

KINDS: dict[str, Callable[..., InfoNce | PairwiseSigmoid]] = {"infonce": InfoNce, "sigmoid": PairwiseSigmoid}
each_kind = pytest.mark.parametrize("kind", KINDS)
RECIPE = "run: {dir: r}\ndata: {features: f, vocab: v}\nmodel: {name: vsrn}\nloss: {ranking: {kind: %s}}\n"


def vectors(pairs: int, *, views: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = (pairs, views, 4), (pairs, 3), (pairs, 4), (pairs, 3)
    return [torch.randn(*shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def scored(scores: Tensor) -> list[Tensor]:
    """Vectors with these scores: captions are unit vectors."""
    count = len(scores)
    return [scores.unsqueeze(1), scores.new_zeros(count, 0), torch.eye(count).to(scores), scores.new_zeros(count, 0)]


def number(loss: Tensor) -> float:
    return float(loss.detach())


def test_infonce_by_hand() -> None:
    """Scores 1 and 0 at temperature 1: every row and column is log(e + 1) - 1."""
    loss = InfoNce(temperature=1.0)(*scored(torch.eye(2)))
    assert number(loss) == pytest.approx(2 * (math.log(math.e + 1) - 1))
    assert number(InfoNce(temperature=1.0, reduction="mean")(*scored(torch.eye(2)))) == pytest.approx(number(loss) / 2)


def test_sigmoid_by_hand() -> None:
    """t = 2, b = -1: logits 1 on the diagonal, -1 and 3 beside it."""
    loss = PairwiseSigmoid(temperature=0.5, bias=-1.0)(*scored(torch.tensor([[1.0, 0.0], [2.0, 1.0]])))
    expected = 2 * math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-1)) + math.log(1 + math.exp(3))
    assert number(loss) == pytest.approx(expected)


def plain(kind: str, scores: list[list[float]], index: list[int]) -> float:
    """Loops over pairs, at the start values."""
    total, count = 0.0, len(scores)
    for i in range(count):
        others = [j for j in range(count) if index[j] != index[i]]
        if kind == "infonce":
            row = [scores[i][j] / 0.07 for j in [i, *others]]
            column = [scores[j][i] / 0.07 for j in [i, *others]]
            for line in (row, column):
                largest = max(line)
                total += (largest + math.log(sum(math.exp(x - largest) for x in line)) - line[0]) / 2
        else:
            total += math.log1p(math.exp(-(10 * scores[i][i] - 10)))
            total += sum(math.log1p(math.exp(10 * scores[i][j] - 10)) for j in others)
    return total


@each_kind
@pytest.mark.parametrize("index", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 2, 2], [7, 7, 7, 7, 7, 7]], ids=str)
def test_it_is_what_loops_compute(kind: str, index: list[int]) -> None:
    """With views, context, and captions of the same picture."""
    given = vectors(6)
    scores = similarity(RetrievalVectors(*given[:2]), RetrievalVectors(*given[2:]))
    found = KINDS[kind]().double()(*given, index=torch.tensor(index))
    assert number(found) == pytest.approx(plain(kind, scores.tolist(), index), rel=1e-6)


@each_kind
def test_gradients(kind: str) -> None:
    module = KINDS[kind](temperature=0.8).double()
    parameters = list(module.parameters())
    index = torch.tensor([0, 1, 1, 2])

    def loss(*given: Tensor) -> Tensor:
        return torch.func.functional_call(
            module, dict(zip(dict(module.named_parameters()), given[4:], strict=True)), (*given[:4], index)
        )

    assert torch.autograd.gradcheck(loss, (*vectors(4), *parameters))


@each_kind
def test_some_pictures_at_a_time_are_all_of_them(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Value and gradients; the score matrix never exists as a whole, nor is it kept for the backward pass."""
    pairs, index = 64, torch.arange(64) // 2
    results = []
    for at_once in (1 << 22, 2 * pairs * 7):
        monkeypatch.setattr(contrastive, "SCORES_AT_ONCE", at_once)
        module, given, kept = KINDS[kind]().double(), vectors(pairs), []

        def keep(tensor: Tensor, kept: list[int] = kept) -> Tensor:
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = module(*given, index=index)
        loss.backward()
        results.append((loss.detach(), [value.grad for value in (*given, *module.parameters())], max(kept)))
    (whole, gradients, most), (parts, others, least) = results
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(others, gradients, rtol=1e-9, atol=1e-12)
    assert most >= pairs * pairs
    assert least < pairs * pairs / 4


@each_kind
def test_the_order_of_pairs_and_a_shared_rotation_do_not_matter(kind: str) -> None:
    module, given, index = KINDS[kind]().double(), vectors(6), torch.tensor([0, 1, 1, 2, 3, 4])
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    expected = module(*given, index=index)
    torch.testing.assert_close(module(*(value[order] for value in given), index=index[order]), expected)
    rotated = [given[0] @ rotation, given[1], given[2] @ rotation, given[3]]
    torch.testing.assert_close(module(*rotated, index=index), expected)


def test_infonce_knows_differences_of_scores_only() -> None:
    scores = torch.randn(5, 5, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(InfoNce()(*scored(scores + 0.3)), InfoNce()(*scored(scores)), rtol=1e-4, atol=1e-4)


@each_kind
def test_reduced_precision_is_left_at_the_door(kind: str) -> None:
    """Vectors in bfloat16 inside autocast: scores, sums and gradients of the parameters are those of float32."""
    module, given = KINDS[kind](), [value.detach().bfloat16() for value in vectors(16)]
    expected = module(*(value.float() for value in given))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(*given)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@each_kind
def test_a_fixed_temperature_is_not_trained(kind: str) -> None:
    learned, fixed = (
        build_tiny(VSRN, f"loss.ranking={{kind: {kind}, learn_temperature: {word}}}") for word in ("true", "false")
    )
    names = {name for name in learned.trainable() if name.startswith("objective.ranking.")}
    assert names == {"objective.ranking.log_scale"} | ({"objective.ranking.bias"} if kind == "sigmoid" else set())
    assert not {name for name in fixed.trainable() if name.startswith("objective.ranking.")}
    start = {"infonce": 0.07, "sigmoid": 0.1}[kind]
    assert float(fixed.objective.get_parameter("ranking.log_scale").exp()) == pytest.approx(1 / start)


def test_infonce_scales_by_a_hundred_at_most() -> None:
    scores = torch.eye(3)
    at_most = InfoNce(temperature=0.01)(*scored(scores * 0.1))
    assert torch.equal(InfoNce(temperature=1e-6)(*scored(scores * 0.1)), at_most)


@pytest.mark.parametrize(
    ("kind", "override", "message"),
    [
        ("infonce", "margin=0.3", "only hinge has this key, and loss.ranking.kind is infonce (remove it)"),
        ("sigmoid", "warmup_epochs=2", "only hinge has this key, and loss.ranking.kind is sigmoid (remove it)"),
        ("infonce", "hardest_negative=false", "only hinge has this key"),
        ("infonce", "bias=-3.0", "only sigmoid has this key, and loss.ranking.kind is infonce"),
        ("hinge", "temperature=0.1", "only infonce and sigmoid have this key, and loss.ranking.kind is hinge"),
        ("hinge", "learn_temperature=false", "only infonce and sigmoid have this key"),
    ],
)
def test_keys_of_another_kind_are_refused(kind: str, override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(RECIPE % kind, [f"loss.ranking.{override}"], "r.yaml")
    assert "r.yaml has 1 fault" in caught.value.message
    assert message in caught.value.message


def test_a_kind_that_does_not_exist() -> None:
    with pytest.raises(RecipeError, match="loss.ranking.kind: expected hinge, infonce or sigmoid, got 'softmax'"):
        parse_recipe(RECIPE % "softmax", [], "r.yaml")
