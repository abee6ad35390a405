"""What loading a BERT and loading its tokenizer share: how a recipe names them; keeping `transformers` quiet."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfalign_cli.errors import DataError

HUB_MARK = "hub:"
_OWNER_AND_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


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
        hint = "check the path; relative ones start at the working directory"
        if _OWNER_AND_NAME.fullmatch(source):
            hint += f". A model of the Hugging Face hub is written {HUB_MARK}{source}"
        raise DataError(f"there is no folder {source}; expected one that holds BERT's files", hint)
    return None


def hub_name(source: str) -> str:
    """Name of a hub model, without the mark."""
    return source.removeprefix(HUB_MARK)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep the reports, warnings and bars of `transformers` off the user's screen."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_verbosity = hub_logging.get_verbosity()
    logging.set_verbosity_error()
    hub_logging.set_verbosity(logging.ERROR)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if bar:
            logging.enable_progress_bar()
