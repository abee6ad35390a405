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

VSE_INFTY_DECAY = {"vse_infty": 1e-2, "vse_infty_bert": 1e-4}
"""Weight decay of VSE∞'s region models, which no option records (G5)."""
BERT_FACTOR = 0.1  # of the step size, for VSE∞'s BERT


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
    host_name: str | None = None,
    positions: int | None = None,
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
        host_name: the host; None for the one that the options are of.
        positions: length of BERT's position table, which limits the captions of VSE∞ (G16).

    Raises:
        CheckpointError: an option that decides about the scores is missing, or has a value that cannot be.
    """
    host = HOSTS[host_name or host_of_options(options)]
    if host.name in VSE_INFTY_DECAY:
        return _checked(_vse_infty(options, host, selfalign, tokenizer, lowercase, positions, features, run))
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
    return _checked(recipe)


def _checked(recipe: dict[str, Any]) -> Recipe:
    try:
        return recipe_from_dict(recipe, "the recipe made of the published options")
    except RecipeError as fault:
        raise CheckpointError(fault.message, fault.hint) from fault


def host_of_options(options: Mapping[str, Any]) -> Literal["vsrn", "camera", "vse_infty"]:
    """The host of published options: only CAMERA's say a number of heads, only VSE∞'s a kind of image encoder."""
    if "head" in options:
        return "camera"
    return "vse_infty" if "precomp_enc_type" in options else "vsrn"


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


def _vse_infty(
    options: Mapping[str, Any],
    host: Host,
    selfalign: bool,
    tokenizer: str,
    lowercase: str,
    positions: int | None,
    features: str,
    run: str,
) -> dict[str, Any]:
    """VSE∞'s options, any of which may be missing: its released scripts, then its defaults, stand for them."""
    words = host.captions == "words"
    rate, epochs = options.get("learning_rate", 5e-4), options.get("num_epochs", 25)
    batch = options.get("batch_size", 128)
    text = {"vocab": IN_CHECKPOINT, "tokenizer": tokenizer, "lowercase": lowercase}
    return {
        "compat": "published",
        "run": {"dir": run},
        "data": {
            "features": features,
            "batch_size": batch,
            "drop_last": True,
            "drop_regions": 0.2,
            "alter_words": 0.2,
            **(text if words else {"max_words": positions or 512}),
        },
        "model": {
            "name": host.name,
            "embed_dim": options.get("embed_size", 1024),
            "normalize_image": not options.get("no_imgnorm", False),
            "normalize_text": not options.get("no_txtnorm", False),
            **({"word_dim": options.get("word_dim", 300)} if words else {"bert": IN_CHECKPOINT}),
        },
        "selfalign": {"enabled": selfalign},
        "loss": {
            "ranking": {
                "warmup_epochs": min(epochs, options.get("vse_mean_warmup_epochs", 1)),
                "warmup_mode": "sum",
                **_stated(options, margin="margin"),
            },
            "concept": {"enabled": selfalign},
            "context": {"enabled": selfalign},
        },
        "optim": {
            "learning_rate": rate,
            **({} if words else {"bert_learning_rate": rate * BERT_FACTOR}),
            "epochs": epochs,
            "decay_every": options.get("lr_update", 15),
            "weight_decay": VSE_INFTY_DECAY[host.name],
            **_stated(options, grad_clip_norm="grad_clip"),
        },
        "validation": {"batch_size": batch},
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
