"""Augmented views of training photos: made for every step, or cached after the frozen parts of the network.

Feeds `GlobalTask` and `RRTSOPJointTask`. With a limited number of views per photo, the output of the frozen parts is
computed once and cached as float16 maps: one file per view, written atomically, that other runs with the same frozen
weights, photos and augmentation can share.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pipeline.checkpoints import hash_weights
from pipeline.config import AugmentConfig
from pipeline.describe.prefetch import prefetch
from pipeline.files import atomic_path, write_errors
from pipeline.train.data.augmentation import augment
from pipeline.train.loop.distributed import broadcast_from_first, rank

Pixels = npt.NDArray[np.uint8]

# Photos that pass the frozen parts together. On a CPU the maps of a few still fit its caches: sixteen take twice the
# time per photo.
_BATCH, _BATCH_CPU = 16, 4


class Views(Protocol):
    """Augmented views of photos."""

    count: int
    """Views of each photo, numbered from 0."""

    def read(self, photos: Sequence[int], draws: Sequence[int]) -> torch.Tensor:
        """[B, ...] on the CPU: view `draws[i]` of photo `photos[i]`; thread-safe."""

    def trunk_input(self, views: torch.Tensor) -> torch.Tensor:
        """What `read` returned to the input [B, C, h, w] of the first trained part, on the model's device."""


class AugmentedViews:
    """Views that are made for every step.

    Args:
        read_photo: pixels [H, W, 3] uint8 RGB of a photo by its number.
        settings: of the augmentation.
        as_read: pixels [B, 3, h, w] uint8 to the network's input, on its device.
        frozen: the parts before the first trained one.
    """

    count = 2**31

    def __init__(
        self,
        read_photo: Callable[[int], Pixels],
        settings: AugmentConfig,
        as_read: Callable[[torch.Tensor], torch.Tensor],
        frozen: nn.Sequential,
    ) -> None:
        self._read_photo, self._settings, self._as_read, self._frozen = read_photo, settings, as_read, frozen

    def read(self, photos: Sequence[int], draws: Sequence[int]) -> torch.Tensor:
        """See `Views.read`; [B, 3, size, size] uint8."""
        pixels = [
            augment(self._read_photo(photo), self._settings, _seed(photo, draw))
            for photo, draw in zip(photos, draws, strict=True)
        ]
        return torch.from_numpy(np.stack(pixels))

    @torch.no_grad()
    def trunk_input(self, views: torch.Tensor) -> torch.Tensor:
        """See `Views.trunk_input`."""
        result: torch.Tensor = self._frozen(self._as_read(views))
        return result


class CachedViews:
    """A limited number of views of each photo, as cached outputs of the frozen parts.

    Args:
        source: makes the views.
        photos: how many there are.
        count: views of each.
        folder: of the cache; call `fill` before reading.
        device: where trained parts run.
    """

    def __init__(self, source: AugmentedViews, photos: int, count: int, folder: Path, device: torch.device) -> None:
        self.count = count
        self._source, self._photos, self._folder, self._device = source, photos, folder, device
        self._maps: list[npt.NDArray[np.float16]] = []

    @property
    def missing(self) -> list[int]:
        """Numbers of the views that are not in the cache yet."""
        return [view for view in range(self.count) if not self._file(view).is_file()]

    def fill(self, advance: Callable[[int], None], workers: int) -> None:
        """Compute missing views on the first process, then open all of them on every process.

        Args:
            advance: called with the size of every batch that was computed.
            workers: batches in parallel.

        Raises:
            RelookError: a view cannot be written.
        """
        if rank() == 0:
            for view in self.missing:
                path = self._file(view)
                with write_errors(path), atomic_path(path) as temporary:
                    self._write(view, temporary, advance, workers)
        broadcast_from_first(None)
        self._maps = [np.load(self._file(view), mmap_mode="r") for view in range(self.count)]

    def read(self, photos: Sequence[int], draws: Sequence[int]) -> torch.Tensor:
        """See `Views.read`; [B, C, h, w] float16."""
        maps = [self._maps[draw][photo] for photo, draw in zip(photos, draws, strict=True)]
        return torch.from_numpy(np.stack(maps))

    def trunk_input(self, views: torch.Tensor) -> torch.Tensor:
        """See `Views.trunk_input`."""
        return views.to(self._device, torch.float32).contiguous(memory_format=torch.channels_last)

    def _file(self, view: int) -> Path:
        return self._folder / f"view-{view:03d}.npy"

    def _write(self, view: int, path: Path, advance: Callable[[int], None], workers: int) -> None:
        maps: np.memmap[Any, np.dtype[np.float16]] | None = None
        start = 0
        for part in self._computed(view, workers):
            if maps is None:
                shape = (self._photos, *part.shape[1:])
                maps = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
            maps[start : start + len(part)] = part
            start += len(part)
            advance(len(part))
        if maps is not None:
            maps.flush()

    def _computed(self, view: int, workers: int) -> Iterator[npt.NDArray[np.float16]]:
        def compute(photos: Sequence[int]) -> npt.NDArray[np.float16]:
            pixels = self._source.read(photos, [view] * len(photos))
            return self._source.trunk_input(pixels).half().cpu().contiguous().numpy()

        size = _BATCH_CPU if self._device.type == "cpu" else _BATCH
        batches = [range(start, min(start + size, self._photos)) for start in range(0, self._photos, size)]
        # One core per batch beats all cores on one batch; see `pipeline.describe.stream`.
        return prefetch(compute, batches, workers, 2 * workers, lambda: torch.set_num_threads(1))


def views_key(frozen: nn.Module, settings: AugmentConfig, photos: Sequence[str], normalisation: str) -> str:
    """A key that is equal where cached views can be shared: frozen weights, augmentation, photos and normalisation."""
    changes = settings.model_dump(mode="json", exclude={"views", "views_folder"})
    text = json.dumps([hash_weights(frozen.state_dict()), changes, list(photos), normalisation])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _seed(photo: int, draw: int) -> int:
    return photo * AugmentedViews.count + draw
