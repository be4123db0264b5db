"""Several processes that train together, as `torchrun` starts them: rank, world size, sums and gathers over all.

Used by the loop and by losses that need more than their own share of a batch. Without torchrun there is one process,
and every function here returns at once. Built on `torch.distributed`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from pipeline.errors import FailedElsewhereError, RelookError

# How long a process waits for the others. They wait while the first one validates, which may take long; a process that
# ended is noticed at once.
_TIMEOUT = timedelta(hours=2)
# Messages of gloo when another process has ended.
_CONNECTION_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Connection refused")


def rank() -> int:
    """This process's number, from 0; the first one validates, writes and reports."""
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes for the block; yields the device that this one computes on.

    An error in one of them ends all. The process that failed first raises its error, with a note that names the
    process; the others raise FailedElsewhereError with the same exit code.

    Raises:
        RelookError: there are more processes than CUDA devices, or another process was killed.
    """
    if processes() == 1:
        yield device
        return
    device = _local_device(device)
    store, _, _ = next(rendezvous("env://", timeout=_TIMEOUT))
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank(), world_size=processes(), timeout=_TIMEOUT)
    try:
        yield device
    except (Exception, KeyboardInterrupt) as error:
        raised = _shared_error(error, store)
        if backend == "gloo":  # NCCL would wait for what the others have not sent
            dist.destroy_process_group()
        raise raised from (error if raised is not error else error.__cause__)
    dist.destroy_process_group()


def all_reduce_sum(value: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes, without gradient."""
    value = value.detach().clone()
    if dist.is_initialized():
        dist.all_reduce(value)
    return value


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """The rows [B, ...] of all processes, without gradient, in the order of the undivided batch.

    Process r has rows r, r + P, r + 2 P, ... of it; the first ones may have one more.
    """
    rows = rows.detach()
    if not dist.is_initialized():
        return rows
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(processes())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    longest = max(int(count) for count in counts)
    padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
    parts = [torch.empty_like(padded) for _ in range(processes())]
    dist.all_gather(parts, padded)
    together = torch.stack(parts, dim=1).flatten(0, 1)
    return together[: sum(int(count) for count in counts)]


def broadcast_buffers(module: torch.nn.Module) -> None:
    """Copy the buffers of the first process to all others."""
    if dist.is_initialized():
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def broadcast_from_first(value: Any) -> Any:
    """The first process's value, on all processes; plain Python values."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def _local_device(device: torch.device) -> torch.device:
    if device.type != "cuda":
        return device
    devices, started = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if started > devices:
        raise RelookError(f"torchrun started {started} processes on this machine, which has {devices} CUDA devices")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def _shared_error(error: BaseException, store: Store) -> BaseException:
    """The error that this process raises: its own if it failed first, which it tells the others."""
    code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
    try:
        first, shared = store.compare_set("relook failed", "", f"{rank()} {code}").decode().split()
    except RuntimeError:  # the process that keeps the store has ended
        first, shared = str(rank()), str(code)
    if first != str(rank()):
        return FailedElsewhereError(int(shared))
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _CONNECTION_LOST):
        error = RelookError("another process of this training was killed, perhaps because memory ran out")
    error.add_note(f"process {rank()}")
    return error
