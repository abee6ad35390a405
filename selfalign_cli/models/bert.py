"""Token encoders: BERT from a folder of today, from a folder of 2019, from the hub, or from a checkpoint's config.

Whatever the source, the result is a module of `transformers` that is called with `input_ids` and `attention_mask`,
answers with `last_hidden_state`, and has a `config`. `transformers` takes seconds to import, hence inside functions.
"""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from selfalign_cli.bert_folder import HUB_MARK, hub_name, local_folder, quiet_transformers
from selfalign_cli.errors import LIBRARY_ERRORS, CheckpointError, RecipeError, blaming, reason_of

CURRENT_CONFIG = "config.json"
OLDER_CONFIG = "bert_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
SHARDED = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
UNREAD = ("pooler.",)  # parts of BERT that no token state depends on; they may be missing
OLDER_ENDINGS = ((".gamma", ".weight"), (".beta", ".bias"))


def load_bert(source: str) -> nn.Module:
    """Load a token encoder with its weights, in single precision.

    Args:
        source: a folder (the layout that `transformers` writes today, or the older `bert_config.json` +
            `pytorch_model.bin`), `hub:owner/name`, or a bare hub name. Only a hub model is ever downloaded.

    Raises:
        DataError: there is no such folder.
        CheckpointError: the folder lacks files, or its weights are damaged, incomplete or do not fit its config.
    """
    folder = local_folder(source)
    if folder is None:
        return _load_current(hub_name(source), local=False)
    if _names_model_type(folder / CURRENT_CONFIG) and any((folder / name).exists() for name in (*WEIGHTS, *SHARDED)):
        return _load_current(str(folder), local=True)
    config = next((folder / name for name in (OLDER_CONFIG, CURRENT_CONFIG) if (folder / name).exists()), None)
    weights = next((folder / name for name in WEIGHTS if (folder / name).exists()), None)
    if config is None or weights is None:
        raise _not_a_bert_folder(folder)
    return _load_older(config, weights)


def bert_config_dict(bert: nn.Module) -> dict[str, Any]:
    """Describe a token encoder in JSON types, so that `bert_from_config` can build it again without its folder."""
    config: dict[str, Any] = json.loads(json.dumps(bert.config.to_dict()))  # type: ignore[operator, union-attr]
    config.pop("_name_or_path", None)  # a path of the training machine
    return config


def bert_from_config(config: Mapping[str, Any]) -> nn.Module:
    """Build a token encoder with fresh weights.

    Args:
        config: what `bert_config_dict` gave; without `model_type` it describes a BERT.

    Raises:
        CheckpointError: `transformers` cannot build such a model.
    """
    with quiet_transformers():
        from transformers import AutoConfig, AutoModel

        try:
            settings = _without_kernels(AutoConfig.for_model(**{"model_type": "bert", **config}))
            bert: nn.Module = AutoModel.from_config(settings)
        except Exception as fault:  # its configs and models raise whatever they like
            raise CheckpointError(f"this BERT configuration cannot be built: {reason_of(fault)}") from fault
    return _require_token_states(bert, "this configuration")


def seeded_bert(config: Mapping[str, Any], *, seed: int) -> nn.Module:
    """Build a token encoder whose random weights depend on nothing but its config and the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone
        return bert_from_config(config)


def check_limits(bert: nn.Module, *, tokens: int, max_words: int | None, source: str) -> None:
    """Refuse a tokenizer with more tokens than BERT has vectors for, or captions longer than it has positions for.

    Args:
        bert: the token encoder.
        tokens: number of tokens of the tokenizer.
        max_words: longest caption in tokens.
        source: where BERT came from, for the message.

    Raises:
        CheckpointError: there are too many tokens.
        RecipeError: `max_words` is too large.
    """
    longest = longest_caption(bert)
    if longest is not None and max_words is not None and max_words > longest:
        raise RecipeError(
            f"data.max_words: {max_words} is more than the {longest} positions of the BERT in {source}",
            f"set data.max_words: {longest}",
        )
    vectors: int = bert.config.vocab_size  # type: ignore[union-attr, assignment]
    if tokens > vectors:
        raise CheckpointError(
            f"{source}: the tokenizer has {tokens} tokens, and BERT has vectors for {vectors}",
            "take tokenizer and weights from the same folder",
        )


def longest_caption(bert: nn.Module) -> int | None:
    """Number of positions a token encoder has; None when it needs none."""
    longest = getattr(bert.config, "max_position_embeddings", None)
    return longest if isinstance(longest, int) and longest > 0 else None


def encoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of an older BERT file to today's names, and leave its other heads out.

    Older files may put `bert.` before the encoder's names, hold heads beside it (`cls.*`), and call the weight and
    bias of a layer norm gamma and beta.
    """
    prefix = "bert." if any(name.startswith("bert.") for name in state) else ""
    renamed = {}
    for name, value in state.items():
        name = name.removeprefix(prefix) if name.startswith(prefix) else ""
        if not name.startswith(("embeddings.", "encoder.", "pooler.")) or name == "embeddings.position_ids":
            continue
        for theirs, ours in OLDER_ENDINGS:
            name = name.removesuffix(theirs) + ours if name.endswith(theirs) else name
        renamed[name] = value
    return renamed


def _load_current(name: str, *, local: bool) -> nn.Module:
    with quiet_transformers():
        from transformers import AutoConfig, AutoModel

        try:
            settings = AutoConfig.from_pretrained(name, local_files_only=local, trust_remote_code=False)
            bert, found = AutoModel.from_pretrained(
                name,
                config=_without_kernels(settings),
                local_files_only=local,
                trust_remote_code=False,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except Exception as fault:  # transformers, safetensors, torch and the hub client each have their own
            hint = None if local else f"{name} is no folder here, so the hub was asked; a folder may be given instead"
            raise CheckpointError(f"cannot load BERT from {name}: {reason_of(fault)}", hint) from fault
    faults = [f"missing weight {key}" for key in found["missing_keys"] if not key.startswith(UNREAD)]
    faults += [
        f"{key} has shape {tuple(theirs)}; the config needs {tuple(ours)}"
        for key, theirs, ours in found["mismatched_keys"]
    ]
    faults += [f"{key} has no place in the config" for key in found["unexpected_keys"] if _is_encoder_name(key)]
    _raise_unfit(name, sorted(faults))
    return _require_token_states(bert, name)


def _without_kernels(config: Any) -> Any:
    """A configuration that cannot name a program of the hub to compute attention with; the default is torch's own."""
    config._attn_implementation = None
    return config


def _load_older(config_path: Path, weights: Path) -> nn.Module:
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise CheckpointError(f"{config_path} cannot be read: {reason_of(fault)}") from fault
    if not isinstance(config, dict):
        raise CheckpointError(f"{config_path} holds a {type(config).__name__}; expected BERT's sizes by name")
    bert = bert_from_config(config)
    state = encoder_state(_read_weights(weights))
    own = bert.state_dict()
    faults = [f"missing weight {name}" for name in own if name not in state and not name.startswith(UNREAD)]
    faults += [f"{name} has no place in {config_path.name}" for name in state if name not in own]
    faults += [
        f"{name} has shape {tuple(value.shape)}; {config_path.name} needs {tuple(own[name].shape)}"
        for name, value in state.items()
        if name in own and value.shape != own[name].shape
    ]
    _raise_unfit(str(weights), faults)
    bert.load_state_dict(state, strict=False)
    return bert.eval()


def _read_weights(path: Path) -> dict[str, Tensor]:
    faults = (*LIBRARY_ERRORS, SafetensorError)
    try:
        with (
            blaming(f"{path} is damaged or holds no weights", error=CheckpointError, catch=faults),
            warnings.catch_warnings(),  # torch's, about pickles that only damage can bring about
        ):
            warnings.simplefilter("ignore")
            state = (
                load_file(path)
                if path.suffix == ".safetensors"
                else torch.load(path, map_location="cpu", weights_only=True)
            )
    except pickle.UnpicklingError as fault:
        raise CheckpointError(f"{path} holds Python objects beside weights; nothing of it was run") from fault
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no weights; expected tensors by name")
    return state


def _require_token_states(bert: nn.Module, source: str) -> nn.Module:
    """Refuse models that do not turn token ids alone into one state per token."""
    config: Any = bert.config
    if getattr(config, "is_encoder_decoder", False) or not isinstance(getattr(config, "hidden_size", None), int):
        raise CheckpointError(
            f"{source} holds a {config.model_type} model, which does not give one state per token",
            "choose an encoder like BERT",
        )
    return bert


def _raise_unfit(source: str, faults: list[str], *, shown: int = 20) -> None:
    if faults:
        more = [f"… and {len(faults) - shown} more"] if len(faults) > shown else []
        lines = "".join(f"\n  {line}" for line in [*faults[:shown], *more])
        raise CheckpointError(f"the weights of {source} do not make a whole BERT:{lines}")


def _is_encoder_name(name: str) -> bool:
    return any(f".{part}." in f".{name}" for part in ("embeddings", "encoder")) and not name.endswith("position_ids")


def _names_model_type(path: Path) -> bool:
    try:
        return "model_type" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _not_a_bert_folder(folder: Path) -> CheckpointError:
    def missing(*alternatives: tuple[str, ...]) -> str:
        lacking = [" or ".join(names) for names in alternatives if not any((folder / name).exists() for name in names)]
        return ", ".join(lacking) or "nothing"

    current = missing((CURRENT_CONFIG,), WEIGHTS, ("tokenizer.json", "vocab.txt"))
    older = missing((OLDER_CONFIG,), WEIGHTS[1:], ("vocab.txt",))
    hint = f"to take a model from the Hugging Face hub, write {HUB_MARK}owner/name"
    if any(folder.glob("*.ckpt.*")):
        hint = "bert_model.ckpt.* are TensorFlow's weights; take the PyTorch release of the same model"
    return CheckpointError(
        f"{folder} is not a complete BERT folder\n"
        f"  as transformers writes it, missing: {current}\n"
        f"  in the older layout, missing: {older}",
        hint,
    )
