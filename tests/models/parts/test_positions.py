"""Box features by hand, and the gate where boxes are odd or padded."""

from __future__ import annotations

import torch

from selfalign_cli.models.parts.positions import BoxGate, box_features


def test_box_features_by_hand() -> None:
    """Box (10, 20)-(30, 60) in a 100 x 200 picture: 20 wide, 40 high, 800 of 20,000 pixels."""
    found = box_features(torch.tensor([[[10.0, 20.0, 30.0, 60.0]]]), torch.tensor([[100.0, 200.0]]))
    torch.testing.assert_close(found, torch.tensor([[[0.1, 0.1, 0.2, 0.2, 0.5, 0.04]]]))


def test_guard_bounds_the_height_by_a_pixel() -> None:
    """A box 20 wide and 0 high: w/h = 20/1 guarded, infinite as published; the other five numbers agree."""
    boxes, size = torch.tensor([[[10.0, 20.0, 30.0, 20.0]]]), torch.tensor([[100.0, 200.0]])
    guarded, published = box_features(boxes, size), box_features(boxes, size, guard=False)
    assert guarded[0, 0, 4] == 20.0
    assert published[0, 0, 4] == float("inf")
    assert torch.equal(guarded[..., [0, 1, 2, 3, 5]], published[..., [0, 1, 2, 3, 5]])


def test_guard_leaves_ordinary_boxes_alone() -> None:
    boxes, size = torch.tensor([[[0.0, 0.0, 7.0, 3.0]]]), torch.tensor([[100.0, 200.0]])
    assert torch.equal(box_features(boxes, size), box_features(boxes, size, guard=False))


def test_padded_boxes_are_finite_and_send_no_gradient() -> None:
    boxes = torch.tensor([[[10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 0.0, 0.0]]], requires_grad=True)
    gate = BoxGate(4, guard=False)
    gates = gate(boxes, torch.tensor([[100.0, 200.0]]), torch.tensor([[True, False]]))
    gates.sum().backward()
    assert torch.isfinite(gates).all()
    assert boxes.grad is not None
    assert torch.isfinite(boxes.grad).all()
    assert torch.equal(boxes.grad[0, 1], torch.zeros(4))
    assert torch.isfinite(gate.proj.weight.grad).all()


def test_gate_is_the_sigmoid_of_a_linear_map() -> None:
    gate = BoxGate(4)
    boxes, size = torch.tensor([[[10.0, 20.0, 30.0, 60.0]]]), torch.tensor([[100.0, 200.0]])
    torch.testing.assert_close(gate(boxes, size), torch.sigmoid(gate.proj(box_features(boxes, size))))
