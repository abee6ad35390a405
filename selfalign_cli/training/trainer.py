"""The training loop: steps, validations and checkpoints, in an order that can be resumed after any of them."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from selfalign_cli import parallel
from selfalign_cli.assembly.checkpoint import Checkpoint, save_checkpoint
from selfalign_cli.assembly.encode import caption_width, embed_split
from selfalign_cli.assembly.language import Language
from selfalign_cli.assembly.optimizer import training_quirks
from selfalign_cli.assembly.split import SplitData
from selfalign_cli.data.pairs import PairDataset, pair_batches, steps_in_epoch
from selfalign_cli.encodings import PairBatch
from selfalign_cli.errors import RunError
from selfalign_cli.recipe.schema import Recipe
from selfalign_cli.signals import RunInterrupted, StopRequest
from selfalign_cli.training.gradient_shares import gradient_shares
from selfalign_cli.training.metrics_log import MetricsLog, NoLog
from selfalign_cli.training.run_folder import RunFolder
from selfalign_cli.training.step import train_step
from selfalign_cli.training.train_state import TrainState
from selfalign_cli.training.validation import score_vectors


class TrainingView(Protocol):
    """Shows a run to the user; the trainer itself prints nothing."""

    def start(self, *, total_steps: int, start_step: int, epochs: int, steps_per_epoch: int) -> None:
        """The run starts, or resumes after `start_step` steps."""

    def step(self, *, epoch: int, step: int, terms: dict[str, float], learning_rate: float, grad_norm: float) -> None:
        """Steps are done; `terms` are those of the last one."""

    def validation(self, *, epoch: int, step: int, scores: dict[str, float], best: bool) -> None:
        """The dev split was scored."""

    def message(self, text: str) -> None:
        """A message to the user."""

    def finish(self, summary: dict[str, Any]) -> None:
        """The run is complete."""


@dataclass(frozen=True)
class TrainingData:
    """The training pairs and the dev split."""

    pairs: PairDataset
    dev: SplitData
    language: Language


@dataclass
class Run:
    """One training run: its parts, and the loop over them."""

    recipe: Recipe
    data: TrainingData
    state: TrainState
    folder: RunFolder
    log: MetricsLog | NoLog
    ui: TrainingView
    device: torch.device

    def __post_init__(self) -> None:
        data = self.recipe.data
        self.steps_per_epoch = steps_in_epoch(len(self.data.pairs), data.batch_size, drop_last=data.drop_last)
        self.total_steps = self.steps_per_epoch * self.recipe.optim.epochs
        self.began = time.monotonic()
        self.pending: list[dict[str, Tensor]] = []

    def train(self, stop: StopRequest) -> dict[str, Any]:
        """Train to the end; the loop can be entered with any state that it saves."""
        state = self.state
        if state.step >= self.total_steps:
            self.ui.message(f"{self.folder.path} is complete; with a larger optim.epochs it would go on")
        self.ui.start(
            total_steps=self.total_steps,
            start_step=state.step,
            epochs=self.recipe.optim.epochs,
            steps_per_epoch=self.steps_per_epoch,
        )
        if state.best_step == state.step:  # the run may have been killed between writing last.ckpt and best.ckpt
            self._save_best()
        state.model.train()
        state.objective.train()
        batches = self._rest_of_epoch()
        try:
            while True:
                if self._validation_due():
                    self._validate(stop)
                number = parallel.all_reduce_max(stop.number or 0)  # signals reach processes at different times
                if number:
                    self._interrupted(number)
                if state.step >= self.total_steps:
                    return self._finish()
                batch = next(batches, None)
                if batch is None:
                    batches = self._rest_of_epoch()
                else:
                    self._step(batch)
        finally:
            batches.close()

    def _rest_of_epoch(self) -> Generator[PairBatch, None, None]:
        """Return the batches of the present epoch that are left, and set its learning rate."""
        optim, epoch = self.recipe.optim, self.state.step // self.steps_per_epoch
        for group in self.state.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * optim.decay_factor ** (epoch // optim.decay_every)
        return pair_batches(
            self.data.pairs,
            batch_size=self.recipe.data.batch_size,
            seed=self.recipe.run.seed,
            epoch=epoch,
            start_step=self.state.step % self.steps_per_epoch,
            workers=self.recipe.data.workers,
            width=caption_width(self.recipe),
            shard=parallel.shard(),
            drop_last=self.recipe.data.drop_last,
        )

    def _step(self, batch: PairBatch) -> None:
        """Take one step; log and save when due."""
        recipe, state = self.recipe, self.state
        epoch = state.step // self.steps_per_epoch
        batch = batch.to(self.device)
        if recipe.run.gradient_shares and state.step % self.steps_per_epoch == 0:
            self._log_gradient_shares(batch, epoch)
        terms = train_step(
            state.model,
            state.objective,
            state.optimizer,
            state.groups,
            batch,
            grad_clip_norm=recipe.optim.grad_clip_norm,
            pairs=self._pairs_of_step(),
            chunk_size=recipe.optim.chunk_size,
            warmup=epoch < recipe.loss.ranking.warmup_epochs,
            quirks=training_quirks(recipe, epoch=epoch),
        )
        state.step += 1
        self.pending.append(terms)
        if state.step % recipe.run.log_every == 0 or self._validation_due():
            self._report_steps()
        if state.step % recipe.run.save_every == 0 and not self._validation_due():
            self.save()

    def _log_gradient_shares(self, batch: PairBatch, epoch: int) -> None:
        """Log what each term is of the gradient, before the first step of an epoch."""
        shares = gradient_shares(
            self.state.model,
            self.state.objective,
            batch,
            pairs=self._pairs_of_step(),
            chunk_size=self.recipe.optim.chunk_size,
            warmup=epoch < self.recipe.loss.ranking.warmup_epochs,
        )
        if shares and all(map(math.isfinite, shares.values())):  # otherwise the step says so
            step = self.state.step
            self.log.write("gradients", step=step, epoch=epoch + 1, seconds=self._seconds(), values=shares)

    def _pairs_of_step(self) -> int:
        """Pairs of the next step; an epoch's last batch may be smaller."""
        size = self.recipe.data.batch_size
        return min(size, len(self.data.pairs) - self.state.step % self.steps_per_epoch * size)

    def _report_steps(self) -> None:
        """Log the terms of the last step."""
        if not self.pending:
            return
        last = self._last_terms()
        self.pending.clear()
        rate = self.state.optimizer.param_groups[0]["lr"]
        self._log("train", {**last, "learning_rate": rate})
        norm = last.pop("grad_norm")
        self.ui.step(epoch=self._epoch, step=self.state.step, terms=last, learning_rate=rate, grad_norm=norm)

    def _last_terms(self) -> dict[str, float]:
        """Return the terms of the last step, after checking that those of all pending steps are finite.

        Reading a number waits for the device, so it is done here and not in every step.
        """
        names = list(self.pending[-1])
        values = torch.stack([torch.stack([terms[name].float() for name in names]) for terms in self.pending]).cpu()
        for row, finite in enumerate(values.isfinite().tolist()):
            faulty = [name for name, sound in zip(names, finite, strict=True) if not sound]
            if faulty:
                raise self._diverged(self.state.step - len(self.pending) + 1 + row, ", ".join(faulty))
        del self.pending[:-1]
        return dict(zip(names, values[-1].tolist(), strict=True))

    def _diverged(self, step: int, what: str) -> RunError:
        good = self.folder.last if self.folder.last.exists() else None
        return RunError(
            f"step {step}: not finite: {what}",
            (f"the last good checkpoint is {good}; " if good else "nothing was saved yet; ")
            + "try a smaller optim.learning_rate, a longer loss.ranking.warmup_epochs, or optim.grad_clip_norm",
        )

    @property
    def _epoch(self) -> int:
        """Epoch of the last step, counted from 1."""
        return max(1, math.ceil(self.state.step / self.steps_per_epoch))

    def _seconds(self) -> float:
        return time.monotonic() - self.began

    def _log(self, kind: str, values: dict[str, float]) -> None:
        self.log.write(kind, step=self.state.step, epoch=self._epoch, seconds=self._seconds(), values=values)

    def _validation_due(self) -> bool:
        step = self.state.step
        at_end = step % self.steps_per_epoch == 0
        return step > 0 and step != self.state.validated and (at_end or step % self.recipe.validation.every == 0)

    def _validate(self, stop: StopRequest) -> None:
        """Score the dev split, save the state, and save the model if it is the best."""
        state, recipe, dev = self.state, self.recipe, self.data.dev
        vectors = embed_split(
            recipe, state.model, dev, device=self.device, progress=lambda _: self._leave_validation(stop)
        )
        if not all(part.isfinite().all() for side in vectors for part in (side.pooled, side.shared)):
            raise self._diverged(state.step, f"vectors of the split {dev.split}")
        scores = parallel.broadcast(score_vectors(recipe, vectors, dev, device=self.device))
        score = scores[recipe.validation.select_by]
        best = state.best_score is None or score > state.best_score
        state.validated, state.scores = state.step, scores
        if best:
            state.best_score, state.best_step = score, state.step
        self._log("validation", scores)
        self.save()
        if best:
            self._save_best()
        self.ui.validation(epoch=self._epoch, step=state.step, scores=scores, best=best)

    def _leave_validation(self, stop: StopRequest) -> None:
        """Interrupt a validation when asked to stop; resuming repeats it. Several processes complete it."""
        if stop.number is not None and parallel.world_size() == 1:
            self._interrupted(stop.number)

    def _interrupted(self, number: int) -> None:
        self.save()
        raise RunInterrupted(number, "; everything up to here is saved")

    def save(self) -> None:
        """Write last.ckpt, unless what it would hold is not finite."""
        if self.pending:
            self._last_terms()
        faulty = self.state.not_finite()
        if faulty is not None:
            raise self._diverged(self.state.step, faulty)
        self.log.sync()
        self.state.log_bytes = self.log.offset
        training = self.state.training()  # of all processes
        if parallel.rank() == 0:
            save_checkpoint(self.folder.last, self._checkpoint(training=training))

    def _save_best(self) -> None:
        if parallel.rank() == 0:
            save_checkpoint(self.folder.best, self._checkpoint(training=None))

    def _checkpoint(self, *, training: dict[str, Any] | None) -> Checkpoint:
        bert_config = None
        if self.data.language.bert is not None:
            from selfalign_cli.models.bert import bert_config_dict

            bert_config = bert_config_dict(self.data.language.bert)
        return Checkpoint(
            recipe=self.recipe,
            feature_dim=self.data.pairs.file.feature_dim,
            text=self.data.language.captions.to_dict(),
            bert_config=bert_config,
            data={
                "features": str(self.data.pairs.file.path.resolve()),
                "content_hash": self.data.pairs.file.content_hash,
                "extractor": self.data.pairs.file.extractor,
                "text_hash": self.data.language.captions.content_hash,
            },
            model=self.state.model.state_dict(),
            epoch=self._epoch,
            step=self.state.step,
            scores=self.state.scores,
            training=training,
        )

    def _finish(self) -> dict[str, Any]:
        summary = {
            "steps": self.state.step,
            "epochs": self.recipe.optim.epochs,
            "seconds": self._seconds(),
            "best_score": self.state.best_score,
            "best_step": self.state.best_step,
            "best": str(self.folder.best),
            "last": str(self.folder.last),
        }
        self.ui.finish(summary)
        return summary
