"""The options of the published programs (their `argparse.Namespace`) as a recipe with `compat: published`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from selfalign_cli.errors import CheckpointError, RecipeError
from selfalign_cli.recipe.hosts import HOSTS, Host
from selfalign_cli.recipe.load import recipe_from_dict
from selfalign_cli.recipe.schema import Recipe

FLICKR = "f30k_precomp"
"""The `data_name` with a final batch normalisation and without normalised regions (MODELS.md 2.1)."""

IN_CHECKPOINT = "in the checkpoint"

FROZEN_EPOCHS = {"vsrn": 0, "camera": 1}
"""Epochs in which the published programs leave the prototypes alone (M9)."""


def recipe_from_published(
    options: Mapping[str, Any],
    *,
    selfalign: bool,
    captioner: bool = False,
    attention_layers: int = 1,
    tokenizer: str = "auto",
    lowercase: str = "ascii",
    features: str = "unknown",
    run: str = "runs/imported",
) -> Recipe:
    """Translate published options.

    Options that only training reads may be missing; the recipe then has its own default.

    Args:
        options: name to value, as in the `opt` of a published checkpoint.
        selfalign: whether the checkpoint has the SelfAlign parts.
        captioner: build the caption generator too (training only; published checkpoints do not hold it).
        attention_layers: CAMERA's, which is not among the published options.
        tokenizer, lowercase: how VSRN's captions are read, which are not among them either.
        features, run: paths for the recipe.

    Raises:
        CheckpointError: an option that decides about the scores is missing, or has a value that cannot be.
    """
    host = HOSTS[host_of_options(options)]
    try:
        model = _camera(options, attention_layers) if "head" in options else _vsrn(options)
        recipe = {
            "compat": "published",
            "run": {"dir": run},
            "data": {
                "features": features,
                "batch_size": options["batch_size"],
                **(
                    {"max_words": options["max_words"]}
                    if host.captions == "pieces"
                    else {"vocab": IN_CHECKPOINT, "tokenizer": tokenizer, "lowercase": lowercase}
                ),
            },
            "model": model,
            "selfalign": {"enabled": selfalign, "relu": bool(options.get("ctx_fc_relu", options.get("ctx_relu", 1)))},
            "loss": _loss(options, host, selfalign=selfalign, captioner=captioner),
            "optim": _stated(
                options,
                learning_rate="learning_rate",
                epochs="num_epochs",
                decay_every="lr_update",
                decay_factor="lr_decay_gamma",
                grad_clip_norm="grad_clip",
            ),
            "validation": {"batch_size": options["batch_size"]},
        }
    except KeyError as fault:
        raise CheckpointError(f"the published options lack {fault.args[0]!r}") from fault
    try:
        return recipe_from_dict(recipe, "the recipe made of the published options")
    except RecipeError as fault:
        raise CheckpointError(fault.message, fault.hint) from fault


def host_of_options(options: Mapping[str, Any]) -> Literal["vsrn", "camera"]:
    """The host of published options: only CAMERA's say a number of heads."""
    return "camera" if "head" in options else "vsrn"


def is_flickr(options: Mapping[str, Any]) -> bool:
    """Whether the options name the data set that the published programs treat differently."""
    return bool(options.get("data_name") == FLICKR)


def _stated(options: Mapping[str, Any], **keys: str) -> dict[str, Any]:
    """Our key → value, for those published options that are there."""
    return {ours: options[theirs] for ours, theirs in keys.items() if theirs in options}


def _vsrn(options: Mapping[str, Any]) -> dict[str, Any]:
    options["data_name"]  # decides about the model, so it must be there
    return {
        "name": "vsrn",
        "embed_dim": options["embed_size"],
        "word_dim": options["word_dim"],
        "normalize_regions": not is_flickr(options),
        "final_batchnorm": is_flickr(options),
        "absolute": bool(options.get("use_abs", False)),
        "normalize_image": not options.get("no_imgnorm", False),
    }


def _camera(options: Mapping[str, Any], attention_layers: int) -> dict[str, Any]:
    return {
        "name": "camera",
        "embed_dim": options["embed_size"],
        "heads": options["head"],
        "views": options["smry_k"],
        "attention_layers": attention_layers,
        "bert": IN_CHECKPOINT,
        **_stated(options, dropout="drop"),
    }


def _loss(options: Mapping[str, Any], host: Host, *, selfalign: bool, captioner: bool) -> dict[str, Any]:
    loss: dict[str, Any] = {
        "ranking": {
            "hardest_negative": bool(options.get("max_violation", True)),
            "similarity": "order" if options.get("measure") == "order" else "dot",
            **_stated(options, margin="margin"),
        },
        "concept": {
            "enabled": selfalign,
            "frozen_epochs": FROZEN_EPOCHS[host.name],
            **_stated(options, prototypes="local_clu_num"),
        },
        "context": {
            "enabled": selfalign,
            **_stated(options, image_temperature="v5_tao", text_temperature="v6_tao", negatives="neg_num"),
        },
    }
    if host.has("diversity"):
        loss["diversity"] = _stated(options, weight="smry_lamda")
    if host.has("captioning") and captioner:
        loss["captioning"] = _stated(
            options, hidden_dim="dim_hidden", word_dim="dim_word", max_len="max_len", dropout="input_dropout_p"
        )
    return loss
