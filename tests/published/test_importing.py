"""import-checkpoint on small files in the published layout: what it makes, and its errors."""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import pytest
import torch
from support.published_files import (
    CAMERA_OPTIONS,
    FEATURE_DIM,
    VSRN_OPTIONS,
    WORDS,
    import_content,
    published_content,
    published_model,
    refused_content,
    write_bert_folder,
    write_checkpoint,
    write_vocabulary,
)

from selfalign_cli.assembly.checkpoint import load_checkpoint, save_checkpoint
from selfalign_cli.assembly.language import language_of_checkpoint
from selfalign_cli.assembly.retriever import Retriever
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.data.features.writer import write_feature_file
from selfalign_cli.data.text.vocab import build_vocabulary
from selfalign_cli.errors import CheckpointError, DataError, SelfAlignError
from selfalign_cli.published.importing import ImportSources, import_checkpoint
from selfalign_cli.scoring.evaluate import score_files

HOSTS = {"vsrn": VSRN_OPTIONS, "camera": CAMERA_OPTIONS}


@pytest.fixture
def sources(tmp_path):
    """Everything that either host needs."""
    return {
        "vsrn": ImportSources(vocab=write_vocabulary(tmp_path / "vocab.pkl")),
        "camera": ImportSources(bert=write_bert_folder(tmp_path / "bert")),
    }


def write_features(path, *, width=FEATURE_DIM, boxes=False):
    draw = np.random.default_rng(0)
    records = []
    for row in range(3):
        corners = np.array([[0, 0, 5, 6], [1, 2, 8, 9], [0, 3, 9, 9]], np.float32) if boxes else None
        features = draw.normal(size=(3, width)).astype(np.float32)
        captions = [f"a {animal} runs ." for animal in ("dog", "cat")][: 1 + row % 2]
        size = (10.0, 10.0) if boxes else None
        records.append(ImageRecord(f"{row}", features, "test", captions, boxes=corners, size=size))
    write_feature_file(path, records, total_images=3, total_regions=9, feature_dim=width)
    return path


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("selfalign", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_every_weight_arrives(tmp_path, sources, host, selfalign, zipped):
    result = import_content(
        tmp_path, published_content(HOSTS[host], selfalign=selfalign), sources[host], zipped=zipped
    )
    found = load_checkpoint(tmp_path / "new.ckpt")
    assert (found.recipe.model.name, found.recipe.selfalign.enabled) == (host, selfalign)
    assert (found.epoch, found.step, found.scores, found.feature_dim) == (3, 30, {"r1+r5": 132.5}, FEATURE_DIM)
    expected = published_model(HOSTS[host], selfalign=selfalign).state_dict()
    model = Retriever.load(tmp_path / "new.ckpt", device="cpu").model.state_dict()
    assert expected.keys() == model.keys()
    assert all(torch.equal(value, model[name]) for name, value in expected.items())
    assert result.notes == []


def test_the_recipe_follows_the_options(tmp_path, sources):
    recipe = import_content(tmp_path, published_content(CAMERA_OPTIONS), sources["camera"]).checkpoint.recipe
    assert recipe.compat == "published"
    assert (recipe.data.max_words, recipe.data.pad_to_max_words, recipe.data.batch_size) == (9, True, 4)
    assert (recipe.optim.learning_rate, recipe.optim.decay_factor, recipe.optim.epochs) == (1e-4, 0.2, 30)
    assert recipe.loss.context.negatives == 512  # neg_num is not among the options
    assert recipe.padding.masked_means is False


@pytest.mark.parametrize(("name", "flickr"), [("f30k_precomp", True), ("coco_precomp", False), ("my_own", False)])
def test_the_data_name_decides_about_the_final_norm(tmp_path, sources, name, flickr):
    content = published_content({**VSRN_OPTIONS, "data_name": name})
    assert any(weight.startswith("bn.") for weight in content["model"][0]) == flickr
    model = import_content(tmp_path, content, sources["vsrn"]).checkpoint.recipe.model
    assert (model.final_batchnorm, model.normalize_regions) == (flickr, not flickr)


@pytest.mark.parametrize(("name", "words"), [("f30k_precomp", "holds none"), ("coco_precomp", "holds one")])
def test_a_data_name_that_the_weights_contradict(tmp_path, sources, name, words):
    other = "coco_precomp" if name == "f30k_precomp" else "f30k_precomp"
    content = published_content({**VSRN_OPTIONS, "data_name": other})
    content["opt"].data_name = name
    message = refused_content(tmp_path, content, sources["vsrn"]).message
    assert repr(name) in message
    assert words in message


def test_options_that_only_training_reads_may_be_missing(tmp_path, sources):
    content = published_content()
    needed = ("data_name", "batch_size", "embed_size", "word_dim", "local_clu_num", "ctx_relu")
    content["opt"] = argparse.Namespace(**{name: VSRN_OPTIONS[name] for name in needed})
    recipe = import_content(tmp_path, content, sources["vsrn"]).checkpoint.recipe
    assert (recipe.loss.ranking.margin, recipe.optim.epochs) == (0.2, 30)


@pytest.mark.parametrize("name", ["data_name", "batch_size", "embed_size", "word_dim"])
def test_options_that_decide_about_scores_are_missed_by_name(tmp_path, sources, name):
    content = published_content()
    delattr(content["opt"], name)
    assert f"the published options lack '{name}'" in refused_content(tmp_path, content, sources["vsrn"]).message


@pytest.mark.parametrize(("name", "value"), [("batch_size", "many"), ("embed_size", -1), ("margin", float("nan"))])
def test_options_that_cannot_be(tmp_path, sources, name, value):
    content = published_content()
    setattr(content["opt"], name, value)
    fault = refused_content(tmp_path, content, sources["vsrn"])
    assert isinstance(fault, CheckpointError)
    assert "has 1 fault" in fault.message or "has 2 faults" in fault.message


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("number", [np.float64(158.3), np.float32(2.5), np.int64(3)])
def test_scores_that_are_numbers_of_numpy(tmp_path, sources, number, zipped):
    content = {**published_content(), "best_rsum": number}
    assert import_content(tmp_path, content, sources["vsrn"], zipped=zipped).checkpoint.scores == {
        "r1+r5": number.item()
    }


@pytest.mark.parametrize("number", [None, "high", float("nan")])
def test_scores_that_are_none(tmp_path, sources, number):
    content = {**published_content(), "best_rsum": number}
    result = import_content(tmp_path, content, sources["vsrn"])
    assert result.checkpoint.scores == {}
    assert "not in the file" in result.summary.values()


def test_half_precision_and_views_become_plain_tensors(tmp_path, sources):
    content = published_content()
    whole = torch.randn(1000, FEATURE_DIM)
    content["model"][0]["fc.weight"] = whole[:8]
    content["model"][1]["embed.weight"] = content["model"][1]["embed.weight"].half()
    import_content(tmp_path, content, sources["vsrn"])
    found = load_checkpoint(tmp_path / "new.ckpt").model
    assert found["image.fc.weight"].untyped_storage().nbytes() == 8 * FEATURE_DIM * 4
    assert torch.equal(found["image.fc.weight"], whole[:8])
    assert found["text.embed.weight"].dtype == torch.float32


def test_names_of_data_parallel_models(tmp_path, sources):
    content = published_content()
    content["model"] = [{f"module.{name}": value for name, value in state.items()} for state in content["model"]]
    assert import_content(tmp_path, content, sources["vsrn"]).checkpoint.model


def test_counters_that_old_releases_did_not_keep(tmp_path, sources):
    content = published_content()
    for state in content["model"]:
        for name in [name for name in state if name.endswith("num_batches_tracked")]:
            del state[name]
    result = import_content(tmp_path, content, sources["vsrn"])
    assert int(result.checkpoint.model["image.norm.num_batches_tracked"]) == 0
    assert result.notes == []


def test_all_misfits_are_listed_under_their_published_names(tmp_path, sources):
    content = published_content()
    image, text, prototypes = content["model"]
    del image["Rs_GCN_2.theta.weight"]
    image["Rs_GCN_5.g.bias"] = torch.zeros(8)
    image["extra"] = torch.zeros(1)
    image["fc.bias"] = torch.zeros(9)
    text["local_fc.bias"] = torch.zeros(8, dtype=torch.int64)
    text["ctx_fc_bn1.running_var"][0] = float("nan")
    text["fusion_fn.4.weight"] = torch.zeros(1)
    prototypes["v_prototypes.weight"] = torch.zeros(4, 8)
    message = refused_content(tmp_path, content, sources["vsrn"]).message
    assert message.splitlines()[1:] == [
        "  image encoder: unexpected weight Rs_GCN_5.g.bias",
        "  image encoder: unexpected weight extra",
        "  image encoder: fc.bias has shape (9,); the options need (8,)",
        "  image encoder: missing weight Rs_GCN_2.theta.weight",
        "  text encoder: unexpected weight fusion_fn.4.weight",
        "  text encoder: local_fc.bias holds torch.strided torch.int64; expected plain torch.float32",
        "  text encoder: ctx_fc_bn1.running_var holds NaN or infinite numbers",
        "  prototypes: v_prototypes.weight has shape (4, 8); the options need (5, 8)",
    ]


def test_many_misfits_are_counted(tmp_path, sources):
    content = published_content()
    content["model"][0].update({f"extra{number}": torch.zeros(1) for number in range(30)})
    lines = refused_content(tmp_path, content, sources["vsrn"]).message.splitlines()
    assert (len(lines), lines[-1]) == (22, "  … and 10 more")


def test_selfalign_without_prototypes(tmp_path, sources):
    content = published_content()
    del content["model"][2]
    assert (
        "prototypes: missing weight v_prototypes.weight" in refused_content(tmp_path, content, sources["vsrn"]).message
    )


@pytest.mark.parametrize("suffix", [".pkl", ".json"])
@pytest.mark.parametrize("change", [WORDS[:-1], (*WORDS, "more")])
def test_a_vocabulary_of_another_size(tmp_path, change, suffix):
    other = write_vocabulary(tmp_path / f"other{suffix}", change)
    fault = refused_content(tmp_path, published_content(), ImportSources(vocab=other))
    assert f"other{suffix} has {len(change)} words" in fault.message
    assert f"has {len(WORDS)}" in fault.message
    assert fault.hint


def test_how_captions_are_read_is_remembered(tmp_path, sources):
    vocab = sources["vsrn"].vocab
    default = import_content(tmp_path, published_content(), sources["vsrn"]).checkpoint
    chosen = import_content(
        tmp_path, published_content(), ImportSources(vocab=vocab, tokenizer="treebank-line", lowercase="unicode")
    ).checkpoint
    for checkpoint, reading in ((default, ("treebank", "ascii")), (chosen, ("treebank-line", "unicode"))):
        captions = language_of_checkpoint(checkpoint).captions
        assert (captions.tokenizer, captions.lowercase) == reading  # type: ignore[attr-defined]
        assert (checkpoint.recipe.data.tokenizer, checkpoint.recipe.data.lowercase) == reading


def test_a_vocabulary_of_our_own_keeps_its_tokenizer(tmp_path):
    own = build_vocabulary(["a dog cat runs ."], min_count=1, tokenizer="treebank-line")
    own.save(tmp_path / "own.json")
    found = import_content(tmp_path, published_content(), ImportSources(vocab=tmp_path / "own.json")).checkpoint
    assert found.text["tokenizer"] == "treebank-line"
    assert found.text["lowercase"] == "unicode"


@pytest.mark.parametrize(("host", "option"), [("vsrn", "--vocab"), ("camera", "--bert")])
def test_what_the_old_file_lacks_is_asked_for(tmp_path, host, option):
    fault = refused_content(tmp_path, published_content(HOSTS[host]), ImportSources())
    assert host.upper() in fault.message
    assert fault.hint is not None
    assert fault.hint.startswith(f"add {option} ")


@pytest.mark.parametrize(("host", "words"), [("vsrn", "--bert was not used"), ("camera", "--vocab was not used")])
def test_options_of_the_other_host_are_said_to_do_nothing(tmp_path, sources, host, words):
    both = ImportSources(vocab=sources["vsrn"].vocab, bert=sources["camera"].bert)
    notes = import_content(tmp_path, published_content(HOSTS[host]), both).notes
    assert [note for note in notes if words in note] == notes


def test_weights_of_one_host_with_options_of_the_other(tmp_path, sources):
    content = published_content(VSRN_OPTIONS)
    content["opt"] = argparse.Namespace(**CAMERA_OPTIONS)
    message = refused_content(tmp_path, content, sources["vsrn"]).message
    assert "the weights of VSRN and the options of CAMERA" in message


@pytest.mark.parametrize("host", HOSTS)
def test_data_are_remembered(tmp_path, sources, host):
    data = write_features(tmp_path / "f.h5", boxes=host == "camera")
    named = ImportSources(vocab=sources[host].vocab, bert=sources[host].bert, data=data)
    found = import_content(tmp_path, published_content(HOSTS[host]), named).checkpoint
    assert found.data["content_hash"] == FeatureFile(data).content_hash
    assert score_files([tmp_path / "new.ckpt"]).report.captions == 4


def test_without_data_eval_asks_for_them(tmp_path, sources):
    import_content(tmp_path, published_content(), sources["vsrn"])
    with pytest.raises(DataError, match="names no feature file") as caught:
        score_files([tmp_path / "new.ckpt"])
    assert "--data" in str(caught.value.hint)


@pytest.mark.parametrize(("host", "width", "words"), [("vsrn", 5, "width 5"), ("camera", FEATURE_DIM, "no boxes")])
def test_data_that_do_not_fit(tmp_path, sources, host, width, words):
    data = write_features(tmp_path / "f.h5", width=width)
    named = ImportSources(vocab=sources[host].vocab, bert=sources[host].bert, data=data)
    assert words in refused_content(tmp_path, published_content(HOSTS[host]), named).message


def test_nothing_good_is_replaced(tmp_path, sources):
    old = write_checkpoint(tmp_path / "old.pth.tar", published_content())
    out = tmp_path / "new.ckpt"
    out.write_text("something good")
    with pytest.raises(DataError, match="exists already"):
        import_checkpoint(old, out, sources["vsrn"])
    with pytest.raises(SelfAlignError):
        import_checkpoint(old, out, ImportSources(), overwrite=True)
    with pytest.raises(DataError, match="would be read and replaced"):
        import_checkpoint(old, old, sources["vsrn"], overwrite=True)
    assert out.read_text() == "something good"
    assert sorted(path.name for path in tmp_path.glob("*.ckpt*")) == ["new.ckpt"]


def test_a_selfalign_checkpoint_is_refused_as_such(tmp_path, sources):
    import_content(tmp_path, published_content(), sources["vsrn"])
    save_checkpoint(tmp_path / "again.ckpt", load_checkpoint(tmp_path / "new.ckpt"))
    with pytest.raises(CheckpointError, match="is a selfalign checkpoint already"):
        import_checkpoint(tmp_path / "again.ckpt", tmp_path / "third.ckpt", sources["vsrn"])


def test_no_warning_reaches_the_user(tmp_path, sources):
    old = write_checkpoint(tmp_path / "old.pth.tar", published_content())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import_checkpoint(old, tmp_path / "new.ckpt", sources["vsrn"])
    assert not caught
