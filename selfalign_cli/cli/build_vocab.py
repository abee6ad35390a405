"""`selfalign build-vocab`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import typer

from selfalign_cli.cli.console import show_message, show_table
from selfalign_cli.cli.options import OverwriteOpt
from selfalign_cli.cli.progress import progress
from selfalign_cli.errors import DataError

CaptionsArg = Annotated[
    list[Path],
    typer.Argument(
        metavar="CAPTIONS",
        help="Text file with one caption a line, SCAN folder, Karpathy or COCO JSON, or feature file; "
        "or one vocabulary of another program (SCAN's JSON, VSRN's pickle), whose ids are kept.",
    ),
]
OutOpt = Annotated[
    Path, typer.Option("--out", metavar="PATH", help="Vocabulary (JSON) to make; a folder for WordPieces.")
]
MinCountOpt = Annotated[
    int | None,
    typer.Option(
        "--min-count",
        min=1,
        help="Leave out words that occur less often (default 4), or merge no pairs that do (WordPieces; default 2).",
        show_default=False,
    ),
]
SplitsOpt = Annotated[
    str | None,
    typer.Option(
        "--splits",
        metavar="A,B",
        help="Splits to count words in, where a source has splits; default: train and dev.",
        show_default=False,
    ),
]
TokenizerOpt = Annotated[
    Literal["treebank", "treebank-line", "nltk-punkt"] | None,
    typer.Option(
        "--tokenizer",
        help="Splitter of whole words (default treebank); the vocabulary keeps its name.",
        show_default=False,
    ),
]
LowercaseOpt = Annotated[
    Literal["unicode", "ascii"] | None,
    typer.Option(
        "--lowercase",
        help="Lower every letter of whole words, or only A to Z (default for a vocabulary of another program).",
        show_default=False,
    ),
]
KindOpt = Annotated[Literal["words", "wordpiece"], typer.Option("--kind", help="Whole words, or WordPieces for BERT.")]
SizeOpt = Annotated[
    int | None, typer.Option("--size", min=1, help="Largest number of WordPieces (default 8000).", show_default=False)
]


def build_vocab(
    captions: CaptionsArg,
    out: OutOpt,
    min_count: MinCountOpt = None,
    splits: SplitsOpt = None,
    tokenizer: TokenizerOpt = None,
    lowercase: LowercaseOpt = None,
    kind: KindOpt = "words",
    size: SizeOpt = None,
    overwrite: OverwriteOpt = False,
) -> None:
    """Collect the words of captions into a vocabulary.

    Example: selfalign build-vocab data/f30k.h5 --out data/f30k_vocab.json
    """
    from selfalign_cli.data.atomic import refuse_existing
    from selfalign_cli.data.text.captions import captions_by_split, chosen_splits
    from selfalign_cli.data.text.coverage import unknown_in
    from selfalign_cli.published.vocabulary import is_foreign_vocabulary

    refuse_existing(out, overwrite, captions)
    _check_unused(kind, {"--tokenizer": tokenizer, "--lowercase": lowercase}, {"--size": size})
    splitter = tokenizer or "treebank"
    if any(map(is_foreign_vocabulary, captions)):
        counting = min_count is not None or splits is not None or kind != "words"
        show_table(
            ["", ""],
            _import_words(captions, out, counting, splitter, lowercase or "ascii", overwrite),
            title=str(out),
        )
        return
    wanted = None if splits is None else [name.strip() for name in splits.split(",") if name.strip()]
    read = [(source, captions_by_split(source)) for source in captions]
    chosen = [part for source, parts in read for part in chosen_splits(parts, source, wanted).items()]
    dev = [text for _, parts in read for text in parts.get("dev", ())]
    if kind == "wordpiece":
        texts = [text for _, part in chosen for text in part]
        rows = _build_wordpieces(texts, dev, out, size or 8000, 2 if min_count is None else min_count)
        show_table(["", ""], [["captions", f"{len(texts):,}"], *rows], title=str(out))
        return
    names = {name for name, _ in chosen}
    others = [] if "dev" in names else [("dev", dev)]
    counts = _counted([*chosen, *others], tokenizer=splitter, lowercase=lowercase or "unicode")
    count, all_counts = 4 if min_count is None else min_count, sum((counts[name] for name in names), Counter[str]())
    source = " ".join(str(path) for path in captions)
    rows = _build_words(all_counts, out, count, splitter, lowercase or "unicode", source, overwrite)
    number = sum(len(part) for _, part in chosen)
    show_table(["", ""], [["captions", f"{number:,}"], *rows], title=str(out))
    if dev:
        _show_unknown(all_counts, counts["dev"], count)
    if {"train", "dev"} <= names:
        share = unknown_in(counts["dev"], counts["train"]).occurrences
        show_message(f"dev was counted too; {share:.1%} of its word occurrences are words that train never shows")


def _check_unused(kind: str, of_words: dict[str, object], of_pieces: dict[str, object]) -> None:
    """Refuse options of the other kind."""
    options, needed = (of_words, "words") if kind == "wordpiece" else (of_pieces, "wordpiece")
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise DataError(f"{', '.join(given)}: only for --kind {needed}", "leave it out")


def _counted(
    parts: list[tuple[str | None, list[str]]], *, tokenizer: str, lowercase: str
) -> dict[str | None, Counter[str]]:
    """Count the words of captions, by split."""
    from selfalign_cli.data.text.vocab import count_words

    counts: dict[str | None, Counter[str]] = {}
    with progress("count words: captions", sum(len(texts) for _, texts in parts)) as advance:
        for name, texts in parts:
            found = count_words(texts, tokenizer=tokenizer, lowercase=lowercase, on_caption=advance)
            counts.setdefault(name, Counter()).update(found)
    return counts


def _build_words(
    counts: Counter[str], out: Path, min_count: int, tokenizer: str, lowercase: str, source: str, overwrite: bool
) -> list[list[str]]:
    from selfalign_cli.data.text.vocab import vocabulary_of

    vocabulary = vocabulary_of(counts, min_count=min_count, tokenizer=tokenizer, lowercase=lowercase, source=source)
    vocabulary.save(out, overwrite=overwrite)
    return [
        ["words", f"{len(vocabulary):,}, those that occur {min_count} times or more"],
        ["tokenizer", f"{tokenizer}, {lowercase} lower case"],
        ["content hash", vocabulary.content_hash],
    ]


def _show_unknown(counts: Counter[str], dev: Counter[str], min_count: int) -> None:
    """Show which share of dev's words is unknown, by least count."""
    from selfalign_cli.data.text.coverage import choices

    show_table(
        ["dev, left unknown", "words kept", "of occurrences", "of different words"],
        [
            [
                f"--min-count {choice.min_count}{' (written)' if choice.min_count == min_count else ''}",
                f"{choice.size:,}",
                f"{choice.unknown.occurrences:.1%}",
                f"{choice.unknown.words:.1%}",
            ]
            for choice in choices(counts, dev, min_count)
        ],
    )


def _import_words(
    sources: list[Path], out: Path, counting: bool, tokenizer: str, lowercase: str, overwrite: bool
) -> list[list[str]]:
    """Take over a vocabulary of another program as it is."""
    from selfalign_cli.published.vocabulary import is_foreign_vocabulary, read_foreign_vocabulary

    if counting or len(sources) > 1:
        name = next(filter(is_foreign_vocabulary, sources))
        raise DataError(
            f"{name} is a finished vocabulary: its ids are kept, and nothing is counted",
            "name it alone, without --min-count, --splits and --kind",
        )
    vocabulary = read_foreign_vocabulary(sources[0], tokenizer=tokenizer, lowercase=lowercase)
    vocabulary.save(out, overwrite=overwrite)
    return [
        ["words", f"{len(vocabulary):,}, with the ids of {sources[0]}"],
        ["tokenizer", f"{tokenizer}, {lowercase} lower case"],
        ["content hash", vocabulary.content_hash],
    ]


def _build_wordpieces(texts: list[str], dev: list[str], out: Path, size: int, min_count: int) -> list[list[str]]:
    from selfalign_cli.data.text.coverage import pieces_of
    from selfalign_cli.data.text.wordpiece import save_tokenizer
    from selfalign_cli.data.text.wordpiece_training import build_wordpieces, count_words

    tokenizer = build_wordpieces(texts, size=size, min_count=min_count)
    save_tokenizer(tokenizer, out)
    rows = [["pieces", f"{len(tokenizer):,}"]]
    if dev:
        unknown, pieces = pieces_of(tokenizer, count_words(dev))
        shares = f"{unknown.occurrences:.1%} of word occurrences, {unknown.words:.1%} of different words"
        rows += [["unknown in dev", shares], ["pieces a word", f"{pieces:.2f} in dev"]]
    return rows
