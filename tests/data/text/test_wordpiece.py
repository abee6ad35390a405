"""WordPieces: BERT's rules against a plain rewriting of them, the golden captions, folders, training."""

from __future__ import annotations

import json
import random
import shutil
import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from selfalign_cli.data.text.token_table import TokenTable
from selfalign_cli.data.text.wordpiece import (
    WordPieceTokenizer,
    bert_tokenizer,
    load_tokenizer,
    save_tokenizer,
    tokenizer_from_text,
)
from selfalign_cli.data.text.wordpiece_training import build_wordpieces, count_words, train_wordpieces
from selfalign_cli.errors import DataError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*SPECIAL, "a", "##a", "b", "##b", "man", "##man", "##s", "s", "i", "ss", "1", ".", "-", "[", "]", "é", "日"]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def plain_pieces(text: str, pieces: list[str]) -> list[str]:
    """MODELS.md 1.5 word for word: clean, split at white space, lower, drop accents, split marks, longest match."""
    kept = []
    for letter in text:
        category = unicodedata.category(letter)
        if letter in " \t\n\r" or category in ("Zs", "Zl", "Zp"):
            kept.append(" ")
        elif letter not in "\0\ufffd" and not category.startswith("C"):
            kept.append(letter)
    spaced = ""
    for letter in unicodedata.normalize("NFD", "".join(kept).lower()):
        category = unicodedata.category(letter)
        mark = category.startswith("P") or (letter.isascii() and not letter.isalnum() and letter != " ")
        spaced += "" if category == "Mn" else f" {letter} " if mark else letter
    return [piece for word in spaced.split() for piece in cover(word, pieces)]


def cover(word: str, pieces: list[str]) -> list[str]:
    found: list[str] = []
    start = 0
    while start < len(word):
        begin = "##" if start else ""
        ends = [end for end in range(len(word), start, -1) if begin + word[start:end] in pieces]
        if not ends or len(word) > 100:
            return ["[UNK]"]
        found.append(begin + word[start : ends[0]])
        start = ends[0]
    return found


LETTERS = st.sampled_from("abmnsABSÉéİß1.-[]'\"#$^`\t\n\r \u00a0\u2009\u2028\u200b\u0301\0\ufffd日本😀Σ")


@given(st.lists(LETTERS, max_size=30).map("".join))
def test_pieces_follow_the_written_rules(text: str) -> None:
    assert bert_tokenizer(PIECES).pieces(text) == plain_pieces(text, PIECES)


def test_encoding_by_hand() -> None:
    """mans -> man ##s, between [CLS] 2 and [SEP] 3; the full stop stands alone, É loses its accent: e is unknown."""
    tokenizer = bert_tokenizer(PIECES)
    assert tokenizer.encode("Mans. É") == [2, 9, 11, 16, 1, 3]


def test_special_tokens_written_in_a_caption_are_text() -> None:
    assert bert_tokenizer(PIECES).pieces("[SEP] [b]") == ["[", "[UNK]", "]", "[", "b", "]"]


def cut_ids(tokenizer: WordPieceTokenizer, caption: str, max_words: int) -> tuple[list[int], bool]:
    """The ids of a caption as a data set holds them, and whether it was cut."""
    table = TokenTable.encode([caption], tokenizer.encode, max_words)
    return table.row(0).tolist(), table.cut == 1


@pytest.mark.parametrize(("max_words", "expected", "cut"), [(6, [2, 9, 11, 5, 7, 3], False), (4, [2, 9, 11, 3], True)])
def test_long_captions_keep_both_marks(max_words: int, expected: list[int], cut: bool) -> None:
    assert cut_ids(bert_tokenizer(PIECES), "mans a b", max_words) == (expected, cut)


def test_a_word_of_more_than_a_hundred_letters_is_unknown() -> None:
    tokenizer = bert_tokenizer(PIECES)
    assert tokenizer.pieces("a" * 100) == ["a"] + ["##a"] * 99
    assert tokenizer.pieces("a" * 101) == ["[UNK]"]


def test_chinese_characters_are_letters_unless_asked() -> None:
    assert bert_tokenizer(PIECES).pieces("日a") == ["日", "##a"]
    assert bert_tokenizer(PIECES, split_chinese=True).pieces("日a") == ["日", "a"]


@pytest.mark.parametrize(
    ("pieces", "message"),
    [(["[PAD]", "a"], r"lacks \[UNK\], \[CLS\], \[SEP\]"), ([*SPECIAL, "a", "a"], "holds the piece 'a' twice")],
)
def test_faulty_pieces_are_refused(pieces: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        bert_tokenizer(pieces)


def test_a_tokenizer_is_the_same_after_a_checkpoint() -> None:
    tokenizer = bert_tokenizer(PIECES)
    again = WordPieceTokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert again.encode("Mans [SEP] é") == tokenizer.encode("Mans [SEP] é")
    assert (len(again), again.content_hash) == (len(PIECES), tokenizer.content_hash)


@pytest.mark.parametrize("content", [None, {}, {"format": "selfalign-wordpieces", "version": 9, "tokenizer": ""}])
def test_other_content_is_no_tokenizer(content: object) -> None:
    with pytest.raises(DataError):
        WordPieceTokenizer.from_dict(content)


def test_a_faulty_tokenizer_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="tokenizer.json is not a tokenizer.json"):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_that_adds_no_marks_is_refused() -> None:
    content = json.loads(bert_tokenizer(PIECES).to_text())
    with pytest.raises(DataError, match="adds no marks"):
        tokenizer_from_text(json.dumps({**content, "post_processor": None}))


def test_truncation_stored_in_a_folder_does_not_cut_captions() -> None:
    content = json.loads(bert_tokenizer(PIECES).to_text())
    truncation = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    tokenizer = tokenizer_from_text(json.dumps({**content, "truncation": truncation}))
    assert len(tokenizer.encode("a a a a a")) == 7


def test_a_saved_folder_reads_back_the_same(tmp_path: Path) -> None:
    tokenizer = bert_tokenizer(PIECES)
    save_tokenizer(tokenizer, tmp_path / "new")
    assert load_tokenizer(str(tmp_path / "new")).content_hash == tokenizer.content_hash
    assert (tmp_path / "new" / "vocab.txt").read_text(encoding="utf-8").split("\n") == [*PIECES, ""]
    assert {file.name for file in (tmp_path / "new").iterdir()} == {
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    }


def test_transformers_reads_a_saved_folder_alike(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = build_wordpieces(["two men, walking a dog 日本", "the dog walks; two Émen"] * 2, size=60)
    save_tokenizer(tokenizer, tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    for text in ("Two dogs walking.", "日本 men", "é Émen", "unseen Ω", ""):
        assert theirs(text)["input_ids"] == tokenizer.encode(text)
    assert theirs.pad_token_id == 0


@pytest.mark.parametrize(
    ("config", "text", "expected"),
    [
        (None, "MAN 日a", ["man", "日", "##a"]),
        ({}, "MAN 日a", ["man", "日", "##a"]),
        ({"do_lower_case": True}, "MAN 日a", ["man", "日", "a"]),
        ({"do_lower_case": False}, "MAN man", ["[UNK]", "man"]),
        ({"tokenize_chinese_chars": False}, "日a", ["日", "##a"]),
    ],
)
def test_a_folder_with_pieces_alone(
    config: dict[str, bool] | None, text: str, expected: list[str], tmp_path: Path
) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_tokenizer(str(tmp_path)).pieces(text) == expected


def test_cased_pieces_are_not_lower_cased(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "Man", "man"]), encoding="utf-8")
    assert load_tokenizer(str(tmp_path)).pieces("Man man") == ["Man", "man"]


def test_published_reading_ignores_the_settings_of_the_folder(tmp_path: Path) -> None:
    save_tokenizer(bert_tokenizer(PIECES, lowercase=False, split_chinese=True), tmp_path)
    assert load_tokenizer(str(tmp_path)).pieces("MAN 日a") == ["[UNK]", "日", "a"]
    assert load_tokenizer(str(tmp_path), published=True).pieces("MAN 日a") == ["man", "日", "##a"]


def test_windows_line_ends_are_not_part_of_pieces(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*PIECES, ""]).encode())
    assert len(load_tokenizer(str(tmp_path))) == len(PIECES)


@pytest.mark.parametrize("content", [b"[PAD]\n\xff\n", b"", b"[PAD]\n[UNK]\n"])
def test_faulty_piece_files_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(DataError, match="vocab.txt"):
        load_tokenizer(str(tmp_path))


def test_a_folder_without_tokenizer_is_answered_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected tokenizer.json or vocab.txt"):
        load_tokenizer(str(tmp_path))


def test_byte_pair_folders_are_read_by_transformers(tmp_path: Path) -> None:
    """The files of a RoBERTa: vocab.json and merges.txt, no tokenizer.json."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "m", "a", "n", "an", "man"]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na n\nm an\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
    assert load_tokenizer(str(tmp_path)).encode("man") == [0, 9, 2]


@pytest.mark.usefixtures("no_hub")
def test_a_hub_tokenizer_out_of_reach_is_one_message() -> None:
    with pytest.raises(DataError, match="cannot load the tokenizer of nobody/no-such-model-of-ours"):
        load_tokenizer("hub:nobody/no-such-model-of-ours")


def test_training_by_hand() -> None:
    """ab 3 times, abc 2 times: a+b occurs 5 times and goes first, then ab+c twice; d, once, is never merged."""
    found = train_wordpieces({"ab": 3, "abc": 2, "ad": 1}, size=100, min_count=2)
    assert found == [*SPECIAL, "a", "b", "c", "d", "##a", "##b", "##c", "##d", "ab", "abc"]


def test_ties_are_decided_by_text() -> None:
    assert train_wordpieces({"zy": 2, "ab": 2}, size=100, min_count=2)[-2:] == ["ab", "zy"]


def test_training_stops_at_the_size() -> None:
    assert len(train_wordpieces({"abcdef": 9}, size=20, min_count=1)) == 20


def test_rare_characters_are_left_out_of_a_small_vocabulary() -> None:
    """Room for (9 - 5) / 2 = 2 characters: a (3 times) and b (twice)."""
    assert train_wordpieces({"abc": 1, "ab": 1, "a": 1}, size=9, min_count=1)[5:] == ["a", "b", "##a", "##b"]


def test_training_does_not_depend_on_the_order_of_captions() -> None:
    captions = [" ".join(random.Random(seed).choices(["cat", "cats", "act", "taco"], k=4)) for seed in range(40)]
    shuffled = random.Random(0).sample(captions, k=len(captions))
    first, second = (build_wordpieces(texts, size=40) for texts in (captions, shuffled))
    assert first.content_hash == second.content_hash


def merges_by_recounting(counts: dict[str, int], steps: int) -> list[str]:
    """Byte-pair merges without bookkeeping: all pairs are counted again before each merge."""
    spellings = {word: [word[0], *(f"##{letter}" for letter in word[1:])] for word in counts}
    found = []
    for _ in range(steps):
        frequency: dict[tuple[str, str], int] = {}
        for word, spelling in spellings.items():
            for pair in zip(spelling, spelling[1:], strict=False):
                frequency[pair] = frequency.get(pair, 0) + counts[word]
        best = min(frequency, key=lambda pair: (-frequency[pair], pair))
        found.append(best[0] + best[1][2:])
        for spelling in spellings.values():
            at = 0
            while at + 1 < len(spelling):
                if (spelling[at], spelling[at + 1]) == best:
                    spelling[at : at + 2] = [found[-1]]
                at += 1
    return found


def test_training_equals_recounting_after_every_merge() -> None:
    draw = random.Random(3)
    counts = {"".join(draw.choices("abc", k=draw.randint(2, 9))): draw.randint(1, 5) for _ in range(30)}
    slow = list(dict.fromkeys(merges_by_recounting(counts, steps=25)))
    assert train_wordpieces(counts, size=5 + 6 + len(slow), min_count=1)[11:] == slow


def test_words_are_counted_as_they_will_be_split() -> None:
    assert count_words(["A man's  man.", "É\u00a0man"]) == {"a": 1, "man": 3, "'": 1, "s": 1, ".": 1, "e": 1}


@pytest.mark.parametrize(("captions", "size"), [([], 100), ([" \t"], 100), (["a"], 6)])
def test_nothing_to_train_on_is_refused(captions: list[str], size: int) -> None:
    with pytest.raises(DataError):
        build_wordpieces(captions, size=size)


def test_golden_captions_give_the_published_pieces(golden_dir: Path) -> None:
    legacy = golden_dir / "legacy"
    tokenizer = load_tokenizer(str(legacy / "bert"))
    expected = json.loads((legacy / "expected" / "camera_captions.json").read_text(encoding="utf-8"))
    rows = [row for split in expected["splits"].values() for row in split]
    assert rows
    for row in rows:
        ids, cut = cut_ids(tokenizer, row["raw"], expected["max_words"])
        assert ids == row["input_ids"][: row["length"]], row["raw"]
        assert cut == (len(tokenizer.encode(row["raw"])) > expected["max_words"])
        assert not any(row["input_ids"][row["length"] :])


def test_golden_batches_hold_the_published_ids(golden_dir: Path) -> None:
    legacy = golden_dir / "legacy"
    tokenizer = load_tokenizer(str(legacy / "bert"))
    (source,) = legacy.glob("data/*/test_caps.txt")
    captions = source.read_text(encoding="utf-8").split("\n")
    batches = load_file(legacy / "expected" / "camera_batches.safetensors")
    names = [name.removesuffix(".input_ids") for name in batches if name.endswith(".input_ids")]
    assert names
    for name in names:
        width = batches[f"{name}.input_ids"].shape[1]
        for row, number in enumerate(batches[f"{name}.ids"].tolist()):
            ids, _ = cut_ids(tokenizer, captions[number], width)
            assert batches[f"{name}.input_ids"][row].tolist() == ids + [0] * (width - len(ids))
            assert torch.equal(batches[f"{name}.attention_mask"][row], (torch.arange(width) < len(ids)).long())


def test_golden_vocabulary_is_the_same_from_a_saved_folder(golden_dir: Path, tmp_path: Path) -> None:
    shutil.copy(golden_dir / "legacy" / "bert" / "vocab.txt", tmp_path)
    older = load_tokenizer(str(tmp_path))
    save_tokenizer(older, tmp_path / "current")
    assert load_tokenizer(str(tmp_path / "current")).content_hash == older.content_hash
