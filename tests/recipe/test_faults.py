"""Each kind of fault in a recipe: its key path, what was found, what to write. The wording is asserted as printed."""

from __future__ import annotations

import pytest

from selfalign_cli.errors import RecipeError
from selfalign_cli.recipe.hosts import HOSTS
from selfalign_cli.recipe.load import load_recipe, parse_recipe, recipe_from_dict
from selfalign_cli.recipe.wording import listed

EITHER = listed(list(HOSTS))

VSRN = {"run": "{dir: r}", "data": "{features: f.h5, vocab: v.json}", "model": "{name: vsrn}"}
CACHED = {"data": "{features: f, max_words: 32, cache_words: true}"}
CAMERA = {"run": "{dir: r}", "data": "{features: f.h5, max_words: 32}", "model": "{name: camera, bert: b}"}


def text_of(base=VSRN, **sections):
    return "\n".join(f"{name}: {value}" for name, value in {**base, **sections}.items())


def faults(text, *overrides):
    """The lines under the heading, without indentation; none when the recipe is good."""
    try:
        parse_recipe(text, overrides, "r.yaml")
    except RecipeError as error:
        heading, *lines = error.message.splitlines()
        assert heading == f"r.yaml has {len(lines)} fault{'s' if len(lines) > 1 else ''}"
        assert all(line.startswith("  ") for line in lines)
        return [line.strip() for line in lines]
    return []


def test_good_recipes_have_no_faults():
    assert faults(text_of(VSRN)) == faults(text_of(CAMERA)) == []


def test_the_example_of_the_style_guide():
    text = text_of(loss="{concept: {temprature: 0.1}}", optim="{learning_rate: fast}")
    assert faults(text) == [
        "loss.concept.temprature: unknown key (did you mean 'temperature'?)",
        "optim.learning_rate: expected a number, got text 'fast'",
    ]


@pytest.mark.parametrize(
    ("section", "value", "fault"),
    [
        ("run", "{dir: ''}", "run.dir: expected text, got an empty one"),
        ("run", r'{dir: "a\tb"}', r"run.dir: expected text without control characters, got 'a\tb'"),
        ("run", "{dir: [a]}", "run.dir: expected text, got a list"),
        ("run", "{dir: 12}", "run.dir: expected text, got the number 12 (quote it)"),
        ("run", "{dir: true}", "run.dir: expected text, got true (quote it)"),
        ("run", "{dir: null}", "run.dir: expected text, got null"),
        ("run", "{seed: 1}", "run.dir: required key is missing"),
        (
            "run",
            "{dir: r, tensorboard: on}",
            "run.tensorboard: expected true or false, got text 'on' (write true or false)",
        ),
        (
            "run",
            "{dir: r, tensorboard: 1}",
            "run.tensorboard: expected true or false, got the number 1 (write true or false)",
        ),
        (
            "run",
            "{dir: r, tensorboard: 'true'}",
            "run.tensorboard: expected true or false, got text 'true' (write true or false)",
        ),
        ("run", "{dir: r, seed: -1}", "run.seed: expected at least 0, got -1"),
        ("run", "{dir: r, seed: 99999999999}", "run.seed: expected at most 1,000,000,000, got 99999999999"),
        ("run", "{dir: r, seed: true}", "run.seed: expected a whole number, got true"),
        ("run", "{dir: r, log_every: 3.0}", "run.log_every: expected a whole number, got 3.0 (write 3)"),
        ("run", "{dir: r, log_every: 2.5}", "run.log_every: expected a whole number, got 2.5"),
        ("run", "{dir: r, log_every: 1e3}", "run.log_every: expected a whole number, got 1000.0 (write 1000)"),
        (
            "run",
            "{dir: r, log_every: '7'}",
            "run.log_every: expected a whole number, got text '7' (write it without quotes)",
        ),
        ("run", "{dir: r, log_every: ten}", "run.log_every: expected a whole number, got text 'ten'"),
        ("run", "7", "run: expected a section of keys, got 7"),
        ("optim", "{epochs: 0}", "optim.epochs: expected at least 1, got 0"),
        ("optim", "{epochs: 1_000}", "optim.epochs: expected a whole number, got text '1_000'"),
        ("optim", "{epochs: 1:30}", "optim.epochs: expected a whole number, got text '1:30'"),
        ("optim", "{epochs: yes}", "optim.epochs: expected a whole number, got text 'yes'"),
        ("optim", "{learning_rate: 0}", "optim.learning_rate: expected more than 0, got 0"),
        ("optim", "{learning_rate: .nan}", "optim.learning_rate: expected a finite number, got nan"),
        ("optim", "{learning_rate: .inf}", "optim.learning_rate: expected a finite number, got inf"),
        ("optim", "{learning_rate: -2e-4}", "optim.learning_rate: expected more than 0, got -0.0002"),
        (
            "optim",
            "{learning_rate: '2e-4'}",
            "optim.learning_rate: expected a number, got text '2e-4' (write it without quotes)",
        ),
        ("optim", "{decay_factor: 1.5}", "optim.decay_factor: expected at most 1, got 1.5"),
        ("optim", "{lr: 0.1}", "optim.lr: unknown key (did you mean 'learning_rate'?)"),
        ("optim", "{max_words: 3}", "optim.max_words: unknown key (did you mean 'data.max_words'?)"),
        ("optim", "{zzz: 3}", "optim.zzz: unknown key"),
        ("optim", r'{"a\nb": 3}', r"optim.'a\nb': unknown key"),
        ("optim", "null", "optim: expected a section of keys, got null (remove the key to keep its defaults)"),
        ("optimizer", "{epochs: 3}", "optimizer: unknown key (did you mean 'optim'?)"),
        ("epochs", "3", "epochs: unknown key (did you mean 'optim.epochs'?)"),
        (
            "loss",
            "{concept: {sinkhorn_epsilon: 0.01}}",
            "loss.concept.sinkhorn_epsilon: expected at least 0.02, got 0.01",
        ),
        ("loss", "{captioning: 3}", "loss.captioning: expected a section of keys, got 3"),
        ("loss", "{captioning: {dropout: 1.0}}", "loss.captioning.dropout: expected less than 1, got 1.0"),
        (
            "validation",
            "{select_by: rsom}",
            "validation.select_by: expected rsum or r1+r5, got 'rsom' (did you mean 'rsum'?)",
        ),
        ("validation", "{select_by: [rsum]}", "validation.select_by: expected rsum or r1+r5, got a list"),
        ("compat", "publishd", "compat: expected corrected or published, got 'publishd' (did you mean 'published'?)"),
        ("model", "{name: vsrnx}", f"model.name: expected {EITHER}, got 'vsrnx' (did you mean 'vsrn'?)"),
        ("model", "{name: [vsrn]}", f"model.name: expected {EITHER}, got a list"),
        ("model", "{embed_dim: 8}", f"model.name: required key is missing ({EITHER})"),
        ("model", "vsrn", "model: expected a section of keys, got text 'vsrn'"),
        ("model", "{name: vsrn, heads: 4}", "model.heads: unknown key (camera has it, vsrn has not)"),
        ("model", "{name: vsrn, embed_dims: 4}", "model.embed_dims: unknown key (did you mean 'embed_dim'?)"),
        ("model", "{name: vsrn, embed_dim: x}", "model.embed_dim: expected a whole number, got text 'x'"),
    ],
)
def test_one_fault(section, value, fault):
    assert faults(text_of(**{section: value})) == [fault]


@pytest.mark.parametrize(
    ("base", "sections", "fault"),
    [
        (VSRN, {"data": "{features: f}"}, "data.vocab: vsrn needs a vocabulary (selfalign build-vocab makes one)"),
        (
            VSRN,
            {"loss": "{diversity: {}}"},
            "loss.diversity: only camera has views to keep apart (remove this section)",
        ),
        (VSRN, {"optim": "{bert_learning_rate: 0.1}"}, "optim.bert_learning_rate: vsrn has no BERT (remove this key)"),
        (
            VSRN,
            {"optim": "{epochs: 3}", "loss": "{ranking: {warmup_epochs: 4}}"},
            "loss.ranking.warmup_epochs: expected at most the 3 of optim.epochs, got 4",
        ),
        (
            VSRN,
            {"data": "{features: f, vocab: v, pad_to_max_words: true}"},
            "data.pad_to_max_words: needs a width: set data.max_words",
        ),
        (CAMERA, {"data": "{features: f}"}, "data.max_words: camera needs a limit (32 in the published settings)"),
        (
            CAMERA,
            {"loss": "{captioning: {}}"},
            "loss.captioning: only vsrn has a caption generator (remove this section)",
        ),
        (
            CAMERA,
            {"optim": "{captioner_twice: true}"},
            "optim.captioner_twice: only vsrn has a caption generator (remove this key)",
        ),
        (
            CAMERA,
            {"model": "{name: camera, bert: b, embed_dim: 32, heads: 5}"},
            "model.heads: expected a divisor of the 32 of model.embed_dim, got 5",
        ),
        (CAMERA, {"model": "{name: camera}"}, "model.bert: required key is missing"),
        (
            CAMERA,
            {"loss": "{ranking: {similarity: order}}"},
            "loss.ranking.similarity: order compares single vectors, and model.views is 12 (write dot)",
        ),
        (
            VSRN,
            {"data": "{features: f, vocab: v, cache_words: true}"},
            "data.cache_words: vsrn has no BERT (remove this key)",
        ),
        (
            CAMERA,
            {**CACHED, "model": "{name: camera, bert: b, finetune: true}"},
            "data.cache_words: BERT is trained, so its states change (set model.finetune: false)",
        ),
        (
            CAMERA,
            {**CACHED, "compat": "published"},
            "data.cache_words: BERT's dropout changes its states in every step (set model.bert_eval_mode: true)",
        ),
        (
            CAMERA,
            {**CACHED, "padding": "{masked_attention: false}"},
            "data.cache_words: states of padded positions are read, and only real ones are kept "
            "(set padding.masked_attention: true)",
        ),
        (
            CAMERA,
            {"optim": "{bert_learning_rate: 0.1}"},
            "optim.bert_learning_rate: BERT is frozen (set model.finetune: true, or remove this key)",
        ),
    ],
)
def test_keys_that_disagree(base, sections, fault):
    assert faults(text_of(base, **sections)) == [fault]


def test_disagreements_come_with_the_other_faults():
    text = text_of(CAMERA, data="{features: f}", optim="{epochs: 0}")
    assert faults(text) == [
        "optim.epochs: expected at least 1, got 0",
        "data.max_words: camera needs a limit (32 in the published settings)",
    ]


def test_a_disagreement_with_a_faulty_key_is_not_reported():
    text = text_of(optim="{epochs: many}", loss="{ranking: {warmup_epochs: 40}}")
    assert faults(text) == ["optim.epochs: expected a whole number, got text 'many'"]


def test_a_misspelt_model_name_does_not_hide_the_faults_behind_it():
    assert faults(text_of(model="{name: camra, bert: b, heads: x}")) == [
        f"model.name: expected {EITHER}, got 'camra' (did you mean 'camera'?)",
        "model.heads: expected a whole number, got text 'x'",
    ]


def test_missing_sections_are_named_by_their_required_keys():
    assert faults("compat: corrected") == [
        "run.dir: required key is missing",
        "data.features: required key is missing",
        f"model.name: required key is missing ({EITHER})",
    ]


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("optim.epochs=many", "--set optim.epochs=many: expected a whole number, got text 'many'"),
        ("optim.epoch=3", "--set optim.epoch=3: unknown key (did you mean 'epochs'?)"),
        ("data.workers=1e1", "--set data.workers=1e1: expected a whole number, got 10.0 (write 10)"),
        ("loss.ranking={margn: 1}", "--set loss.ranking={margn: 1}: margn: unknown key (did you mean 'margin'?)"),
        ("epochs", "--set epochs: expected key.path=value, e.g. optim.epochs=10"),
        ("=3", "--set =3: expected key.path=value, e.g. optim.epochs=10"),
        ("optim..epochs=3", "--set optim..epochs=3: expected key.path=value, e.g. optim.epochs=10"),
        ("optim.epochs=", "--set optim.epochs=: expected a value after '=' (write null for none)"),
        ("run.dir.x=3", "--set run.dir.x=3: run.dir is not a section"),
        ("run.dir={a: 1, a: 2}", "--set run.dir={a: 1, a: 2}: not a YAML value: given twice, in line 1 and in line 1 "
         "(keep one) (quote it: run.dir='\"…\"')"),
    ],
)  # fmt: skip
def test_faults_of_an_override(override, fault):
    assert faults(text_of(), override) == [fault]


def test_faults_of_file_and_override_come_together():
    assert faults(text_of(optim="{lr: 1}"), "optim.epochs=0") == [
        "--set optim.epochs=0: expected at least 1, got 0",
        "optim.lr: unknown key (did you mean 'learning_rate'?)",
    ]


def test_a_missing_file_names_the_nearest_one(tmp_path):
    (tmp_path / "vsrn.yaml").touch()
    with pytest.raises(RecipeError, match="does not exist") as caught:
        load_recipe(tmp_path / "vsrm.yaml")
    assert caught.value.hint == f"did you mean {tmp_path / 'vsrn.yaml'}?"


def test_a_missing_file_like_no_other_names_the_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="does not exist") as caught:
        load_recipe("zzz.yaml")
    assert caught.value.hint == "selfalign recipes lists the shipped ones"


@pytest.mark.parametrize("name", ["vsrn_f30k", "recipes/vsrn_f30k.yaml"])
def test_a_shipped_recipe_that_is_not_here_can_be_written_here(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="does not exist") as caught:
        load_recipe(name)
    assert caught.value.hint == "selfalign recipes vsrn_f30k --out vsrn_f30k.yaml writes the shipped one"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"# only a remark\n", "is empty"),
        (b"- a\n- b\n", "holds a list"),
        (b"just words", "holds 'just words'"),
        (b"a: \xff\n", "is not UTF-8 text (byte 0xff at offset 3)"),
        ("run: {}".encode("utf-16"), "is not UTF-8 text"),
        (b"\x89HDF\r\n\x1a\n", "is not UTF-8 text"),
        (b"# " + b"x" * 300_000, "larger than 256 KiB"),
    ],
)
def test_files_that_are_no_recipes(tmp_path, content, message):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert message in caught.value.message
    assert str(path) in caught.value.message


@pytest.mark.parametrize("name", ["", "nul\0name.yaml"])
def test_names_that_cannot_be_opened(tmp_path, name):
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(f"{tmp_path}/{name}")


def test_a_byte_order_mark_is_no_fault(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(text_of().encode("utf-8-sig"))
    assert load_recipe(path).model.name == "vsrn"


@pytest.mark.parametrize("stored", [None, [], "text", 3])
def test_a_stored_recipe_must_be_a_dictionary(stored):
    with pytest.raises(RecipeError, match="instead of a recipe"):
        recipe_from_dict(stored, "x.ckpt")


def test_a_stored_recipe_is_checked_and_left_alone():
    stored = {"run": {"dir": "r"}, "data": {"features": "f"}, "model": {"name": "vsrn"}, 3: 4}
    with pytest.raises(RecipeError, match="x.ckpt has"):
        recipe_from_dict(stored, "x.ckpt")
    assert list(stored) == ["run", "data", "model", 3]
