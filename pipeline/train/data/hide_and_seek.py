"""Hide-and-Seek on feature maps, and the curriculum by which training samples become harder.

Used by the training of CVNet-Rerank (Lee et al., CVPR 2022, "Training with Hard Samples"): cells of a map are masked as
if they were occluded, so that the network does not rely on the most discriminative part alone (Singh and Lee,
"Hide-and-Seek", ICCV 2017). Few cells are masked at first, because hard samples disturb the start of a training.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def linear_ramp(ends: tuple[float, float], epoch: int, epochs: int, count: int) -> npt.NDArray[np.float64]:
    """[count] values of one epoch, on a line from ends[0] at the start of the training to ends[1] at its end.

    Args:
        ends: first and last value of the whole training.
        epoch: from 1.
        epochs: of the whole training.
        count: values per epoch.
    """
    done = (epoch - 1 + np.arange(count) / count) / epochs
    return ends[0] + (ends[1] - ends[0]) * done


def visible_cells(seed: int, hidden: float, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """[h, w] bool, True where a cell of a map is not masked.

    Args:
        seed: of the random numbers; a larger `hidden` masks the same cells and more.
        hidden: probability of each cell to be masked, in [0, 1]; at least one cell is visible.
        size: h and w.
    """
    draws = np.random.default_rng(seed).random(size)
    return draws >= min(hidden, float(draws.max()))
