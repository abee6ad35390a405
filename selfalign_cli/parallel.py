"""Communication between the processes of a `torchrun`. In a single process, every function is the identity.

Batches are sharded by rows: of R processes, process r has the rows r, r + R, r + 2R, … of the whole batch. Captions,
which are sorted by length in a batch, are then balanced.
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

ERROR_DELAY_SECONDS = 2.0
"""How long a process that lost a peer waits before it prints its error: the peer may print the cause."""
STORE_SECONDS = 5.0
JOIN_SECONDS = 600.0


class PeerLost(RunError):
    """Another process of this run has ended, so this one cannot continue."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"another process of this run has ended without a word (killed? out of memory?): {reason}",
            "`torchrun --max-restarts N` goes on by itself; without it, start again with --resume",
        )


def world_size() -> int:
    """Return the number R of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number r of this process, 0 ≤ r < R."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def process_group(*, patience: timedelta | None = None) -> Iterator[None]:
    """Join the process group of `torchrun`; do nothing without it.

    Args:
        patience: how long processes wait for one that is alive; None for what torch says, half an hour.

    At the end the threads of the group are joined: one that still freed a tensor during interpreter shutdown would
    abort the process. `torch.distributed.nn.functional` keeps the group that exists when it is first imported as a
    default argument, with its threads, so this module imports it early.

    Raises:
        PeerLost: not all processes joined.
    """
    if not launched() or dist.is_initialized():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _peer_lost_on_failure():
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            # A new prefix per restart: otherwise torch finds the addresses of killed processes in the store.
            store = PrefixStore(f"selfalign/{restarts()}", _agent_store(JOIN_SECONDS))
            number, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
            dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=patience)
        else:
            dist.init_process_group(backend, timeout=patience)
    try:
        yield
        barrier()  # the first process to end would close the connections of the others
    finally:
        dist.destroy_process_group()


def claims_error_output(error: Exception) -> bool:
    """Return whether this process is the one that prints an error: the first of all processes to ask.

    A process that only lost a peer asks later, so that the peer can print the cause.
    """
    if not launched():
        return True
    if isinstance(error, PeerLost):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun terminates the remaining processes
        time.sleep(ERROR_DELAY_SECONDS)
    try:
        claims: int = _agent_store(STORE_SECONDS).add(f"selfalign/{restarts()}/errors", 1)
    except (RuntimeError, ValueError):  # the store is gone
        return True
    return claims == 1


def shard() -> slice:
    """Return the rows of this process in a batch."""
    return slice(rank(), None, world_size())


def gather_rows(rows: Tensor, total: int) -> Tensor:
    """Gather the shards of all processes in the order of the whole batch: (n, …) -> (total, …).

    Every process must compute the same from the result: the gradient of its rows then needs no communication.
    """
    if world_size() == 1:
        return rows
    if rows.dtype == torch.bool:
        return gather_rows(rows.to(torch.uint8), total).bool()
    gathered: Tensor = _GatherRows.apply(rows, total)  # type: ignore[no-untyped-call]
    return gathered


def gather_all(value: Tensor) -> Tensor:
    """Stack the values of all processes by rank: (…) -> (R, …). Without gradient."""
    found = [torch.empty_like(value) for _ in range(world_size())]
    with _peer_lost_on_failure():
        dist.all_gather(found, value.contiguous())
    return torch.stack(found)


def all_reduce(values: Sequence[Tensor]) -> None:
    """Replace each tensor, in place, by its sum over all processes."""
    if world_size() == 1:
        return
    with _peer_lost_on_failure():
        for work in [dist.all_reduce(value, async_op=True) for value in values]:
            work.wait()


def barrier() -> None:
    """Wait for all processes."""
    all_reduce_max(0)


def all_reduce_max(number: int) -> int:
    """Return the largest number of all processes, without waiting for a GPU."""
    if world_size() == 1:
        return number
    value = torch.tensor(number)
    with _peer_lost_on_failure():
        dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value)


def broadcast(value: T) -> T:
    """Return the value of process 0."""
    if world_size() == 1:
        return value
    values: list[Any] = [value]
    with _peer_lost_on_failure():
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]  # type: ignore[no-any-return]


def all_gather_objects(value: T) -> list[T]:
    """Return the values of all processes by rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    with _peer_lost_on_failure():
        dist.all_gather_object(values, value)
    return values


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
    """Connect to the store of `torchrun`, which outlives its processes."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(host, port, is_master=False, timeout=timedelta(seconds=seconds))


@contextmanager
def _peer_lost_on_failure() -> Iterator[None]:
    """Raise PeerLost for any failure of communication."""
    try:
        yield
    except RuntimeError as fault:  # torch's DistError is one
        raise PeerLost(str(fault).strip().partition("\n")[0] or type(fault).__name__) from fault
