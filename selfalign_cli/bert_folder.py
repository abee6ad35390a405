"""How a recipe names a BERT: a folder on this machine, or a model of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from selfalign_cli.errors import DataError

HUB_MARK = "hub:"


def local_folder(source: str) -> Path | None:
    """The folder that `source` names, or None when it names a hub model.

    A hub model is written `hub:owner/name`, or as a bare name without any slash or leading dot when no such folder
    exists. Everything else is a path: a mistyped one must not become a download.

    Args:
        source: `model.bert` of a recipe.

    Raises:
        DataError: it is a path, and no folder is there.
    """
    if source.startswith(HUB_MARK):
        return None
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise DataError(f"{source} is a file; expected the folder that holds BERT's files")
    if "/" in source or "\\" in source or source.startswith((".", "~")):
        raise DataError(
            f"there is no folder {source}; expected one that holds BERT's files",
            f"to take a model from the Hugging Face hub, write {HUB_MARK}{source.strip('./~')}",
        )
    return None


def hub_name(source: str) -> str:
    """Name of a hub model, without the mark."""
    return source.removeprefix(HUB_MARK)
