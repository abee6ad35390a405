"""Processes that work as one, started by `torchrun`: what they share. Alone, every function here changes nothing.

Batches are sharded by rows: of R processes, process r has the rows r, r + R, r + 2R, … of the whole batch. Long
and short captions, which a batch holds sorted, are then spread evenly.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # noqa: F401  # before a group exists: see `process_group`
from torch import Tensor
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from selfalign_cli.errors import RunError
from selfalign_cli.launch import launched, restarts

T = TypeVar("T")

SPEECH_SECONDS = 2.0
"""How long a process that lost another one waits for it to say why."""
STORE_SECONDS = 5.0
JOIN_SECONDS = 600.0


class PeerLost(RunError):
    """Another process of this run has ended, so that this one cannot go on."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"another process of this run has ended without a word (killed? out of memory?): {reason}",
            "`torchrun --max-restarts N` goes on from last.ckpt by itself; without it, start again with --resume",
        )


def world_size() -> int:
    """Number R of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number r of this process, 0 ≤ r < R."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def process_group() -> Iterator[None]:
    """Be one of the processes that `torchrun` started, inside; nothing without it.

    At the end the group's threads are joined. One that still let go of its last tensor while Python ends would abort
    the process. `torch.distributed.nn.functional` keeps as default arguments whatever group exists when it is first
    imported, threads and all: so this module imports it.

    Raises:
        PeerLost: they did not all come.
    """
    if not launched() or dist.is_initialized():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _losing_a_peer():
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            # torch's own way finds the addresses of killed processes there after a restart.
            store = PrefixStore(f"selfalign/{restarts()}", _agent_store(JOIN_SECONDS))
            number, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
            dist.init_process_group(backend, store=store, rank=number, world_size=count)
        else:
            dist.init_process_group(backend)
    try:
        yield
        barrier()  # who ends first would take the others' connections along
    finally:
        dist.destroy_process_group()


def claims_error_output(error: Exception) -> bool:
    """Tell whether this process shall print an error: of all processes, the first that asks.

    Who only lost another process lets that one speak first.
    """
    if not launched():
        return True
    if isinstance(error, PeerLost):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends who is left; this one is about to
        time.sleep(SPEECH_SECONDS)
    try:
        spoken: int = _agent_store(STORE_SECONDS).add(f"selfalign/{restarts()}/spoken", 1)
    except (RuntimeError, ValueError):  # whoever kept the store is gone
        return True
    return spoken == 1


def shard() -> slice:
    """The rows of this process among those of a batch."""
    return slice(rank(), None, world_size())


def gather_rows(rows: Tensor, total: int) -> Tensor:
    """Gather the shards of all processes in the order of the whole batch: (n, …) -> (total, …).

    Every process must go on to compute the same from the result: the gradient of a process's rows is then its own.
    """
    if world_size() == 1:
        return rows
    if rows.dtype == torch.bool:
        return gather_rows(rows.to(torch.uint8), total).bool()
    gathered: Tensor = _GatherRows.apply(rows, total)  # type: ignore[no-untyped-call]
    return gathered


def gather_all(value: Tensor) -> Tensor:
    """The values of all processes, stacked in their order: (…) -> (R, …). Without gradient."""
    found = [torch.empty_like(value) for _ in range(world_size())]
    with _losing_a_peer():
        dist.all_gather(found, value.contiguous())
    return torch.stack(found)


def all_reduce(values: Sequence[Tensor]) -> None:
    """Replace tensors of any shapes, in place, by their sums over all processes."""
    if world_size() == 1:
        return
    with _losing_a_peer():
        for work in [dist.all_reduce(value, async_op=True) for value in values]:
            work.wait()


def barrier() -> None:
    """Wait until every process has come here."""
    all_reduce_max(0)


def all_reduce_max(number: int) -> int:
    """The largest of the processes' numbers; waits for no GPU."""
    if world_size() == 1:
        return number
    value = torch.tensor(number)
    with _losing_a_peer():
        dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value)


def broadcast(value: T) -> T:
    """What process 0 has, everywhere."""
    if world_size() == 1:
        return value
    held: list[Any] = [value]
    with _losing_a_peer():
        dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
    return held[0]  # type: ignore[no-any-return]


def all_gather_objects(value: T) -> list[T]:
    """What each process has, everywhere."""
    if world_size() == 1:
        return [value]
    held: list[Any] = [None] * world_size()
    with _losing_a_peer():
        dist.all_gather_object(held, value)
    return held


class _GatherRows(torch.autograd.Function):
    """`gather_rows` with its gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, total: int) -> Tensor:
        most = -(-total // world_size())
        padded = rows if len(rows) == most else torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])])
        return gather_all(padded).transpose(0, 1).reshape(most * world_size(), *rows.shape[1:])[:total]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad[shard()].contiguous(), None


def _agent_store(seconds: float) -> TCPStore:
    """What `torchrun` keeps for its processes, beyond the life of any of them."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(host, port, is_master=False, timeout=timedelta(seconds=seconds))


@contextmanager
def _losing_a_peer() -> Iterator[None]:
    """Whatever goes wrong between processes means that one of them is gone."""
    try:
        yield
    except RuntimeError as fault:  # torch's DistError is one
        raise PeerLost(str(fault).strip().partition("\n")[0] or type(fault).__name__) from fault
