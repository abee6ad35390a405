"""The demo: generate the data, train, export and score every arm with every seed, and compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from selfalign_cli.assembly.checkpoint import load_checkpoint
from selfalign_cli.data.atomic import replacing
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.demo.arms import ABLATIONS, ARMS, OWN_ARMS, Arm, arm_recipe
from selfalign_cli.demo.result import ArmResult, DemoResult, training_seconds
from selfalign_cli.demo.world import World, claim_folder, make_world
from selfalign_cli.errors import RecipeError
from selfalign_cli.metrics.cutoffs import RECALLS
from selfalign_cli.metrics.report import RetrievalReport
from selfalign_cli.recipe.hashes import recipe_hash
from selfalign_cli.recipe.load import load_recipe, with_widths
from selfalign_cli.recipe.schema import Recipe
from selfalign_cli.scoring.embed import EncodingOptions
from selfalign_cli.scoring.evaluate import score_files
from selfalign_cli.scoring.export import export_embeddings
from selfalign_cli.signals import RunInterrupted
from selfalign_cli.training.run_folder import RunFolder, versions
from selfalign_cli.training.train import train_recipe
from selfalign_cli.training.trainer import TrainingView

FIRST_SEED = 1024
DEVICE = "cpu"
"""Always: small models gain nothing from a GPU, and the same seed should give the same numbers wherever possible."""


class DemoView(Protocol):
    """Displays the progress of a demo; only `cli` prints."""

    def stage(self, text: str) -> None:
        """Announce a stage."""

    def counting(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Yield a function to call with the number of items done since its last call."""

    def training(self) -> AbstractContextManager[TrainingView]:
        """Yield the view of one training run."""


@dataclass(frozen=True)
class Demo:
    """Settings of a demo.

    Attributes:
        out: output folder; one with the same demo in it is continued.
        model: the host.
        train_images: pictures of the train split.
        epochs: epochs of the SelfAlign arm, the others in proportion; None for the shipped recipes as they are.
        seeds: number of model seeds.
        ablations: also train SelfAlign with parts disabled.
        pictures: folder of a user's own pictures, in place of scenes.
        captions: their captions; None to look for them in that folder.
    """

    out: Path
    model: str = "vsrn"
    train_images: int = 2000
    epochs: int | None = None
    seeds: int = 1
    ablations: bool = False
    pictures: Path | None = None
    captions: Path | None = None

    @property
    def data(self) -> str:
        """Which of the shipped recipes are trained, by the middle of their names."""
        return "scenes" if self.pictures is None else "own"

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The compared arms, in the order of the tables."""
        arms = ARMS if self.pictures is None else OWN_ARMS
        return (*arms, *ABLATIONS) if self.ablations else arms

    def world(self, view: DemoView) -> World:
        """Claim the folder and make the data; what is there already is kept."""
        folder, settings = self.out / "data", {"model": self.model, "epochs": self.epochs}
        if self.pictures is None:
            claim_folder(self.out, {**settings, "train_images": self.train_images})
            return make_world(folder, model=self.model, train_images=self.train_images, view=view)
        from selfalign_cli.demo.own import backbone_of_demo, find_captions, make_own_world

        captions = self.captions or find_captions(self.pictures)
        named = {"pictures": str(self.pictures.resolve()), "captions": captions and str(captions.resolve())}
        claim_folder(self.out, {**settings, **named, "backbone": backbone_of_demo()})
        return make_own_world(folder, self.pictures, captions, model=self.model, view=view)


def run_demo(demo: Demo, view: DemoView) -> DemoResult:
    """Run a demo, or the rest of it: arms that are trained already are only scored again.

    Args:
        demo: its settings.
        view: displays the progress.

    Returns:
        Scores, times and differences, also written to `results/demo.json`; of pictures without captions, no results.

    Raises:
        SelfAlignError: the folder is used otherwise, the disk is full, or the run was interrupted.
    """
    world = demo.world(view)
    if world.text is None:
        return DemoResult(demo.out, demo.model, (), (), versions(), demo.data)
    width, results = FeatureFile(world.features).feature_dim, []
    for seed in range(FIRST_SEED, FIRST_SEED + demo.seeds):
        for number, arm in enumerate(demo.arms, start=1):
            stated = arm_recipe(
                Arm(arm.name, arm.label, arm.ending, (*world.overrides, *arm.overrides)),
                demo.model,
                seed=seed,
                folder=demo.out / "runs" / f"{arm.name}-{seed}",
                features=world.features,
                text=world.text,
                epochs=demo.epochs,
                data=demo.data,
            )
            recipe, _ = with_widths(stated, width)
            view.stage(f"{arm.label}, seed {seed}: arm {number} of {len(demo.arms)}, {recipe.optim.epochs} epochs")
            _train(recipe, view)
            results.append(_score(demo.out, arm, recipe, world))
    result = DemoResult(demo.out, demo.model, demo.arms, tuple(results), versions(), demo.data)
    with replacing(demo.out / "results" / "demo.json") as temporary:
        temporary.write_text(json.dumps(result.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return result


def _train(recipe: Recipe, view: DemoView) -> None:
    """Train an arm, or resume its training."""
    folder = RunFolder(Path(recipe.run.dir))
    kept = folder.path / "recipe.yaml"
    if folder.last.exists() and kept.exists() and recipe_hash(load_recipe(kept)) != recipe_hash(recipe):
        raise RecipeError(
            f"{folder.path} was trained by another recipe than this release ships",
            "choose another folder with --out, or remove this one",
        )
    try:
        with view.training() as ui:
            train_recipe(recipe, resume=folder.last.exists(), device=DEVICE, ui=ui)
    except RunInterrupted as stop:
        stop.hint = "the same command goes on from here"
        raise


def _score(out: Path, arm: Arm, recipe: Recipe, world: World) -> ArmResult:
    """Export the embeddings of a trained arm on the test split, and score them."""
    folder = RunFolder(Path(recipe.run.dir))
    name = folder.path.name
    embeddings, details = out / "embeddings" / f"{name}.h5", out / "results" / f"{name}.json"
    embeddings.parent.mkdir(exist_ok=True)
    options = EncodingOptions(data=world.features)
    export_embeddings(folder.best, embeddings, options, device=DEVICE, overwrite=True)
    report = score_files([embeddings], device=DEVICE).report
    with replacing(details) as temporary:
        temporary.write_text(json.dumps(report.to_json(ranks=True)) + "\n", encoding="utf-8")
    best = load_checkpoint(folder.best)
    return ArmResult(
        arm=arm,
        seed=recipe.run.seed,
        epochs=recipe.optim.epochs,
        best_epoch=best.epoch,
        dev_rsum=best.scores["rsum"],
        seconds=training_seconds(folder.path / "metrics.jsonl"),
        scores=scores_of(report),
        recipe=recipe_hash(recipe),
        signature=report.signature,
        checkpoint=str(folder.best.relative_to(out)),
        embeddings=str(embeddings.relative_to(out)),
    )


def scores_of(report: RetrievalReport) -> dict[str, float]:
    """All recalls and `rsum`, in percent, by the names that `selfalign compare` uses."""
    directions = {"i2t": report.i2t, "t2i": report.t2i}
    recalls = {f"{direction}.{name}": scores[name] for direction, scores in directions.items() for name in RECALLS}
    return {**recalls, "rsum": report.rsum}
