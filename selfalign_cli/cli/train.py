"""`selfalign train`."""

from __future__ import annotations

from selfalign_cli.cli.options import DeviceOpt, RecipeArg, ResumeOpt, SetOpt
from selfalign_cli.cli.training_view import TrainingView
from selfalign_cli.signals import no_lost_interrupt


def train(recipe: RecipeArg, overrides: SetOpt = None, resume: ResumeOpt = False, device: DeviceOpt = "auto") -> None:
    """Train the model that a recipe describes.

    Writes best.ckpt, last.ckpt, metrics.jsonl and the resolved recipe into run.dir. Ctrl-C saves and exits 130;
    --resume continues as if nothing had happened.

    Example: selfalign train recipes/vsrn_f30k.yaml --set optim.epochs=3
    """
    from selfalign_cli.recipe.load import load_recipe

    checked = load_recipe(recipe, overrides or [])
    with no_lost_interrupt():
        from selfalign_cli.training.train import train_recipe

    with TrainingView() as view:
        train_recipe(checked, resume=resume, device=device, ui=view)
