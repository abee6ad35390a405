"""`selfalign build-vocab`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from selfalign_cli.cli.console import show_table
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
    from selfalign_cli.data.text.captions import read_vocabulary_captions
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
    texts = [text for source in captions for text in read_vocabulary_captions(source, wanted)]
    if kind == "wordpiece":
        rows = _build_wordpieces(texts, out, size or 8000, 2 if min_count is None else min_count)
    else:
        source = " ".join(str(path) for path in captions)
        count = 4 if min_count is None else min_count
        rows = _build_words(texts, out, count, splitter, lowercase or "unicode", source, overwrite)
    show_table(["", ""], [["captions", f"{len(texts):,}"], *rows], title=str(out))


def _check_unused(kind: str, of_words: dict[str, object], of_pieces: dict[str, object]) -> None:
    """Refuse options of the other kind."""
    options, needed = (of_words, "words") if kind == "wordpiece" else (of_pieces, "wordpiece")
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise DataError(f"{', '.join(given)}: only for --kind {needed}", "leave it out")


def _build_words(
    texts: list[str], out: Path, min_count: int, tokenizer: str, lowercase: str, source: str, overwrite: bool
) -> list[list[str]]:
    from selfalign_cli.data.text.vocab import build_vocabulary

    with progress("count words: captions", len(texts)) as advance:
        vocabulary = build_vocabulary(
            texts, min_count=min_count, tokenizer=tokenizer, lowercase=lowercase, source=source, on_caption=advance
        )
    vocabulary.save(out, overwrite=overwrite)
    return [
        ["words", f"{len(vocabulary):,}, those that occur {min_count} times or more"],
        ["tokenizer", f"{tokenizer}, {lowercase} lower case"],
        ["content hash", vocabulary.content_hash],
    ]


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


def _build_wordpieces(texts: list[str], out: Path, size: int, min_count: int) -> list[list[str]]:
    from selfalign_cli.data.text.wordpiece import save_tokenizer
    from selfalign_cli.data.text.wordpiece_training import build_wordpieces

    tokenizer = build_wordpieces(texts, size=size, min_count=min_count)
    save_tokenizer(tokenizer, out)
    return [["pieces", f"{len(tokenizer):,}"]]
