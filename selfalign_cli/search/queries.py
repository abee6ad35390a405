"""What may be asked, without loading anything."""

from __future__ import annotations

import re
from pathlib import Path

from selfalign_cli.errors import DataError

LONGEST_QUERY = 10_000
"""Characters of a query."""


def is_engine_address(text: str | Path) -> bool:
    """Whether a text names an engine, not a folder."""
    return re.match(r"(milvus:|postgres(ql)?:/)", str(text)) is not None


def check_query(text: str) -> None:
    """Refuse what cannot be looked for.

    Raises:
        DataError: an empty or overlong text.
    """
    if not text.strip():
        raise DataError("the query is empty", 'ask for something: selfalign search INDEX "a dog in snow"')
    if len(text) > LONGEST_QUERY:
        raise DataError(f"the query has {len(text):,} characters; expected {LONGEST_QUERY:,} at most")


def read_queries(path: Path) -> list[str]:
    """Queries of a text file, one a line; empty lines are left out.

    Raises:
        DataError: missing, not UTF-8, or without a query.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as fault:
        raise DataError(f"cannot read {path}: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise DataError(f"{path} is not UTF-8 text: byte {fault.start}", "save it as UTF-8, a query a line") from fault
    return non_empty(text, str(path))


def non_empty(text: str, where: str) -> list[str]:
    """The lines of a text that hold something.

    Raises:
        DataError: there is none.
    """
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise DataError(f"{where} holds no query; expected one a line")
    return found
