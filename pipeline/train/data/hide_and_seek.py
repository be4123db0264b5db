"""Hide-and-Seek on feature maps, and the curriculum by which a training grows harder.

Used by the training of CVNet-Rerank (Lee et al., CVPR 2022, "Training with Hard Samples"): cells of a map are hidden as
if something stood before them, so that more than the most telling part is learnt (Singh and Lee, "Hide-and-Seek", ICCV
2017). Few at first: what is hard from the beginning disturbs the learning.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def rising(ends: tuple[float, float], epoch: int, epochs: int, count: int) -> npt.NDArray[np.float64]:
    """[count] the values of one epoch of a line from ends[0] at the start of all `epochs` to ends[1] at their end.

    Args:
        ends: of the whole training.
        epoch: from 1.
        epochs: of the whole training.
        count: values in each of them.
    """
    done = (epoch - 1 + np.arange(count) / count) / epochs
    return ends[0] + (ends[1] - ends[0]) * done


def shown(seed: int, hidden: float, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Which cells of a map [h, w] are left to be seen.

    Args:
        seed: what is drawn from; more is hidden of the same seed's cells where `hidden` is larger.
        hidden: probability of each cell to be hidden, in [0, 1]; one is shown whatever it is.
        size: h and w.
    """
    draws = np.random.default_rng(seed).random(size)
    return draws >= min(hidden, float(draws.max()))
