"""How long commands take to start, in whole processes: against the import that `--help` cannot do without, and the
imports of `eval` against all that it does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from selfalign_cli.assembly.checkpoint import Checkpoint, save_checkpoint
from selfalign_cli.assembly.language import language_of_recipe
from selfalign_cli.bench.machine import Rates
from selfalign_cli.bench.measure import Setting, Work, alternate
from selfalign_cli.bench.report import Line
from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.text.captions import read_vocabulary_captions
from selfalign_cli.data.text.vocab import build_vocabulary
from selfalign_cli.demo.scenes import make_scenes
from selfalign_cli.errors import RunError
from selfalign_cli.recipe.load import load_recipe
from selfalign_cli.recipe.shipped import shipped_recipe
from selfalign_cli.training.train_state import begin_state

SIZES = {"tiny": 24, "small": 2000, "published": 2000}
"""Pictures of the train split of the scenes; their test split is what `eval` scores."""
RUN = "from selfalign_cli.cli.app import main; main()"
NAMES = f"""
import sys
try:
    {RUN}
except SystemExit:
    pass
loaded = [name for name, module in sys.modules.items() if getattr(getattr(module, "__spec__", None), "origin", None)]
print("\\n".join(name for name in loaded if name != "__main__"), file=sys.stderr)
"""
"""Python that runs a command, and prints what it has imported."""
IMPORT = "import importlib, sys\nfor name in sys.argv[1].split():\n    importlib.import_module(name)"


def run(
    name: str, setting: Setting, rates: Rates, notify: Callable[[str], None]
) -> tuple[dict[str, object], list[Line]]:
    """Measure at a size of `SIZES`.

    Returns:
        The number of pictures, and a line for `--help`, for `eval`, and for what `eval` imports.
    """
    with TemporaryDirectory(prefix="selfalign-bench-") as folder:
        notify("scenes and a checkpoint")
        checkpoint = untrained(Path(folder), SIZES[name])
        scoring = ["eval", str(checkpoint), "--device", "cpu"]
        notify("processes")
        loaded = _python("-c", NAMES, *scoring, threads=setting.threads).stderr.splitlines()
        variants = {
            "help": ("-c", RUN, "--help"),
            "typer": ("-c", "import typer"),
            "eval": ("-c", RUN, *scoring),
            "imports of eval": ("-c", IMPORT, " ".join(name for name in loaded if "." in name or name.isidentifier())),
            "torch": ("-c", "import torch"),
        }
        seconds = alternate({name: _work(arguments, setting) for name, arguments in variants.items()}, setting)
    share = seconds["imports of eval"] / seconds["eval"]
    note = "floor: the process that imports torch and nothing else; all of the process"
    return {"train_images": SIZES[name]}, [
        Line("selfalign --help", seconds["help"], seconds["typer"], note="floor: import typer"),
        Line("selfalign eval, scenes", seconds["eval"], numbers={"import_share": share}, note="all of the process"),
        Line("its imports", seconds["imports of eval"], seconds["torch"], note=note),
    ]


def untrained(folder: Path, images: int) -> Path:
    """A checkpoint of the scenes recipe with the initial weights of training, and the data it names."""
    features, vocab = folder / "scenes.h5", folder / "scenes_vocab.json"
    make_scenes(folder / "scenes", train_images=images)
    convert_to_feature_file([folder / "scenes"], features)
    build_vocabulary(read_vocabulary_captions(features), min_count=1).save(vocab)
    overrides = [f"data.features={features}", f"data.vocab={vocab}"]
    recipe = load_recipe(shipped_recipe("vsrn_scenes.yaml"), overrides)
    language, file = language_of_recipe(recipe), FeatureFile(features)
    state = begin_state(recipe, language, file.feature_dim, torch.device("cpu"))
    path = folder / "untrained.ckpt"
    checkpoint = Checkpoint(
        recipe=recipe,
        feature_dim=file.feature_dim,
        text=language.captions.to_dict(),
        bert_config=None,
        data={"features": str(features), "content_hash": file.content_hash},
        model=state.model.state_dict(),
        epoch=0,
        step=0,
        scores={},
        training=None,
    )
    save_checkpoint(path, checkpoint)
    return path


def _work(arguments: Sequence[str], setting: Setting) -> Work:
    return lambda: _python(*arguments, threads=setting.threads)


def _python(*arguments: str, threads: int) -> subprocess.CompletedProcess[str]:
    """Run a Python process to its end."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RunError(f"a process that was to be timed failed: {done.stderr.strip()[-200:]}")
    return done
