"""Results to stdout; messages and errors to stderr; text from data always escaped.

Rich's markup is off, so that brackets in a path are printed, and control characters are escaped.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING, TextIO

from selfalign_cli.errors import SelfAlignError
from selfalign_cli.launch import launched

if TYPE_CHECKING:
    from selfalign_cli.metrics.report import RetrievalReport

NUMBER = re.compile(r"[-+]?[0-9][0-9,.]*(e[-+]?[0-9]+)?( ?(%|s|±.*))?$")
"""A cell that is set flush right: `1,000`, `41.2 ±3.1`, `12 %`."""
UNLIMITED = 1_000_000
"""Width of tables that go to a file or a pipe, in characters."""


def printable(text: str) -> str:
    """Escape everything but printable characters and line ends, e.g. a terminal sequence hidden in a caption."""
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def write(stream: TextIO, text: str) -> None:
    """Print a line, escaping what the encoding of the stream cannot express."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def show_error(error: SelfAlignError) -> None:
    """Print `error: …` and, when there is one, `hint: …` on stderr; of several processes, one does."""
    stream = sys.stderr
    if launched():
        from selfalign_cli.parallel import claims_error_output

        if not claims_error_output(error):
            return
        stream = sys.__stderr__ or stream
    write(stream, f"error: {printable(error.message)}")
    if error.hint:
        write(stream, f"hint: {printable(error.hint)}")


def show_message(text: str) -> None:
    """Print one message on stderr."""
    write(sys.stderr, printable(text))


def show_json(document: object) -> None:
    """Print one JSON document on stdout."""
    write(sys.stdout, json.dumps(document, indent=2, allow_nan=False))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """Print a table on stdout, in columns that blanks align; on a terminal, cells that are too wide are folded.

    Args:
        columns: headings; all empty for a table without a heading line.
        rows: cells as text, one row as long as `columns`. Columns of numbers are set flush right.
        title: a line above.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if title:
        write(sys.stdout, printable(title))
    if not rows and not any(columns):
        return
    table = Table(box=None, pad_edge=False, show_header=any(columns), header_style="")
    for position, name in enumerate(columns):
        numbers = bool(rows) and all(NUMBER.match(row[position]) for row in rows)
        table.add_column(Text(name), justify="right" if numbers else "left", overflow="fold", no_wrap=numbers)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else UNLIMITED
    drawn = StringIO()
    Console(file=drawn, width=width, color_system=None, force_terminal=False).print(table)
    for line in drawn.getvalue().splitlines():
        write(sys.stdout, line.rstrip())


def show_report(report: RetrievalReport, as_json: bool, ranks: bool = False) -> None:
    """Print a retrieval report on stdout.

    Args:
        report: the result.
        as_json: one JSON document instead of a table.
        ranks: in the document, the rank of every query too.
    """
    if as_json:
        show_json(report.to_json(ranks))
        return
    from selfalign_cli.metrics.report import HEADER

    counted = f"{report.images:,} images, {report.captions:,} captions"
    folds = f", mean of {report.folds} folds" if report.folds > 1 else ""
    show_table(HEADER, report.rows(), title=f"{report.split}: {counted}{folds}")
    write(sys.stdout, f"rsum {report.rsum:.1f}")
    if report.eccv is not None:
        rows = [[name, f"{part['i2t']:.1f}", f"{part['t2i']:.1f}"] for name, part in report.eccv.items()]
        show_table(["", "image → text", "text → image"], rows)
    if report.cxc is not None:
        recalls = list(report.cxc["i2t"])
        rows = [[name, *(f"{part[recall]:.1f}" for recall in recalls)] for name, part in report.cxc.items()]
        show_table(["CxC", *(recall.upper().replace("R", "R@") for recall in recalls)], rows)
    write(sys.stdout, f"signature: {printable(report.signature)}")
