"""Where the pictures of a training come from: changed anew each time, or from copies that passed the frozen parts once.

Feeds `GlobalTask`. A picture's way through frozen parts is the same in every epoch, so with a limited number of views
it is computed once and kept as float16 maps: one file per view, written whole, that other runs of the same frozen
weights, photos and changes can share.
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
from pipeline.train.data.augmentation import augmented

Pixels = npt.NDArray[np.uint8]

# Pictures that pass the frozen parts together.
_BATCH = 16


class Views(Protocol):
    """Gives views of photos."""

    count: int
    """Views of each photo there are; a draw is below it."""

    def read(self, photos: Sequence[int], draws: Sequence[int]) -> torch.Tensor:
        """[B, ...] on the CPU: view `draws[i]` of photo `photos[i]`; thread-safe."""

    def enter(self, views: torch.Tensor) -> torch.Tensor:
        """What the first trained part takes [B, C, h, w] of what `read` gave, on the model's device."""


class FreshViews:
    """Changes a picture anew for every draw.

    Args:
        read_photo: pixels [H, W, 3] uint8 RGB of a photo by its number.
        settings: how it is changed.
        as_read: pixels [B, 3, h, w] uint8 to what the network reads, on its device.
        frozen: parts that they pass before any is trained.
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
        pictures = [
            augmented(self._read_photo(photo), self._settings, _seed(photo, draw))
            for photo, draw in zip(photos, draws, strict=True)
        ]
        return torch.from_numpy(np.stack(pictures))

    @torch.no_grad()
    def enter(self, views: torch.Tensor) -> torch.Tensor:
        """See `Views.enter`."""
        result: torch.Tensor = self._frozen(self._as_read(views))
        return result


class KeptViews:
    """A limited number of views of each photo, as maps that passed the frozen parts.

    Args:
        fresh: how a view is made.
        photos: how many there are.
        count: views of each.
        folder: where they are kept: `fill` first.
        device: where trained parts run.
    """

    def __init__(self, fresh: FreshViews, photos: int, count: int, folder: Path, device: torch.device) -> None:
        self.count = count
        self._fresh, self._photos, self._folder, self._device = fresh, photos, folder, device
        self._maps: list[npt.NDArray[np.float16]] = []

    @property
    def missing(self) -> list[int]:
        """Views that are still to be computed."""
        return [view for view in range(self.count) if not self._file(view).is_file()]

    def fill(self, advance: Callable[[int], None], workers: int) -> None:
        """Compute what is missing, `workers` batches side by side; `advance` is told of every batch of pictures.

        Raises:
            RelookError: a view cannot be written.
        """
        for view in self.missing:
            path = self._file(view)
            with write_errors(path), atomic_path(path) as temporary:
                self._write(view, temporary, advance, workers)
        self._maps = [np.load(self._file(view), mmap_mode="r") for view in range(self.count)]

    def read(self, photos: Sequence[int], draws: Sequence[int]) -> torch.Tensor:
        """See `Views.read`; [B, C, h, w] float16."""
        maps = [self._maps[draw][photo] for photo, draw in zip(photos, draws, strict=True)]
        return torch.from_numpy(np.stack(maps))

    def enter(self, views: torch.Tensor) -> torch.Tensor:
        """See `Views.enter`."""
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
            pixels = self._fresh.read(photos, [view] * len(photos))
            return self._fresh.enter(pixels).half().cpu().contiguous().numpy()

        batches = [range(start, min(start + _BATCH, self._photos)) for start in range(0, self._photos, _BATCH)]
        # One core per batch beats all cores on one batch; see `pipeline.describe.stream`.
        return prefetch(compute, batches, workers, 2 * workers, lambda: torch.set_num_threads(1))


def views_key(frozen: nn.Module, settings: AugmentConfig, photos: Sequence[str], normalisation: str) -> str:
    """Equal where kept views can be shared: weights of the frozen parts, changes, photos (by content) and what is done
    to pixels."""
    changes = settings.model_dump(mode="json", exclude={"views", "views_folder"})
    text = json.dumps([hash_weights(frozen.state_dict()), changes, list(photos), normalisation])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _seed(photo: int, draw: int) -> int:
    return photo * FreshViews.count + draw
