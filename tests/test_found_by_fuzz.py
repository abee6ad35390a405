"""What the fuzz campaign has found, each as small as it gets: refused by one message that names the file."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selfalign_cli.data.text.vocab import SPECIAL_WORDS, Vocabulary
from selfalign_cli.data.text.wordpiece import load_tokenizer, save_tokenizer
from selfalign_cli.data.text.wordpiece_training import build_wordpieces
from selfalign_cli.errors import SelfAlignError
from selfalign_cli.inspection.files import inspect_any
from selfalign_cli.scoring.compare import compare_files

DEEP = "[" * 100_000


def vocabulary(**changes: object) -> bytes:
    return json.dumps({**Vocabulary(SPECIAL_WORDS).to_dict(), **changes}).encode()


def ranks(first: str) -> bytes:
    return f'{{"ranks": {{"i2t": [{first}], "t2i": [1], "image_of_caption": [0]}}}}'.encode()


def archive_of_tomorrow() -> bytes:
    """By the list of members, the first one needs version 9.9 of the format."""
    packed = io.BytesIO()
    np.savez(packed, image=np.ones((2, 3)))
    content = bytearray(packed.getvalue())
    content[content.index(b"PK\x01\x02") + 6] = 99
    return bytes(content)


def result(path: Path) -> object:
    return compare_files(path, path, resamples=2)


@pytest.mark.parametrize(
    ("name", "content", "read", "message"),
    [
        ("v.json", vocabulary(words=[*SPECIAL_WORDS, "\ud800"]), Vocabulary.load, "no list `words` of texts"),
        ("v.json", vocabulary(source="\ud800"), Vocabulary.load, "has the source"),
        ("v.json", vocabulary(source=["a"]), Vocabulary.load, "has the source"),
        ("r.json", DEEP.encode(), result, "is neither JSON nor an embedding file"),
        ("r.json", ranks("1" * 30), result, "not a list of whole numbers"),
        ("r.json", ranks("1" + "0" * 5000), result, "neither JSON"),
        ("e.npz", archive_of_tomorrow(), inspect_any, "zip file version 9.9"),
    ],
)
def test_a_file(tmp_path: Path, name: str, content: bytes, read: Callable[[Path], object], message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SelfAlignError) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert message in caught.value.message


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A folder with a whole tokenizer."""
    save_tokenizer(build_wordpieces(["a red ball", "two dogs"], size=60), tmp_path)
    return tmp_path


def test_settings_of_a_tokenizer_that_are_too_deep(tokenizer: Path) -> None:
    (tokenizer / "tokenizer.json").unlink()
    (tokenizer / "tokenizer_config.json").write_text(DEEP)
    with pytest.raises(SelfAlignError, match="tokenizer_config.json is not JSON"):
        load_tokenizer(str(tokenizer))


def change_unknown(content: dict[str, dict[str, object]]) -> None:
    """A word that cannot be covered has no piece to stand for it."""
    content["model"]["unk_token"] = "[NOBODY]"


def change_mark(content: dict[str, dict[str, object]]) -> None:
    """The library panics on a mark that it does not know."""
    single = content["post_processor"]["single"]
    assert isinstance(single, list)
    single[0]["SpecialToken"]["id"] = "[NOBODY]"


def change_number(content: dict[str, dict[str, object]]) -> None:
    """Two pieces have one id: stored in a checkpoint, one of them would be gone."""
    ids = content["model"]["vocab"]
    assert isinstance(ids, dict)
    ids["##d"] = ids["##e"]


@pytest.mark.parametrize("change", [change_unknown, change_mark, change_number])
def test_a_tokenizer_that_fails_when_it_is_used(
    tokenizer: Path, change: Callable[[dict[str, dict[str, object]]], None], capfd: pytest.CaptureFixture[str]
) -> None:
    path = tokenizer / "tokenizer.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(SelfAlignError) as caught:
        load_tokenizer(str(tokenizer)).encode("a zebra")
    assert "tokenizer" in caught.value.message
    assert capfd.readouterr().err == ""
