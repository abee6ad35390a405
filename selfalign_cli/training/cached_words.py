"""`data.cache_words`: the token states of a frozen BERT, computed once and kept in files of the run folder.

Size on disk: captions x mean number of tokens x BERT's width x 4 bytes. With a BERT of width 768 and some 14 tokens a
caption that is 43 kB a caption: 6 GB for the 150,000 captions of Flickr30K's train and dev, 25 GB for MSCOCO. Memory
holds one batch; the rest is the system's file cache.

A state is computed in another batch than in training, so it may differ from the uncached one by rounding, and by no
more: BERT reads real tokens only.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import torch

from selfalign_cli.assembly.checkpoint import hash_of_state
from selfalign_cli.data.atomic import replacing
from selfalign_cli.data.features.array_in_file import ArrayInFile
from selfalign_cli.data.formats.arrays import NpyRows
from selfalign_cli.data.text.token_table import TokenTable
from selfalign_cli.errors import DataError, RunError
from selfalign_cli.models.token_encoder import TokenEncoder
from selfalign_cli.training.trainer import TrainingData

FOLDER = "cache"
NUMBER = np.dtype("<f4")
CAPTIONS_PER_MESSAGE = 10_000
Notify = Callable[[str], None]


def with_cached_words(
    data: TrainingData, tokens: TokenEncoder, run: Path, *, batch_size: int, device: torch.device, notify: Notify
) -> TrainingData:
    """Give the captions of train and dev their token states, from files of an earlier start or computed now.

    Args:
        data: the training data.
        tokens: the token encoder on `device`, with the weights of BERT that the run trains with.
        run: the run folder, which exists; the states go to its folder `cache`.
        batch_size: captions that BERT sees at once.
        device: where to compute.
        notify: shows a message.

    Raises:
        RunError: there is not enough space on the disk.
        DataError: the folder cannot be written to.
    """
    folder = run / FOLDER
    tables = (data.pairs.tokens, data.dev.tokens)
    paths = [folder / f"{key}.npy" for key in _keys(tokens, tables)]
    width = tokens.width
    for left_over in folder.glob(".*.npy.*.tmp"):
        left_over.unlink(missing_ok=True)
    missing = [table for path, table in zip(paths, tables, strict=True) if _open(path, table, width) is None]
    if missing:
        count = sum(len(table.ids) for table in missing)
        require_space(run, captions=sum(map(len, missing)), tokens=count, width=width)
    cached = [
        _cached(table, path, tokens, batch_size=batch_size, device=device, notify=notify)
        for path, table in zip(paths, tables, strict=True)
    ]
    pairs = copy(data.pairs)
    pairs.tokens = cached[0]
    return replace(data, pairs=pairs, dev=replace(data.dev, tokens=cached[1]))


def require_space(folder: Path, *, captions: int, tokens: int, width: int) -> None:
    """Check that the states fit on the disk.

    Raises:
        RunError: they do not.
    """
    needed, free = tokens * width * NUMBER.itemsize, shutil.disk_usage(folder).free
    if needed > free:
        raise RunError(
            f"data.cache_words needs {needed / 1e9:,.1f} GB for {captions:,} captions ({tokens:,} tokens x {width} "
            f"numbers x {NUMBER.itemsize} bytes); {folder} has {free / 1e9:,.1f} GB left",
            "free some space, choose another run.dir, or set data.cache_words: false",
        )


def _keys(tokens: TokenEncoder, tables: Iterable[TokenTable]) -> list[str]:
    """A hash for each table, of all that decides its states: BERT's sizes and weights, the ids, their lengths."""
    bert = hashlib.sha256(json.dumps(tokens.config.to_dict(), sort_keys=True, default=str).encode())
    bert.update(hash_of_state(tokens.bert.state_dict()).encode())
    keys = []
    for table in tables:
        whole = bert.copy()
        whole.update(table.offsets.tobytes())
        whole.update(table.ids.tobytes())
        keys.append(whole.hexdigest()[:16])
    return keys


def _cached(
    table: TokenTable, path: Path, tokens: TokenEncoder, *, batch_size: int, device: torch.device, notify: Notify
) -> TokenTable:
    """Return the table with its states, which are computed unless a complete file exists."""
    width = tokens.width
    states = _open(path, table, width)
    if states is None:
        notify(f"computing BERT's states of {len(table):,} captions, once, into {path}")
        with replacing(path) as temporary, temporary.open("wb") as stream:
            _write(stream, table, tokens, batch_size=batch_size, device=device, notify=notify)
        states = _open(path, table, width)
        if states is None:
            raise RunError(f"{path} was changed while it was written", "start again with --resume")
    return replace(table, states=states)


def _open(path: Path, table: TokenTable, width: int) -> ArrayInFile | None:
    """Open a file of states; None if it does not exist or is incomplete."""
    try:
        found = NpyRows(path, axes=2)
    except DataError:
        return None
    return found.stored if (found.shape, found.dtype) == ((len(table.ids), width), NUMBER) else None


@torch.inference_mode()
def _write(
    stream: IO[bytes],
    table: TokenTable,
    tokens: TokenEncoder,
    *,
    batch_size: int,
    device: torch.device,
    notify: Notify,
) -> None:
    """Write the states of every caption at its offset; captions of similar length go through BERT together."""
    width = tokens.width
    header = {"descr": NUMBER.str, "fortran_order": False, "shape": (len(table.ids), width)}
    np.lib.format.write_array_header_1_0(stream, header)
    start = stream.tell()
    tokens.bert.eval()
    order = np.argsort(table.lengths(np.arange(len(table))), kind="stable")
    notified = 0
    for done in range(0, len(order), batch_size):
        rows = order[done : done + batch_size]
        texts = table.batch(rows).to(device)
        states = tokens.states(texts).float().cpu().numpy().astype(NUMBER, copy=False)
        for row, length, caption in zip(rows, table.lengths(rows), states, strict=True):
            stream.seek(start + int(table.offsets[row]) * width * NUMBER.itemsize)
            stream.write(caption[:length].tobytes())
        if done - notified >= CAPTIONS_PER_MESSAGE:
            notified = done
            notify(f"BERT's states: {done:,} of {len(order):,} captions")
