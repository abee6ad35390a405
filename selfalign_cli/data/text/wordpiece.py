"""WordPieces and their ids: the tokenizer below CAMERA's BERT, from a folder, from the hub or from its own text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from selfalign_cli.bert_folder import hub_name, local_folder, quiet_transformers
from selfalign_cli.data.alterations import EXEMPT
from selfalign_cli.data.atomic import replacing
from selfalign_cli.data.sandbox import completes_in_child
from selfalign_cli.errors import DataError, blaming

FORMAT = "selfalign-wordpieces"
VERSION = 1
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TRIALS = ("", "A dog.", "\u00c9t\u00e9 2024, \u72ac \U0001f415 [CLS]", "x" * 200)
"""Texts that a tokenizer is tried on before it is used."""
BARE = (Exception,)  # what tokenizers raises, and transformers and the hub client whatever they like
LONGEST_WORD = 100  # characters; a longer word is [UNK] (Reference: MODELS.md 1.5)


class WordPieceTokenizer:
    """Captions to ids: [CLS], pieces, [SEP]. Marks written in a caption are ordinary text.

    Args:
        tokenizer: a fast tokenizer with a post-processor that adds the marks.

    Raises:
        DataError: it adds no marks to a caption, or gives two pieces the same id.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        if tokenizer.num_special_tokens_to_add(False) == 0:
            raise DataError("the tokenizer adds no marks like [CLS] and [SEP]; expected that of a BERT-like encoder")
        _expect_one_id_each(tokenizer)

    def __len__(self) -> int:
        """Number of tokens, special ones included."""
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    @property
    def unknown(self) -> int:
        """Id of a word that cannot be made of pieces; -1 if there is no such id."""
        found = self._tokenizer.token_to_id("[UNK]")
        return -1 if found is None else int(found)

    @property
    def mask(self) -> int | None:
        """Id of what a piece of a masked word becomes; None where there is none."""
        found: int | None = self._tokenizer.token_to_id("[MASK]")
        return found

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) over everything that decides the ids of a caption."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Ids of a caption with its marks, however long."""
        ids: list[int] = self._encoding(text, marks=True).ids
        return ids

    def word_numbers(self, text: str) -> list[int]:
        """For each id of `encode`, the number of the word that it is a piece of; EXEMPT for marks."""
        return [EXEMPT if number is None else number for number in self._encoding(text, marks=True).word_ids]

    def unknown_words(self, text: str) -> list[str]:
        """The words of a caption that no pieces make, as they are written, each once."""
        encoding = self._encoding(text, marks=False)
        spans = zip(encoding.ids, encoding.offsets, strict=True)
        return list(dict.fromkeys(text[start:end] for number, (start, end) in spans if number == self.unknown))

    def word_spans(self, text: str) -> list[tuple[str, range]]:
        """The words of a caption as they are written, each with the positions of its pieces among the ids."""
        encoding = self._encoding(text, marks=True)
        places: dict[int, list[int]] = {}
        for place, word in enumerate(encoding.word_ids):
            if word is not None:
                places.setdefault(word, []).append(place)
        spans = [range(found[0], found[-1] + 1) for found in places.values()]
        return [(text[encoding.offsets[span[0]][0] : encoding.offsets[span[-1]][1]], span) for span in spans]

    def pieces(self, text: str) -> list[str]:
        """Pieces of a caption, without marks, for people to read."""
        pieces: list[str] = self._encoding(text, marks=False).tokens
        return pieces

    def _encoding(self, text: str, *, marks: bool) -> Encoding:
        with blaming(f"the tokenizer cannot split {text!r:.80}", "take a whole tokenizer.json", catch=BARE):
            return self._tokenizer.encode(text, add_special_tokens=marks)

    def to_text(self) -> str:
        """The content of a `tokenizer.json`."""
        text: str = self._tokenizer.to_str()
        return text

    def to_dict(self) -> dict[str, Any]:
        """The form that a checkpoint keeps."""
        return {"format": FORMAT, "version": VERSION, "tokenizer": self.to_text()}

    @classmethod
    def from_dict(cls, content: object) -> WordPieceTokenizer:
        """Read the form that a checkpoint keeps.

        Raises:
            DataError: it is none.
        """
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DataError(f"this is no WordPiece tokenizer; expected the format {FORMAT!r}")
        if content.get("version") != VERSION or not isinstance(content.get("tokenizer"), str):
            raise DataError(f"the tokenizer has version {content.get('version')!r}; this program reads {VERSION}")
        return tokenizer_from_text(content["tokenizer"])


def _expect_one_id_each(tokenizer: Tokenizer) -> None:
    """The library would use both of two pieces with one id, and store the first."""
    pieces: dict[int, str] = {}
    for piece, number in sorted(tokenizer.get_vocab(with_added_tokens=False).items()):
        if number in pieces:
            raise DataError(f"the tokenizer has the id {number} for {pieces[number]!r} and for {piece!r}")
        pieces[number] = piece


def tokenizer_from_text(text: str, *, source: str = "the tokenizer") -> WordPieceTokenizer:
    """Read the content of a `tokenizer.json`.

    Raises:
        DataError: it is none; `source` is named.
    """
    if not completes_in_child(partial(_try_out, text), size=len(text)):
        raise DataError(f"{source} is so damaged that the library which reads it fails", "fetch it again")
    with blaming(f"{source} is not a tokenizer.json", catch=BARE):
        tokenizer = Tokenizer.from_str(text)
    return WordPieceTokenizer(tokenizer)


def _try_out(text: str) -> None:
    """Call every method once: a damaged tokenizer may make the library panic and print."""
    tokenizer = WordPieceTokenizer(Tokenizer.from_str(text))
    for caption in TRIALS:
        tokenizer.encode(caption), tokenizer.pieces(caption)


def bert_tokenizer(
    pieces: Sequence[str], *, lowercase: bool = True, split_chinese: bool = False, source: str = "the vocabulary"
) -> WordPieceTokenizer:
    """Make BERT's tokenizer from its list of pieces (MODELS.md 1.5).

    Control characters are dropped, words are split at white space and around every punctuation mark, then covered by
    the longest pieces from the left; a word that cannot be covered is [UNK].

    Args:
        pieces: one per id; [UNK], [CLS] and [SEP] among them.
        lowercase: lower-case letters and drop accents.
        split_chinese: take every Chinese character as a word. Reference: the published programs do not.
        source: where the pieces came from, for messages.

    Raises:
        DataError: a special token is missing, or a piece occurs twice.
    """
    ids = {piece: number for number, piece in enumerate(pieces)}
    if len(ids) != len(pieces):
        twice = next(piece for number, piece in enumerate(pieces) if ids[piece] != number)
        raise DataError(f"{source} holds the piece {twice!r} twice; expected every piece once")
    missing = [token for token in ("[UNK]", "[CLS]", "[SEP]") if token not in ids]
    if missing:
        raise DataError(f"{source} lacks {', '.join(missing)}; expected BERT's special tokens among its pieces")
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD))
    tokenizer.normalizer = bert_normalizer(lowercase=lowercase, split_chinese=split_chinese)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([token for token in SPECIAL_TOKENS if token in ids])
    return WordPieceTokenizer(tokenizer)


def bert_normalizer(*, lowercase: bool, split_chinese: bool) -> normalizers.Normalizer:
    """BERT's clean-up of a caption before it is split into words."""
    return normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=split_chinese, strip_accents=lowercase, lowercase=lowercase
    )


def load_tokenizer(source: str, *, published: bool = False, split_chinese: bool = False) -> WordPieceTokenizer:
    """Load the tokenizer of a BERT folder or of a hub model.

    Args:
        source: a folder with `tokenizer.json`, `vocab.txt`, or other files that `transformers` knows;
            `hub:owner/name`, or a bare hub name. Only a hub model is ever downloaded.
        published: read `vocab.txt` as the published programs do, lower-casing, whatever the folder's settings are.
        split_chinese: and take every Chinese character as a word, as VSE∞ does and CAMERA does not.

    Raises:
        DataError: there is no such folder, or no tokenizer in it.
    """
    folder = local_folder(source)
    if folder is None:
        return _from_transformers(hub_name(source), local=False)
    vocab = folder / "vocab.txt"
    if published and vocab.exists():
        return bert_tokenizer(_read_pieces(vocab), split_chinese=split_chinese, source=str(vocab))
    if (folder / "tokenizer.json").exists():
        path = folder / "tokenizer.json"
        return tokenizer_from_text(_read(path), source=str(path))
    if vocab.exists():
        return _from_vocab(vocab)
    if not (folder / "tokenizer_config.json").exists():
        raise DataError(f"{folder} holds no tokenizer; expected tokenizer.json or vocab.txt")
    return _from_transformers(str(folder), local=True)


def save_tokenizer(tokenizer: WordPieceTokenizer, folder: Path) -> None:
    """Write a folder that this program and `transformers` load: tokenizer.json, its config, and vocab.txt.

    Each file is replaced as a whole.

    Raises:
        DataError: the folder cannot be written to.
        RunError: the disk is full.
    """
    text = tokenizer.to_text()
    content = json.loads(text)
    ids: dict[str, int] = content["model"]["vocab"]
    normalizer = content["normalizer"]
    config = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": normalizer["lowercase"],
        "strip_accents": normalizer["strip_accents"],
        "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
        **{f"{token.strip('[]').lower()}_token": token for token in SPECIAL_TOKENS},
    }
    files = {
        "vocab.txt": "".join(f"{piece}\n" for piece in sorted(ids, key=lambda piece: ids[piece])),
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
        "tokenizer.json": text + "\n",
    }
    for name, lines in files.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(lines, encoding="utf-8", newline="\n")


def _from_vocab(path: Path) -> WordPieceTokenizer:
    """Read a folder without tokenizer.json; missing settings are inferred, or are those of 2019."""
    pieces = _read_pieces(path)
    config = _read_config(path.with_name("tokenizer_config.json"))
    # An uncased vocabulary has no capital letters; lower-casing for a cased one would silently ruin its captions.
    cased = any(piece != piece.lower() for piece in pieces if not piece.startswith("["))
    return bert_tokenizer(
        pieces,
        lowercase=bool(config.get("do_lower_case", not cased)),
        split_chinese=bool(config.get("tokenize_chinese_chars", bool(config))),
        source=str(path),
    )


def _from_transformers(name: str, *, local: bool) -> WordPieceTokenizer:
    """Let `transformers` find and convert the files of other tokenizers (byte pairs, SentencePiece)."""
    hint = None if local else f"{name} is no folder here, so the hub was asked; a folder may be given instead"
    with quiet_transformers():
        from transformers import AutoTokenizer

        with blaming(f"cannot load the tokenizer of {name}", hint, catch=BARE):
            found = AutoTokenizer.from_pretrained(name, local_files_only=local, trust_remote_code=False)
            backend = found.backend_tokenizer
    return WordPieceTokenizer(backend)


def _read_pieces(path: Path) -> list[str]:
    """Pieces of a vocab.txt, one a line; only a line feed ends a line, for pieces may be other separators."""
    lines = _read(path).split("\n")
    return [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        config = json.loads(_read(path))
    except (ValueError, RecursionError) as fault:
        raise DataError(f"{path} is not JSON: {fault}") from fault
    if not isinstance(config, dict):
        raise DataError(f"{path} holds a {type(config).__name__}; expected settings by name")
    return config


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as fault:
        raise DataError(f"cannot read {path}: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise DataError(f"{path} is not UTF-8 text: byte {fault.start} cannot be decoded") from fault
