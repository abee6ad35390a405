"""`selfalign import-checkpoint`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from selfalign_cli.cli.console import show_message, show_table, write
from selfalign_cli.cli.options import OverwriteOpt

OldArg = Annotated[
    Path,
    typer.Argument(metavar="OLD", help="model_best.pth.tar (VSE∞: model_best.pth) of the published scripts."),
]
OutOpt = Annotated[Path, typer.Option("--out", metavar="FILE", help="Checkpoint to write.", show_default=False)]
VocabOpt = Annotated[
    Path | None,
    typer.Option("--vocab", metavar="FILE", help="VSRN, VSE∞: vocabulary of the run, as pickle or JSON."),
]
BertOpt = Annotated[
    Path | None,
    typer.Option("--bert", metavar="DIR", help="CAMERA, VSE∞: BERT folder of the run; its weights are not read."),
]
TokenizerOpt = Annotated[
    Literal["treebank", "treebank-line", "nltk-punkt"] | None,
    typer.Option(
        "--tokenizer", help="Words: how captions are split. nltk-punkt is what the scripts do, and needs data."
    ),
]
LowercaseOpt = Annotated[
    Literal["ascii", "unicode"] | None,
    typer.Option("--lowercase", help="Words: letters that are lower-cased; VSRN lowers ASCII ones only, VSE∞ all."),
]
DataOpt = Annotated[
    Path | None, typer.Option("--data", metavar="FILE", help="Feature file that eval reads when none is named.")
]


def import_checkpoint(
    source: OldArg,
    out: OutOpt,
    vocab: VocabOpt = None,
    bert: BertOpt = None,
    tokenizer: TokenizerOpt = None,
    lowercase: LowercaseOpt = None,
    data: DataOpt = None,
    overwrite: OverwriteOpt = False,
) -> None:
    """Convert a checkpoint of the published VSRN, CAMERA, VSE∞ or SelfAlign scripts; nothing of it is run.

    It then scores as the published script does at the same batch size; eval --compat corrected scores it without
    the influence of padding.

    Example: selfalign import-checkpoint model_best.pth.tar --vocab f30k_precomp_vocab.pkl --out vsrn.ckpt
    """
    from selfalign_cli.published.importing import ImportSources
    from selfalign_cli.published.importing import import_checkpoint as convert

    sources = ImportSources(vocab, bert, tokenizer, lowercase, data)
    imported = convert(source, out, sources, overwrite=overwrite)
    for note in imported.notes:
        show_message(note)
    show_table(["", ""], [[name, fact] for name, fact in {**imported.summary, "written": str(out)}.items()])
    write(sys.stdout, imported.limits)
