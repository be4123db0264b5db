"""Several processes that train together, as `torchrun` starts them: who am I, my share, sums over all.

Used by the loop and by losses that need more than their own share. Outside of torchrun there is one process and
nothing here costs anything. The engine is torch's own (`torch.distributed`, DistributedDataParallel).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from pipeline.errors import RelookError


def rank() -> int:
    """This process's number, from 0; the first one validates, writes and speaks."""
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    """How many train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes for the block; gives the device that this one computes on.

    Raises:
        RelookError: there are more processes than CUDA devices.
    """
    if processes() == 1:
        yield device
        return
    if device.type == "cuda":
        number = int(os.environ.get("LOCAL_RANK", "0"))
        if number >= torch.cuda.device_count():
            raise RelookError(f"process {number} of torchrun has no CUDA device of its own; there are fewer")
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def total(value: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes, without gradient."""
    value = value.detach().clone()
    if dist.is_initialized():
        dist.all_reduce(value)
    return value


def gathered(rows: torch.Tensor) -> torch.Tensor:
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


def from_first(value: Any) -> Any:
    """What the first process has, on all of them; plain Python values."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]
