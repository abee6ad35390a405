"""`selfalign train`: open what a recipe names, start or resume its run, and hand over to the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from selfalign_cli import parallel
from selfalign_cli.assembly.checkpoint import load_checkpoint
from selfalign_cli.assembly.device import choose_device
from selfalign_cli.assembly.features import needs_boxes, open_features
from selfalign_cli.assembly.language import Language, language_of_recipe
from selfalign_cli.assembly.split import open_split
from selfalign_cli.data.alterations import Alterations
from selfalign_cli.data.pairs import PairDataset
from selfalign_cli.errors import DataError, RecipeError, RunError
from selfalign_cli.recipe.hashes import recipe_hash
from selfalign_cli.recipe.load import with_widths
from selfalign_cli.recipe.schema import Recipe
from selfalign_cli.signals import StopRequest
from selfalign_cli.training.cached_words import with_cached_words
from selfalign_cli.training.metrics_log import MetricsLog, NoLog
from selfalign_cli.training.notes import notes_on_data
from selfalign_cli.training.run_folder import RunFolder, check_resumable
from selfalign_cli.training.train_state import TrainState, begin_state, restore_state
from selfalign_cli.training.trainer import Run, TrainingData, TrainingView


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
    with StopRequest() as stop, parallel.process_group():
        torch_device = choose_device(device)
        data = open_training_data(recipe)
        recipe, notes = with_widths(recipe, data.pairs.file.feature_dim)
        _check_batch_sizes(recipe, data)
        folder = RunFolder(Path(recipe.run.dir))
        resume = parallel.broadcast(resume or folder.restarted())
        state = start_or_resume(recipe, data, folder, torch_device, resume=resume, ui=ui)
        for note in notes:
            ui.message(note)
        _check_agreement(recipe, data, state)
        with _log_of(recipe, folder, state) as log:  # locks the folder
            if recipe.data.cache_words:
                data = _with_cached_words(recipe, data, folder, state, torch_device, ui)
            if parallel.rank() == 0:
                folder.describe(recipe, data.pairs.file.content_hash, data.language.captions.content_hash)
            stop.defer()
            try:
                return Run(recipe, data, state, folder, log, ui, torch_device).train(stop)
            except DataError as fault:  # the data were valid when the run began
                raise RunError(fault.message, fault.hint) from fault


def _check_batch_sizes(recipe: Recipe, data: TrainingData) -> None:
    """Check that every process gets a pair of every batch."""
    pairs, size, processes = len(data.pairs), recipe.data.batch_size, parallel.world_size()
    if recipe.data.drop_last:
        if pairs < size:
            raise RecipeError(
                f"{pairs:,} pairs make no whole batch of {size}, and data.drop_last leaves out smaller ones",
                "lower data.batch_size, or set data.drop_last: false",
            )
        smallest = size
    else:
        smallest = min(size, pairs % size or size)
    if smallest < processes:
        raise RecipeError(
            f"the smallest batch has {smallest} pairs for {processes} processes ({pairs:,} pairs, batches of {size})",
            "choose another data.batch_size, or fewer processes",
        )


def _check_agreement(recipe: Recipe, data: TrainingData, state: TrainState) -> None:
    """Check that all processes, perhaps on several machines, read the same files."""
    file, language = data.pairs.file, data.language
    own = (recipe_hash(recipe), file.content_hash, language.captions.content_hash, state.step)
    if any(other != own for other in parallel.all_gather_objects(own)):
        raise RunError(
            "the processes of this run see different recipes, features, vocabularies or checkpoints",
            "put them, and run.dir, on a file system that all machines share",
        )


def _log_of(recipe: Recipe, folder: RunFolder, state: TrainState) -> MetricsLog | NoLog:
    """Open the log of a run, which the first process writes."""
    if parallel.rank() > 0:
        return NoLog()
    return MetricsLog(folder.path, offset=state.log_bytes, step=state.step, tensorboard=recipe.run.tensorboard)


def open_training_data(recipe: Recipe) -> TrainingData:
    """Open what a recipe trains on and validates with."""
    named = {"data.features": recipe.data.features, "data.vocab": recipe.data.vocab}
    missing = [f"{key}: {path}" for key, path in named.items() if path is not None and not Path(path).exists()]
    if len(missing) > 1:
        raise DataError("there is no file\n  " + "\n  ".join(missing), "selfalign convert-features, build-vocab")
    file = open_features(recipe.data.features, boxes=needs_boxes(recipe))
    language = language_of_recipe(recipe)
    encode = language.captions.encode
    pairs = PairDataset(
        file,
        recipe.data.train_split,
        encode,
        max_words=recipe.data.max_words,
        alterations=_alterations(recipe, language),
        words=language.captions.word_numbers if recipe.data.alter_words else None,
    )
    dev = open_split(file, recipe.data.dev_split, encode, max_words=recipe.data.max_words, limit=recipe.data.dev_limit)
    return TrainingData(pairs, dev, language)


def _alterations(recipe: Recipe, language: Language) -> Alterations | None:
    """How the recipe alters regions and words."""
    regions, words, captions = recipe.data.drop_regions, recipe.data.alter_words, language.captions
    if not regions and not words:
        return None
    if words and captions.mask is None:
        raise DataError(
            "data.alter_words needs a piece [MASK], and the tokenizer of model.bert has none",
            "set data.alter_words: 0, or take the tokenizer of a BERT",
        )
    return Alterations(regions, words, captions.mask or 0, len(captions))


def start_or_resume(
    recipe: Recipe, data: TrainingData, folder: RunFolder, device: torch.device, *, resume: bool, ui: TrainingView
) -> TrainState:
    """Build the state of a run at its first step, or at that of last.ckpt."""
    file, language = data.pairs.file, data.language
    last = load_checkpoint(folder.last) if resume and folder.last.exists() else None
    if last is None:
        folder.begin(resume=resume)
    else:
        for change in check_resumable(recipe, last, file, language.captions.content_hash):
            ui.message(f"resuming with another {change}")
    state = begin_state(recipe, language, file.feature_dim, device)
    if last is not None:
        restore_state(state, last, what=str(folder.last))
    elif resume:
        ui.message(f"there is no {folder.last} to resume: starting at the first step")
    for note in notes_on_data(recipe, data):
        ui.message(note)
    return state


def _with_cached_words(
    recipe: Recipe, data: TrainingData, folder: RunFolder, state: TrainState, device: torch.device, ui: TrainingView
) -> TrainingData:
    tokens = state.model.token_encoder
    assert tokens is not None  # a fault of the recipe otherwise
    if parallel.rank() > 0:
        parallel.barrier()
    cached = with_cached_words(
        data, tokens, folder.path, batch_size=recipe.validation.batch_size, device=device, notify=ui.message
    )
    if parallel.rank() == 0:
        parallel.barrier()
    return cached
