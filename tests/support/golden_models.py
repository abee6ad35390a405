"""Build our models from a golden case and compare them, parameter by parameter."""

from __future__ import annotations

from pathlib import Path

import torch
from support.golden import allowances, difference, settings, tensors, under, widen
from torch import Tensor

from selfalign_cli.assembly.build import build_model
from selfalign_cli.assembly.objective import build_objective
from selfalign_cli.assembly.optimizer import NO_QUIRKS, TrainingQuirks, build_optimizer, parameter_groups
from selfalign_cli.encodings import ImageBatch, PairBatch, TextBatch
from selfalign_cli.models.bert import bert_from_config
from selfalign_cli.published import names
from selfalign_cli.published.options import host_of_options, recipe_from_published
from selfalign_cli.training.step import train_step

# What the golden files call a state, the rules that rename it, and where it lives here.
VSRN_STATES = {
    "img_enc": (names.side_rules(names.VSRN_IMAGE, side="image"), "model"),
    "txt_enc": (names.side_rules(names.VSRN_TEXT, side="text"), "model"),
    "region_loss": (names.PROTOTYPES, "objective.concept"),
    "caption_model": (names.CAPTIONER, "objective.captioner"),
}
CAMERA_STATES = {
    "img_enc": (names.side_rules(names.CAMERA_IMAGE, side="image"), "model"),
    "txt_enc": (names.side_rules(names.CAMERA_TEXT, side="text"), "model"),
    "region_loss": (names.PROTOTYPES, "objective.concept"),
}
VSE_INFTY_STATES = {
    "img_enc": (names.side_rules(names.VSE_INFTY_IMAGE, side="image"), "model"),
    "txt_enc": (names.side_rules((*names.VSE_INFTY_TEXT, *names.VSE_INFTY_BERT_TEXT), side="text"), "model"),
}
LOSS_NAMES = {
    "retrieval": "ranking",
    "ranking": "ranking",
    "caption": "captioning",
    "diversity": "diversity",
    "lca": "concept",
    "cra_v2t": "context_image",
    "cra_t2v": "context_text",
    "total": "total",
    "loss": "total",
    "grad_norm": "grad_norm",
}

# What MODELS.md section 11 documents.
EVAL = {"f64": 1e-10, "f32": 3e-6}
LOSS = {"f64": 1e-10, "f32": 2e-5}
GRADIENT = {"f64": 1e-10, "f32": 5e-5}
ZERO_GRADIENT = {"f64": 1e-10, "f32": 1e-3}  # gradients that are zero in theory
STEP = {"f64": (1e-10, 1e-8), "f32": (4e-5, 3e-4)}  # after the first, and after later ones
ZERO_GRADIENT_STEP = {"f64": 1e-7}  # in float32 they differ by up to 2 learning rates a step (MODELS.md 7)


def states(folder: Path) -> dict[str, tuple[names.Rules, str]]:
    by_host = {"camera": CAMERA_STATES, "vsrn": VSRN_STATES, "vse_infty": VSE_INFTY_STATES}
    return by_host[host_of_options(settings(folder / "meta.json")["opt"])]


def expected_state(path: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """A golden state under our names, such as `model.image.fc.weight`."""
    found = widen(tensors(path), dtype)
    renamed: dict[str, Tensor] = {}
    for theirs, (rules, ours) in states(path.parent).items():
        used = {name: value for name, value in under(found, theirs).items() if not name.startswith(names.UNUSED)}
        part, unknown = names.rename_state(used, rules)
        assert not unknown
        renamed.update({f"{ours}.{name}": value for name, value in part.items()})
    assert len(renamed) == len([name for name in found if f".{names.UNUSED[0]}" not in name])
    return renamed


def vsrn_batch(folder: Path, index: int, dtype: torch.dtype) -> PairBatch:
    found = under(tensors(folder / "inputs.safetensors"), f"batch{index}")
    pairs = torch.arange(len(found["images"]))
    images = found["images"].to(dtype)
    ids, lengths = found["captions"], found["lengths"]
    mask = torch.arange(ids.shape[1]) < lengths.unsqueeze(1)
    return PairBatch(
        ImageBatch(images, torch.ones(images.shape[:2], dtype=torch.bool), pairs), TextBatch(ids, mask), pairs
    )


def camera_batch(folder: Path, index: int, dtype: torch.dtype) -> PairBatch:
    found = under(tensors(folder / "inputs.safetensors"), f"batch{index}")
    pairs = torch.arange(len(found["images"]))
    images = found["images"].to(dtype)
    regions = torch.ones(images.shape[:2], dtype=torch.bool)
    return PairBatch(
        ImageBatch(images, regions, pairs, found["boxes"].to(dtype), found["imgs_wh"].to(dtype)),
        TextBatch(found["input_ids"], found["attention_mask"].bool()),
        pairs,
    )


def vse_infty_batch(folder: Path, index: int, dtype: torch.dtype) -> PairBatch:
    found = under(tensors(folder / "inputs.safetensors"), f"batch{index}")
    pairs = torch.arange(len(found["images"]))
    images, ids = found["images"].to(dtype), found["captions"]
    regions, words = (
        torch.arange(values.shape[1]) < lengths.unsqueeze(1)
        for values, lengths in ((images, found["image_lengths"]), (ids, found["lengths"]))
    )
    return PairBatch(ImageBatch(images, regions, pairs), TextBatch(ids, words), pairs)


class GoldenModel:
    """One golden case as our model, objective and optimizer."""

    def __init__(self, folder: Path, dtype: torch.dtype, *, relu: bool = True) -> None:
        self.folder, self.dtype = folder, dtype
        self.meta = settings(folder / "meta.json")
        options = self.meta["opt"] if relu else {**self.meta["opt"], "ctx_relu": 0, "ctx_fc_relu": 0}
        self.initial = expected_state(folder / "init.safetensors", dtype)
        host = host_of_options(options)
        with_bert = host == "vse_infty" and "bert_config" in self.meta
        recipe = recipe_from_published(
            options,
            selfalign=host != "vse_infty",
            captioner=True,
            host_name="vse_infty_bert" if with_bert else host,
        )
        vocab_size = options.get("vocab_size")
        features = tensors(folder / "inputs.safetensors")["batch0.images"].shape[-1]
        self.recipe = recipe
        bert = bert_from_config(self.meta["bert_config"]) if "bert_config" in self.meta else None
        self.model = build_model(recipe, feature_dim=features, vocab_size=vocab_size, bert=bert).to(dtype)
        self.objective = build_objective(recipe, vocab_size=vocab_size).to(dtype)
        self.learning_rate = recipe.optim.learning_rate
        self.zero_gradient = {self._rename(name) for name in self.meta["zero_gradient_params"]}

    def start(self, *, training: bool) -> GoldenModel:
        """Go back to the start state with a fresh optimizer."""
        for name, module in (("model", self.model), ("objective", self.objective)):
            module.load_state_dict(under(self.initial, name))
            module.train(training)
            module.zero_grad()
        self.groups = parameter_groups(self.model, self.objective)
        self.optimizer = build_optimizer(self.recipe, self.groups)
        return self

    def step(self, batch: PairBatch, quirks: TrainingQuirks = NO_QUIRKS, *, warmup: bool = False) -> dict[str, Tensor]:
        return train_step(
            self.model,
            self.objective,
            self.optimizer,
            self.groups,
            batch,
            grad_clip_norm=self.recipe.optim.grad_clip_norm,
            quirks=quirks,
            warmup=warmup,
        )

    def backward(self, batch: PairBatch, *, warmup: bool = False) -> None:
        images, texts = self.model.encode_image(batch.images), self.model.encode_text(batch.texts)
        self.objective(images, texts, batch, warmup=warmup)["total"].backward()

    def parameters(self) -> dict[str, Tensor]:
        return {
            **{f"model.{name}": value for name, value in self.model.named_parameters()},
            **{f"objective.{name}": value for name, value in self.objective.named_parameters()},
        }

    def assert_losses(
        self, terms: dict[str, Tensor], expected: dict[str, float], exact: dict[str, float], tolerance: float
    ) -> None:
        found = {name: float(terms[ours]) for name, ours in LOSS_NAMES.items() if name in expected}
        assert {"total", "grad_norm", "lca"} <= set(found) or {"loss", "grad_norm"} <= set(found)
        if "ctx" in expected:
            found["ctx"] = (found["cra_v2t"] + found["cra_t2v"]) / 2
        golden, double = ({name: torch.tensor(values[name]) for name in found} for values in (expected, exact))
        allowed = allowances(golden, double, tolerance)
        gaps = {name: (abs(value - expected[name]), allowed[name]) for name, value in found.items()}
        assert all(gap <= most for gap, most in gaps.values()), gaps

    def assert_gradients(self, path: Path, tolerance: float, *, noise: float) -> None:
        """`noise` bounds the gradients that are zero in theory, where single precision leaves rounding only."""
        expected = expected_state(path, self.dtype)
        exact = expected_state(path.with_name(path.name.replace("f32", "f64")), torch.float64)
        parameters = {name: value for name, value in self.parameters().items() if value.requires_grad}
        assert set(expected) == set(parameters)
        allowed = self._allowances(expected, exact, tolerance, set(self.zero_gradient), noise)
        self._assert_within({name: _gradient(value) for name, value in parameters.items()}, expected, allowed)

    def assert_optimizer(self) -> None:
        told = self.meta["optimizer"]
        found = {"name": type(self.optimizer).__name__, **self.optimizer.defaults}
        assert {name: list(found[name]) if name == "betas" else found[name] for name in told} == told

    def assert_state(self, path: Path, *, tolerance: float, zero_gradient_tolerance: float) -> None:
        expected = expected_state(path, self.dtype)
        exact = expected_state(path.with_name(path.name.replace("f32", "f64")), torch.float64)
        loose = {name for name in expected if name in self.zero_gradient or name.endswith("running_mean")}
        self._assert_within(
            self.state(), expected, self._allowances(expected, exact, tolerance, loose, zero_gradient_tolerance)
        )

    def state(self) -> dict[str, Tensor]:
        return {
            **{f"model.{name}": value for name, value in self.model.state_dict().items()},
            **{f"objective.{name}": value for name, value in self.objective.state_dict().items()},
        }

    def _allowances(
        self, expected: dict[str, Tensor], exact: dict[str, Tensor], tolerance: float, loose: set[str], noise: float
    ) -> dict[str, float]:
        """`loose` values may be off by `noise`: their gradients are zero in theory."""
        known = {name: value for name, value in expected.items() if name not in loose}
        allowed = allowances(known, {name: exact[name] for name in known}, tolerance)
        return {**allowed, **dict.fromkeys(loose & set(expected), max(tolerance, noise))}

    def _assert_within(self, found: dict[str, Tensor], expected: dict[str, Tensor], allowed: dict[str, float]) -> None:
        gaps = {name: (difference(found[name], value), allowed[name]) for name, value in expected.items()}
        assert all(gap <= most for gap, most in gaps.values()), {n: g for n, g in gaps.items() if g[0] > g[1]}

    def _rename(self, name: str) -> str:
        theirs = name.split(".")[0]
        rules, ours = states(self.folder)[theirs]
        return f"{ours}.{names.rename(name[len(theirs) + 1 :], rules)}"


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def assert_outputs(found: dict[str, Tensor], file: Path, precision: str, part: str = "") -> None:
    """Compare what the encoders return, by its published names, with a golden file or a part of it."""
    expected, exact = under(tensors(file), precision + part), under(tensors(file), "f64" + part)
    assert expected
    allowed = allowances(expected, exact, EVAL[precision])
    gaps = {name: (difference(found[name], value), allowed[name]) for name, value in expected.items()}
    assert all(gap <= most for gap, most in gaps.values()), gaps
