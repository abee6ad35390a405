"""The public interface: what it encodes is what is exported, scored and searched, for both hosts."""

from __future__ import annotations

import dataclasses
import re
import shutil
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.records import make_record, write_records
from support.world import World, opened, write_other_features

from selfalign_cli import Retriever
from selfalign_cli.assembly.checkpoint import Checkpoint, hash_of_state, load_checkpoint, save_checkpoint
from selfalign_cli.assembly.language import language_of_recipe
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.pairs import collate_images
from selfalign_cli.encodings import ImageBatch, RetrievalVectors
from selfalign_cli.errors import CheckpointError, DataError, RecipeError
from selfalign_cli.recipe.hashes import recipe_hash
from selfalign_cli.recipe.load import load_recipe, parse_recipe
from selfalign_cli.scoring.embed import EncodingOptions
from selfalign_cli.scoring.embeddings import EmbeddingFile, read_embeddings
from selfalign_cli.scoring.export import export_embeddings
from selfalign_cli.similarity import similarity
from selfalign_cli.training.train_state import begin_state

CAMERA = """
run: {dir: run}
data: {features: FOLDER/scenes.h5, max_words: 12}
model: {name: camera, embed_dim: 16, heads: 2, views: 3, bert: BERT}
loss: {concept: {prototypes: 8}, context: {negatives: 16}, diversity: {}}
validation: {batch_size: 30}
"""
TEXTS = ["a red star left of a ring", "two blue squares", "a green circle above a small white star", "ring"]


@pytest.fixture(scope="module")
def camera(world: World, camera_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of CAMERA with the weights that training would start from."""
    text = CAMERA.replace("FOLDER", str(world.folder)).replace("BERT", str(camera_bert))
    recipe, file = parse_recipe(text, [], "camera.yaml"), FeatureFile(world.features)
    language = language_of_recipe(recipe)
    state = begin_state(recipe, language, file.feature_dim, torch.device("cpu"))
    assert language.bert is not None
    checkpoint = Checkpoint(
        recipe=recipe,
        feature_dim=file.feature_dim,
        text=language.captions.to_dict(),
        bert_config=language.bert.config.to_dict(),
        data={"features": str(world.features), "content_hash": file.content_hash},
        model=state.model.state_dict(),
        epoch=0,
        step=0,
        scores={},
        training=None,
    )
    path = tmp_path_factory.mktemp("camera") / "best.ckpt"
    save_checkpoint(path, checkpoint)
    return path


@pytest.fixture(params=["vsrn", "camera"])
def checkpoint(request: pytest.FixtureRequest, unbroken: Path, camera: Path) -> Path:
    return {"vsrn": unbroken / "best.ckpt", "camera": camera}[request.param]


@pytest.fixture
def retriever(checkpoint: Path) -> Retriever:
    return Retriever.load(checkpoint, device="cpu")


def exported(checkpoint: Path, out: Path, **options: Any) -> EmbeddingFile:
    export_embeddings(checkpoint, out, EncodingOptions(**options), device="cpu")
    return read_embeddings(out)


def same(one: RetrievalVectors, other: RetrievalVectors) -> bool:
    """Bit for bit."""
    sides = ((one.pooled, other.pooled), (one.shared, other.shared))
    return all(torch.equal(a.view(torch.int32), b.view(torch.int32)) for a, b in sides)


def rows_of(vectors: RetrievalVectors, rows: Any) -> RetrievalVectors:
    return RetrievalVectors(vectors.pooled[rows], vectors.shared[rows])


@pytest.mark.parametrize("compat", [None, "published"])
@pytest.mark.parametrize("size", [None, 7])
def test_vectors_are_those_that_are_exported(
    world: World, checkpoint: Path, tmp_path: Path, compat: Any, size: int | None
):
    file = exported(checkpoint, tmp_path / "e.h5", compat=compat, batch_size=size)
    retriever = Retriever.load(str(checkpoint), device="cpu", compat=compat)
    texts = retriever.encode_texts(file.caption_texts, batch_size=size)
    pictures = retriever.encode_pictures(world.features, split="test", batch_size=size)
    assert same(texts, file.captions)
    assert same(pictures, file.images)
    for part in (texts.pooled, texts.shared, pictures.pooled, pictures.shared):
        assert (part.dtype, part.device.type) == (torch.float32, "cpu")


def test_a_text_is_encoded_the_same_in_any_batch(retriever: Retriever):
    assert retriever.rows_are_independent
    together = retriever.encode_texts([*TEXTS, "a ring " * 20])
    for row, text in enumerate(TEXTS):
        alone = retriever.encode_texts([text])
        torch.testing.assert_close(rows_of(together, [row]).pooled, alone.pooled, rtol=0, atol=1e-6)
        torch.testing.assert_close(rows_of(together, [row]).shared, alone.shared, rtol=0, atol=1e-6)


def test_published_texts_depend_on_their_batch(unbroken: Path):
    retriever = Retriever.load(unbroken / "best.ckpt", device="cpu", compat="published")
    assert not retriever.rows_are_independent
    assert retriever.identity.compat.startswith("published")
    alone, together = retriever.encode_texts(["ring"]), retriever.encode_texts(TEXTS)
    assert (alone.shared[0] - together.shared[3]).abs().max() > 1e-4


def test_pictures_come_from_a_path_a_file_or_batches(world: World, retriever: Retriever):
    file = FeatureFile(world.features)
    rows = file.split_images("dev")
    expected = retriever.encode_pictures(str(world.features), "dev", batch_size=6)

    def batches() -> Iterator[ImageBatch]:
        for start in range(0, len(rows), 6):
            yield collate_images(file, rows[start : start + 6])

    assert same(retriever.encode_pictures(world.features, "dev", batch_size=6), expected)
    assert same(retriever.encode_pictures(file, "dev", batch_size=6), expected)
    assert same(retriever.encode_pictures(file, rows=rows, batch_size=6), expected)
    assert same(retriever.encode_pictures(batches()), expected)
    assert same(retriever.encode_pictures(list(batches())), expected)
    counted: list[int] = []
    retriever.encode_pictures(file, batch_size=6, progress=counted.append)
    assert (sum(counted), len(expected.pooled)) == (len(file), len(rows))
    assert len(retriever.encode_pictures(file, rows=[3]).pooled) == 1


def test_no_texts_are_vectors_of_the_same_widths(retriever: Retriever):
    some, none = retriever.encode_texts(["ring"]), retriever.encode_texts([])
    assert (none.pooled.shape, none.shared.shape) == ((0, some.pooled.shape[1]), (0, some.shared.shape[1]))


def test_scores_are_the_similarity_and_search_finds_the_best(world: World, retriever: Retriever):
    pictures, texts = retriever.encode_pictures(world.features, "test"), retriever.encode_texts(TEXTS)
    scores = retriever.score(pictures, texts)
    assert (scores.shape, scores.dtype) == ((20, 4), torch.float32)
    assert torch.equal(scores, similarity(pictures, texts, retriever.identity.similarity))
    for found in (retriever.search(TEXTS, pictures, k=3), retriever.search(texts, pictures, k=3)):
        torch.testing.assert_close(found.scores, scores.T.topk(3).values)
        torch.testing.assert_close(scores.T.gather(1, found.candidates), found.scores)
    backward = retriever.search(pictures, texts, k=2)
    torch.testing.assert_close(backward.scores, scores.topk(2).values)


def test_vectors_may_take_part_in_training(world: World, retriever: Retriever):
    texts, pictures = retriever.encode_texts(TEXTS), retriever.encode_pictures(world.features, rows=[0, 1])
    head = torch.nn.Parameter(torch.eye(texts.pooled.shape[1]))
    ((texts.pooled @ head) @ pictures.pooled[:, 0].T).sum().backward()
    assert head.grad is not None


def test_encoding_leaves_the_model_as_it_was(world: World, retriever: Retriever):
    before = hash_of_state(retriever.model.state_dict())
    for mode in (True, False):
        modes = [module.training for module in retriever.model.train(mode).modules()]
        retriever.encode_texts(TEXTS)
        retriever.encode_pictures(world.features, "dev")
        assert [module.training for module in retriever.model.modules()] == modes
    assert hash_of_state(retriever.model.state_dict()) == before


def test_the_identity_of_a_model(world: World, unbroken: Path, tmp_path: Path):
    path = unbroken / "best.ckpt"
    identity, content = Retriever.load(path, device="cpu").identity, load_checkpoint(path)
    assert identity.weights == hash_of_state(content.model)
    assert identity.recipe == recipe_hash(load_recipe(world.recipe))
    assert re.fullmatch("[0-9a-f]{64}", identity.vocabulary)
    assert (identity.compat, identity.similarity) == ("corrected", "dot")
    assert Retriever.load(path, device="cpu").identity == identity
    with pytest.raises(dataclasses.FrozenInstanceError):
        identity.weights = ""  # type: ignore[misc]
    changed = opened(path)
    changed["model"]["image.fc.bias"][0] += 0.5
    changed["text"]["words"][-1] = "zebra"
    torch.save(changed, tmp_path / "changed.ckpt")
    other = Retriever.load(tmp_path / "changed.ckpt", device="cpu").identity
    assert (other.weights != identity.weights, other.vocabulary != identity.vocabulary) == (True, True)
    assert other.recipe == identity.recipe


def test_words_that_the_vocabulary_does_not_know(retriever: Retriever):
    assert retriever.unknown_words("a red star left of a ring") == []
    assert retriever.unknown_words("A red 日 left of a 日 and a §") == ["日", "§"]


def test_words_of_vsrn_are_looked_up_in_lower_case(unbroken: Path):
    retriever = Retriever.load(unbroken / "best.ckpt", device="cpu")
    assert retriever.unknown_words("a Zebra, a zebra and a STAR") == ["zebra"]


def test_texts_that_are_cut_are_counted(camera: Path):
    tokens = Retriever.load(camera, device="cpu").tokenize(["ring", "ring " * 30])
    assert (tokens.cut, len(tokens), len(tokens.row(1))) == (1, 2, 12)


def lacking_boxes(retriever: Retriever, folder: Path) -> object:
    width = retriever.feature_dim
    record = make_record(features=np.ones((3, width), np.float32), boxes=None, size=None)
    return retriever.encode_pictures(write_records(folder / "f.h5", [record], overwrite=True))


def other_width(retriever: Retriever, folder: Path) -> object:
    write_other_features(folder / "f.h5", width=7)
    return retriever.encode_pictures(folder / "f.h5")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r, f: r.encode_texts("a red star"), TypeError, "expected a list of texts, got one text"),
        (lambda r, f: r.search("a red star", r.encode_texts([])), TypeError, "expected a list of texts"),
        (lambda r, f: r.encode_pictures(f / "none.h5"), DataError, "there is no feature file .*none.h5"),
        (lambda r, f: r.encode_pictures(r.open_features(), "nope"), DataError, "has no split 'nope'"),
        (lambda r, f: r.encode_pictures(r.open_features(), rows=[]), DataError, "there are no pictures to encode"),
        (lambda r, f: r.encode_pictures([]), DataError, "there are no pictures to encode"),
        (lambda r, f: r.encode_pictures([], "test"), TypeError, "are for feature files"),
        (lambda r, f: r.encode_pictures(r.open_features(), "dev", rows=[1]), TypeError, "exclude each other"),
        (other_width, DataError, "features of width 7; the checkpoint was trained on"),
        (lambda r, f: r.search(TEXTS, r.encode_texts(TEXTS)), DataError, "expected captions"),
        (lambda r, f: Retriever.load(f / "none.ckpt"), CheckpointError, "none.ckpt does not exist"),
        (lambda r, f: Retriever.load(r.name, device="tpu"), RecipeError, "--device tpu: expected auto, cpu or cuda"),
    ],
)
def test_faults_are_named(
    retriever: Retriever, tmp_path: Path, call: Callable[..., object], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        call(retriever, tmp_path)


def test_batches_that_do_not_fit(world: World, camera: Path):
    retriever = Retriever.load(camera, device="cpu")
    whole = collate_images(FeatureFile(world.features), [0, 1])
    with pytest.raises(DataError, match="batch 2 has no boxes or picture sizes"):
        retriever.encode_pictures([whole, dataclasses.replace(whole, boxes=None)])
    with pytest.raises(DataError, match="batch 1 has features of width 3"):
        retriever.encode_pictures([dataclasses.replace(whole, features=whole.features[..., :3])])


def test_features_without_boxes_are_refused(camera: Path, unbroken: Path, tmp_path: Path):
    with pytest.raises(DataError, match="has no boxes and picture sizes"):
        lacking_boxes(Retriever.load(camera, device="cpu"), tmp_path)
    assert lacking_boxes(Retriever.load(unbroken / "best.ckpt", device="cpu"), tmp_path)


def test_a_model_that_names_no_features(unbroken: Path):
    loaded = Retriever.load(unbroken / "best.ckpt", device="cpu")
    parts = (loaded.recipe, loaded.model, loaded.captions)
    bare = Retriever(*parts, feature_dim=loaded.feature_dim)
    assert bare.identity == loaded.identity
    with pytest.raises(DataError, match="the model was imported and names no feature file"):
        bare.open_features()


def test_the_example_runs(world: World, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    """As it is printed, on files at the paths it names."""
    for source, target in (
        (unbroken / "best.ckpt", "runs/demo/runs/selfalign-1024/best.ckpt"),
        (world.features, "runs/demo/data/scenes.h5"),
    ):
        (tmp_path / target).parent.mkdir(parents=True)
        shutil.copy(source, tmp_path / target)
    monkeypatch.chdir(tmp_path)
    assert Retriever.__doc__ is not None
    example = re.search(r"```python\n(.*?)```", Retriever.__doc__, re.DOTALL)
    assert example is not None
    exec(textwrap.dedent(example[1]), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "torch.Size([20, 2])"
    assert [line.split(":")[0].rstrip("0123456789") for line in lines[1:6]] == ["picture row "] * 5
    assert lines[6].endswith("['zebra']")
