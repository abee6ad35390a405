"""The options of the published programs (their `argparse.Namespace`), said as a recipe with `compat: published`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfalign_cli.errors import CheckpointError
from selfalign_cli.recipe.load import recipe_from_dict
from selfalign_cli.recipe.schema import Recipe


def recipe_from_published(
    options: Mapping[str, Any],
    *,
    selfalign: bool,
    captioner: bool = False,
    features: str = "unknown",
    run: str = "runs/imported",
) -> Recipe:
    """Translate published options; CAMERA is told from VSRN by its number of heads.

    Args:
        options: name to value, as in the `opt` of a published checkpoint.
        selfalign: whether the checkpoint has the SelfAlign parts.
        captioner: build the caption generator too (training only; published checkpoints do not hold it).
        features, run: paths for the recipe.

    Raises:
        CheckpointError: an option that is needed is missing.
    """
    camera = "head" in options
    try:
        model, loss = _camera(options) if camera else _vsrn(options, captioner)
        recipe = {
            "compat": "published",
            "run": {"dir": run},
            "data": {
                "features": features,
                "batch_size": options["batch_size"],
                **({"max_words": options["max_words"]} if camera else {"vocab": "in the checkpoint"}),
            },
            "model": model,
            "selfalign": {"enabled": selfalign, "relu": bool(options.get("ctx_fc_relu", options.get("ctx_relu", 1)))},
            "loss": {
                "ranking": {
                    "margin": options["margin"],
                    "hardest_negative": bool(options.get("max_violation", True)),
                    "similarity": "order" if options.get("measure") == "order" else "dot",
                },
                "concept": {
                    "enabled": selfalign,
                    "prototypes": options.get("local_clu_num", 1024),
                    "frozen_epochs": 1 if camera else 0,
                },
                "context": {
                    "enabled": selfalign,
                    "image_temperature": options.get("v5_tao", 0.7),
                    "text_temperature": options.get("v6_tao", 0.7),
                    "negatives": options.get("neg_num", 512),
                },
                **loss,
            },
            "optim": {
                "learning_rate": options["learning_rate"],
                "epochs": options["num_epochs"],
                "decay_every": options["lr_update"],
                "grad_clip_norm": options["grad_clip"],
            },
            "validation": {"batch_size": options["batch_size"]},
        }
    except KeyError as fault:
        raise CheckpointError(f"the published options lack {fault.args[0]!r}") from fault
    return recipe_from_dict(recipe, "the published options")


def _vsrn(options: Mapping[str, Any], captioner: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    flickr = options["data_name"] == "f30k_precomp"
    model = {
        "name": "vsrn",
        "embed_dim": options["embed_size"],
        "word_dim": options["word_dim"],
        "normalize_regions": not flickr,
        "final_batchnorm": flickr,
        "absolute": bool(options.get("use_abs", False)),
        "normalize_image": not options.get("no_imgnorm", False),
    }
    captioning = {
        "hidden_dim": options["dim_hidden"],
        "word_dim": options["dim_word"],
        "max_len": options["max_len"],
        "dropout": options["input_dropout_p"],
    }
    return model, {"captioning": captioning} if captioner else {}


def _camera(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    model = {
        "name": "camera",
        "embed_dim": options["embed_size"],
        "heads": options["head"],
        "views": options["smry_k"],
        "dropout": options["drop"],
        "bert": "in the checkpoint",
    }
    return model, {"diversity": {"weight": options["smry_lamda"]}}
