"""Read captions wherever they are kept: lines of text, a SCAN folder, Karpathy, COCO or plain JSON, a feature file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.features.stored import starts_as_hdf5
from selfalign_cli.errors import DataError

SCAN_CAPTIONS = "_caps.txt"
DEFAULT_SPLITS = ("train", "dev")
# Karpathy's names for the splits that others call train and dev.
KARPATHY_SPLITS = {"restval": "train", "val": "dev"}
UNREAD = ("tokens", "sentids")


def read_caption_lines(path: Path, what: str = "a caption") -> list[str]:
    r"""Read a text file with one caption (or what `what` names, for messages) a line.

    Lines end with "\n" and nothing else, whatever other line breaks Unicode knows; a "\r" before it is dropped, and a
    byte order mark at the start of the file too.

    Args:
        path: UTF-8 text.
        what: what a line holds.

    Returns:
        The captions as written.

    Raises:
        DataError: the file cannot be read; a line is not UTF-8 or empty (its number, from 1, is named).
    """
    lines = read_bytes(path).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if not lines:
        raise DataError(f"{path} is empty; expected {what} a line")
    captions = []
    for number, line in enumerate(lines, start=1):
        try:
            caption = line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as fault:
            raise DataError(
                f"{path}, line {number} is not UTF-8: byte 0x{line[fault.start]:02x} at column {fault.start + 1}",
                "convert the file to UTF-8, for instance with iconv",
            ) from fault
        if not caption.strip():
            raise DataError(f"{path}, line {number} is empty; expected {what}")
        captions.append(caption)
    return captions


def read_vocabulary_captions(source: Path, splits: Sequence[str] | None = None) -> list[str]:
    """Read the captions of one source of any known kind.

    Args:
        source: a text file, a SCAN folder, Karpathy's or COCO's JSON, or a feature file.
        splits: splits to read where the source has splits; None reads those of train and dev that exist.

    Raises:
        DataError: the source is missing, damaged or of no known kind, or lacks a requested split.
    """
    return [text for texts in chosen_splits(captions_by_split(source), source, splits).values() for text in texts]


def chosen_splits(
    by_split: dict[str | None, list[str]], source: Path, splits: Sequence[str] | None
) -> dict[str | None, list[str]]:
    """The splits to read of a source that `captions_by_split` has read; as for `read_vocabulary_captions`."""
    if None in by_split:
        return {None: by_split[None]}
    wanted = list(splits) if splits is not None else [name for name in DEFAULT_SPLITS if name in by_split]
    missing = [name for name in wanted if name not in by_split]
    if missing or not wanted:
        expected = ", ".join(missing or DEFAULT_SPLITS)
        has = ", ".join(str(name) for name in by_split) or "none"
        raise DataError(f"{source} lacks the split {expected}; it has {has}", "name splits with --splits")
    return {name: by_split[name] for name in wanted}


def read_bytes(path: Path) -> bytes:
    """Read a whole file.

    Raises:
        DataError: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as fault:
        raise DataError(f"there is no file {path}") from fault
    except (OSError, ValueError) as fault:
        raise DataError(f"cannot read {path}: {getattr(fault, 'strerror', None) or fault}") from fault


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: it is missing, not UTF-8 or not JSON (line and column are named).
    """
    return _parsed(path, None)


def read_captions_json(path: Path) -> Any:
    """Read a JSON file of captions, without what is never read: Karpathy's tokens are half a gigabyte in memory.

    Raises:
        DataError: as `read_json`.
    """
    return _parsed(path, _without_tokens)


def _without_tokens(found: dict[str, Any]) -> dict[str, Any]:
    for name in UNREAD:
        found.pop(name, None)
    return found


def _parsed(path: Path, hook: Callable[[dict[str, Any]], Any] | None) -> Any:
    try:
        return json.loads(read_bytes(path).decode("utf-8-sig"), object_hook=hook)
    except (ValueError, RecursionError) as fault:
        raise DataError(f"{path} is not JSON: {fault}") from fault


def captions_by_split(source: Path) -> dict[str | None, list[str]]:
    """Read all captions of a source of any known kind, by split; the one key None for a source without splits."""
    if source.is_dir():
        return _scan_folder(source)
    if starts_as_hdf5(source):
        file = FeatureFile(source)
        return {split: [file.captions[row] for row in file.split_captions(split)] for split in file.facts.splits}
    if source.suffix.lower() == ".json" or _is_json(source):
        return _json_captions(source)
    return {None: read_caption_lines(source)}


def _is_json(path: Path) -> bool:
    """Whether a file of another name is JSON, whose lines are no captions; a vocabulary, for instance."""
    content = read_bytes(path).lstrip()
    if content[:1] not in (b"{", b"["):
        return False
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def _scan_folder(folder: Path) -> dict[str | None, list[str]]:
    files = sorted(folder.glob(f"*{SCAN_CAPTIONS}"))
    if not files:
        raise DataError(f"{folder} holds no file named SPLIT{SCAN_CAPTIONS}; expected a SCAN folder or a caption file")
    return {file.name.removesuffix(SCAN_CAPTIONS): read_caption_lines(file) for file in files}


def _json_captions(path: Path) -> dict[str | None, list[str]]:
    content = read_captions_json(path)
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        return {None: [_text(path, row, "caption", f"annotation {i}") for i, row in enumerate(content["annotations"])]}
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        return _karpathy_captions(path, content["images"])
    if isinstance(content, list):
        return _listed_captions(path, content)
    raise DataError(
        f"{path} holds neither Karpathy's `images` with `sentences` nor COCO's `annotations` with `caption`, "
        "and is no list of entries with `split` and `captions`"
    )


def _listed_captions(path: Path, entries: list[Any]) -> dict[str | None, list[str]]:
    """Captions of a list like `[{"image": "dog.jpg", "split": "train", "captions": ["A dog."]}]`."""
    captions: dict[str | None, list[str]] = {}
    for number, entry in enumerate(entries):
        split = (
            None
            if isinstance(entry, dict) and "split" not in entry
            else _text(path, entry, "split", f"entry {number}")
        )
        texts = entry.get("captions")
        if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
            raise DataError(f"{path}, entry {number} has captions {texts!r:.80}; expected a list of texts")
        captions.setdefault(split, []).extend(texts)
    if None in captions and len(captions) > 1:
        raise DataError(
            f"{path} says no split for some entries, and one for others", "give every entry a split, or none"
        )
    return captions


def _karpathy_captions(path: Path, images: list[Any]) -> dict[str | None, list[str]]:
    captions: dict[str | None, list[str]] = {}
    for number, image in enumerate(images):
        where = f"image {number}"
        split = _text(path, image, "split", where)
        sentences = image.get("sentences")
        if not isinstance(sentences, list):
            raise DataError(f"{path}, {where} has no list `sentences`")
        texts = [_text(path, sentence, "raw", f"{where}, sentence {i}") for i, sentence in enumerate(sentences)]
        captions.setdefault(KARPATHY_SPLITS.get(split, split), []).extend(texts)
    return captions


def _text(path: Path, row: Any, key: str, where: str) -> str:
    """A non-empty text below a key of a JSON object."""
    value = row.get(key) if isinstance(row, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{path}, {where} has {key} {value!r}; expected a text")
    return value
