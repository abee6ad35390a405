"""`selfalign build-vocab`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from selfalign_cli.cli.console import progress, show_table
from selfalign_cli.cli.options import OverwriteOpt

CaptionsArg = Annotated[
    list[Path],
    typer.Argument(
        metavar="CAPTIONS",
        help="Text file with one caption a line, SCAN folder, Karpathy or COCO JSON, or feature file.",
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
    Literal["treebank", "treebank-line", "nltk-punkt"],
    typer.Option("--tokenizer", help="Splitter of whole words; the vocabulary keeps its name."),
]
LowercaseOpt = Annotated[
    Literal["unicode", "ascii"], typer.Option("--lowercase", help="Lower every letter of whole words, or only A to Z.")
]
KindOpt = Annotated[Literal["words", "wordpiece"], typer.Option("--kind", help="Whole words, or WordPieces for BERT.")]
SizeOpt = Annotated[int, typer.Option("--size", min=1, help="Largest number of WordPieces.")]


def build_vocab(
    captions: CaptionsArg,
    out: OutOpt,
    min_count: MinCountOpt = None,
    splits: SplitsOpt = None,
    tokenizer: TokenizerOpt = "treebank",
    lowercase: LowercaseOpt = "unicode",
    kind: KindOpt = "words",
    size: SizeOpt = 8000,
    overwrite: OverwriteOpt = False,
) -> None:
    """Collect the words of captions into a vocabulary.

    Example: selfalign build-vocab data/f30k.h5 --out data/f30k_vocab.json
    """
    from selfalign_cli.data.atomic import refuse_existing
    from selfalign_cli.data.captions import read_vocabulary_captions

    refuse_existing(out, overwrite)
    wanted = None if splits is None else [name.strip() for name in splits.split(",") if name.strip()]
    texts = [text for source in captions for text in read_vocabulary_captions(source, wanted)]
    if kind == "wordpiece":
        rows = _build_wordpieces(texts, out, size, 2 if min_count is None else min_count)
    else:
        source = " ".join(str(path) for path in captions)
        rows = _build_words(texts, out, 4 if min_count is None else min_count, tokenizer, lowercase, source, overwrite)
    show_table(["", ""], [["captions", f"{len(texts):,}"], *rows], title=str(out))


def _build_words(
    texts: list[str], out: Path, min_count: int, tokenizer: str, lowercase: str, source: str, overwrite: bool
) -> list[list[str]]:
    from selfalign_cli.data.vocab import build_vocabulary

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


def _build_wordpieces(texts: list[str], out: Path, size: int, min_count: int) -> list[list[str]]:
    from selfalign_cli.data.wordpiece import save_tokenizer
    from selfalign_cli.data.wordpiece_training import build_wordpieces

    tokenizer = build_wordpieces(texts, size=size, min_count=min_count)
    save_tokenizer(tokenizer, out)
    return [["pieces", f"{len(tokenizer):,}"]]
