"""`selfalign train`: open what a recipe names, start or resume its run, and hand over to the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from selfalign_cli.data.pairs import PairDataset
from selfalign_cli.engine.assemble import choose_device, language_of_recipe, needs_boxes, open_features
from selfalign_cli.engine.build import build_model, build_objective, build_optimizer, parameter_groups
from selfalign_cli.engine.checkpoint import Checkpoint, load_checkpoint, load_state
from selfalign_cli.engine.encode import open_split
from selfalign_cli.engine.interrupt import StopRequest
from selfalign_cli.engine.metrics_log import MetricsLog
from selfalign_cli.engine.run_folder import RunFolder, check_resumable
from selfalign_cli.engine.trainer import Run, TrainingData, TrainingView, TrainState
from selfalign_cli.recipe.schema import Recipe


def train_recipe(recipe: Recipe, *, resume: bool, device: str, ui: TrainingView) -> dict[str, Any]:
    """Train what a recipe says, into its run folder.

    Args:
        recipe: the recipe.
        resume: continue from last.ckpt.
        device: auto, cpu or cuda.
        ui: shows the run.

    Returns:
        A summary: steps, epochs, seconds, best score and step, paths.

    Raises:
        SelfAlignError: wrong input (exit 2), or a run that cannot go on (exit 1, 130 and 143 when interrupted).
    """
    place = choose_device(device)
    data = open_training_data(recipe)
    hashes = data.pairs.file.content_hash, data.language.captions.content_hash
    folder = RunFolder(Path(recipe.run.dir))
    last = load_checkpoint(folder.last) if resume and folder.last.exists() else None
    if last is not None:
        check_resumable(recipe, last, *hashes)
    else:
        folder.begin(recipe, *hashes, resume=resume)
    state = begin_state(recipe, data, place)
    if last is not None:
        restore_state(state, last, what=str(folder.last))
    if data.pairs.tokens.cut:
        ui.message(
            f"{data.pairs.tokens.cut} of {len(data.pairs)} training captions are longer than "
            f"{recipe.data.max_words} tokens and were cut"
        )
    with MetricsLog(folder.path, offset=state.log_bytes, step=state.step, tensorboard=recipe.run.tensorboard) as log:
        run = Run(recipe, data, state, folder, log, ui, place)
        with StopRequest() as stop:
            return run.train(stop)


def open_training_data(recipe: Recipe) -> TrainingData:
    """Open what a recipe trains on and validates with."""
    file = open_features(recipe.data.features, boxes=needs_boxes(recipe))
    language = language_of_recipe(recipe)
    encode = language.captions.encode
    pairs = PairDataset(file, recipe.data.train_split, encode, max_words=recipe.data.max_words)
    dev = open_split(file, recipe.data.dev_split, encode, max_words=recipe.data.max_words, limit=recipe.data.dev_limit)
    return TrainingData(pairs, dev, language)


def begin_state(recipe: Recipe, data: TrainingData, device: torch.device) -> TrainState:
    """Build model, objective and optimizer with seeded weights."""
    torch.manual_seed(recipe.run.seed)
    words = len(data.language.captions)
    width = data.pairs.file.feature_dim
    model = build_model(recipe, feature_dim=width, vocab_size=words, bert=data.language.bert).to(device)
    objective = build_objective(recipe, vocab_size=words).to(device)
    groups = parameter_groups(model, objective)
    return TrainState(model, objective, build_optimizer(recipe, groups), groups)


def restore_state(state: TrainState, checkpoint: Checkpoint, *, what: str) -> None:
    """Bring a fresh state to where a checkpoint was, random numbers included."""
    training = checkpoint.training
    assert training is not None  # checked by check_resumable
    load_state(state.model, checkpoint.model, what=what)
    load_state(state.objective, training["objective"], what=what)
    state.optimizer.load_state_dict(training["optimizer"])
    for name in ("validated", "best_score", "best_step", "log_bytes"):
        setattr(state, name, training[name])
    state.step, state.scores = checkpoint.step, checkpoint.scores
    torch.set_rng_state(training["rng"])
    if training["cuda_rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(training["cuda_rng"])
