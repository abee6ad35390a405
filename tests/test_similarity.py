"""The score of picture and caption: worked values, loops as oracle, gradients, and the released code's numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import selfalign_cli.similarity as module
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.similarity import similarity

TOLERANCE = {"f32": 1e-5, "f64": 1e-12}


def vectors(pooled: Tensor, shared: Tensor | None = None) -> RetrievalVectors:
    return RetrievalVectors(pooled, pooled.new_zeros(len(pooled), 0) if shared is None else shared)


def draw(
    images: int, views: int, captions: int, width: int, context: int
) -> tuple[RetrievalVectors, RetrievalVectors]:
    torch.manual_seed(7)
    sizes = ((images, views, width), (images, context), (captions, width), (captions, context))
    image, image_context, caption, caption_context = (torch.randn(size, dtype=torch.float64) for size in sizes)
    return vectors(image, image_context), vectors(caption, caption_context)


def test_dot_takes_the_best_view_and_adds_the_context_once():
    """views (1,0) and (0,1), caption (2,3): max(2, 3) = 3; contexts 4 · 5 = 20; together 23"""
    images = vectors(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[4.0]]))
    captions = vectors(torch.tensor([[2.0, 3.0]]), torch.tensor([[5.0]]))
    assert similarity(images, captions).tolist() == [[23.0]]


def test_order_is_minus_the_length_of_the_violation():
    """caption (4, 1) over picture (1, 5): violations (3, 0), length 3; with context 4 over 0: √(9 + 16) = 5"""
    images = vectors(torch.tensor([[[1.0, 5.0]]]), torch.tensor([[0.0]]))
    captions = vectors(torch.tensor([[4.0, 1.0]]), torch.tensor([[4.0]]))
    assert similarity(images, captions, "order").tolist() == [[-5.0]]


@pytest.mark.parametrize("views", [1, 4])
@pytest.mark.parametrize("context", [0, 3])
def test_dot_equals_products_of_the_published_vectors(views: int, context: int):
    images, captions = draw(5, views, 7, 6, context)
    expected = torch.einsum("nvd,md->nvm", images.concatenated(), captions.concatenated()).amax(dim=1)
    torch.testing.assert_close(similarity(images, captions), expected)


def test_order_in_chunks_equals_order_at_once(monkeypatch: pytest.MonkeyPatch):
    images, captions = draw(5, 1, 7, 6, 3)
    whole = similarity(images, captions, "order")
    monkeypatch.setattr(module, "ORDER_CHUNK", 5 * 9 * 2)
    torch.testing.assert_close(similarity(images, captions, "order"), whole, rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "views"), [("dot", 1), ("dot", 3), ("order", 1)])
def test_gradient_is_right(kind: module.Similarity, views: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "ORDER_CHUNK", 4 * 6 * 2)  # three chunks
    images, captions = draw(4, views, 5, 4, 2)
    parts = [part.requires_grad_() for side in (images, captions) for part in (side.pooled, side.shared)]
    torch.autograd.gradcheck(
        lambda a, b, c, d: similarity(RetrievalVectors(a, b), RetrievalVectors(c, d), kind), tuple(parts)
    )


def test_order_gradient_is_zero_where_nothing_is_violated():
    image, caption = torch.ones(1, 1, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    similarity(vectors(image), vectors(caption), "order").sum().backward()
    assert image.grad is not None
    assert caption.grad is not None
    assert image.grad.abs().sum() == caption.grad.abs().sum() == 0


def test_order_refuses_views():
    with pytest.raises(ValueError, match="needs one view per picture, got 2"):
        similarity(*draw(2, 2, 2, 3, 0), "order")


def test_widths_must_agree():
    images, _ = draw(2, 1, 2, 3, 0)
    _, captions = draw(2, 1, 2, 4, 0)
    with pytest.raises(ValueError, match="picture vectors are"):
        similarity(images, captions)


@pytest.mark.parametrize("precision", TOLERANCE)
def test_golden_multi_view(golden_dir: Path, precision: str):
    for case, found, _ in unit_cases(golden_dir, "multi_view"):
        images, captions = leaves(found, ("imgs", "caps"), precision)
        scores = similarity(vectors(images), vectors(captions))
        (scores * found["weight"]).sum().backward()
        close(scores, found[f"{precision}.out"], case)
        close(images.grad, found[f"{precision}.grad_in.imgs"], case)
        close(captions.grad, found[f"{precision}.grad_in.caps"], case)


@pytest.mark.parametrize("precision", TOLERANCE)
def test_golden_hinge_similarity(golden_dir: Path, precision: str):
    for case, found, options in unit_cases(golden_dir, "hinge"):
        images, captions = leaves(found, ("im", "s"), precision)
        scores = similarity(
            vectors(images.unsqueeze(1)), vectors(captions), "order" if options["measure"] == "order" else "dot"
        )
        scores.backward(found[f"{precision}.grad_sim"])
        close(scores, found[f"{precision}.sim"], case)
        close(images.grad, found[f"{precision}.grad_in.im"], case)
        close(captions.grad, found[f"{precision}.grad_in.s"], case)


def unit_cases(golden_dir: Path, name: str) -> list[tuple[str, dict[str, Tensor], dict[str, str]]]:
    path = golden_dir / "units" / f"{name}.json"
    tensors = load_file(path.with_suffix(".safetensors"))
    cases = json.loads(path.read_text())["cases"]
    assert cases
    return [
        (
            case,
            {key[len(case) + 1 :]: tensor for key, tensor in tensors.items() if key.startswith(case + ".")},
            options,
        )
        for case, options in cases.items()
    ]


def leaves(found: dict[str, Tensor], names: tuple[str, str], precision: str) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if precision == "f64" else torch.float32
    first, second = (found[f"in.{name}"].to(dtype).requires_grad_() for name in names)
    return first, second


def close(found: Tensor | None, expected: Tensor, case: str) -> None:
    tolerance = TOLERANCE["f64" if expected.dtype == torch.float64 else "f32"]
    limit = tolerance * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, rtol=0, atol=limit, msg=lambda text: f"{case}: {text}")
