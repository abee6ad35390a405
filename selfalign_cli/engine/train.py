"""`selfalign train`: open what a recipe names, start or resume its run, and hand over to the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from selfalign_cli.data.pairs import PairDataset
from selfalign_cli.engine.assemble import choose_device, language_of_recipe, needs_boxes, open_features
from selfalign_cli.engine.checkpoint import load_checkpoint
from selfalign_cli.engine.encode import open_split, told_of_cut
from selfalign_cli.engine.interrupt import StopRequest
from selfalign_cli.engine.metrics_log import MetricsLog
from selfalign_cli.engine.run_folder import RunFolder, check_resumable
from selfalign_cli.engine.train_state import TrainState, begin_state, restore_state
from selfalign_cli.engine.trainer import Run, TrainingData, TrainingView
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
    with StopRequest() as stop:
        place = choose_device(device)
        data = open_training_data(recipe)
        folder = RunFolder(Path(recipe.run.dir))
        state = start_or_resume(recipe, data, folder, place, resume=resume, ui=ui)
        if recipe.data.cache_words:
            data = _with_cached_words(recipe, data, folder, state, place, ui)
        log = MetricsLog(folder.path, offset=state.log_bytes, step=state.step, tensorboard=recipe.run.tensorboard)
        with log:
            folder.describe(recipe, data.pairs.file.content_hash, data.language.captions.content_hash)
            stop.defer()
            return Run(recipe, data, state, folder, log, ui, place).train(stop)


def open_training_data(recipe: Recipe) -> TrainingData:
    """Open what a recipe trains on and validates with."""
    file = open_features(recipe.data.features, boxes=needs_boxes(recipe))
    language = language_of_recipe(recipe)
    encode = language.captions.encode
    pairs = PairDataset(file, recipe.data.train_split, encode, max_words=recipe.data.max_words)
    dev = open_split(file, recipe.data.dev_split, encode, max_words=recipe.data.max_words, limit=recipe.data.dev_limit)
    return TrainingData(pairs, dev, language)


def start_or_resume(
    recipe: Recipe, data: TrainingData, folder: RunFolder, device: torch.device, *, resume: bool, ui: TrainingView
) -> TrainState:
    """Build the state of a run at its first step, or at that of last.ckpt."""
    file, language = data.pairs.file, data.language
    last = load_checkpoint(folder.last) if resume and folder.last.exists() else None
    if last is None:
        folder.begin(resume=resume)
    else:
        check_resumable(recipe, last, file.content_hash, language.captions.content_hash)
    state = begin_state(recipe, language, file.feature_dim, device)
    if last is not None:
        restore_state(state, last, what=str(folder.last))
    elif resume:
        ui.message(f"there is no {folder.last} to resume: starting at the first step")
    for split, tokens in ((data.pairs.split, data.pairs.tokens), (data.dev.split, data.dev.tokens)):
        told = told_of_cut(tokens, split=split, max_words=recipe.data.max_words)
        if told:
            ui.message(told)
    return state


def _with_cached_words(
    recipe: Recipe, data: TrainingData, folder: RunFolder, state: TrainState, device: torch.device, ui: TrainingView
) -> TrainingData:
    # Only here: CAMERA brings transformers along, which takes seconds to import.
    from selfalign_cli.engine.cached_words import with_cached_words
    from selfalign_cli.models.camera import CameraTextEncoder

    text = state.model.text
    assert isinstance(text, CameraTextEncoder)  # a fault of the recipe otherwise
    return with_cached_words(
        data, text, folder.path, batch_size=recipe.validation.batch_size, device=device, say=ui.message
    )
