"""What of a list speaks for one of its candidates, its descriptors and its other images: gradient times input.

Called by `LoCoReReranker.explain`. The input of a token is its projected descriptor with its scale, before positions; a
separator is no descriptor and has no effect of its own here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.rerank.locore.network import ImageLists, LoCoReNetwork, aggregate
from pipeline.rerank.locore.shape import LoCoReShape
from pipeline.rerank.pair_explanation import first_places
from pipeline.types import Attended, Description, FloatArray


def token_effects(network: LoCoReNetwork, lists: ImageLists, candidate: int) -> FloatArray:
    """[1 + G, per_image] float32: how the logit of one candidate changes when each token is made a little stronger.

    Args:
        network: scores.
        lists: one query and its G candidates.
        candidate: its number in the list.
    """
    with torch.enable_grad():
        tokens, padding = network.tokens(lists)
        tokens = tokens.detach().requires_grad_()
        read = network.tokens_read(lists.locals.shape[1] - 1).to(tokens.device)
        logits = network.logits_of(tokens, padding, read.flatten()).float()[..., 1]
        scores = aggregate(logits.view(-1, *read.shape), network.shape.aggregation, network.counted(lists))
        (gradient,) = torch.autograd.grad(scores[0, candidate], tokens)
    effects = (tokens.detach() * gradient).sum(dim=-1)[0].masked_fill(padding[0], 0)
    effects[:, -1] = 0  # separators
    found: FloatArray = effects.float().cpu().numpy()
    return found


def window_around(place: int, count: int, size: int) -> slice:
    """Of `count` candidates as many as a window of `size` takes, with the one at `place` near its middle."""
    size = min(size, count)
    first = min(max(0, place - size // 2), count - size)
    return slice(first, first + size)


def attended_in_list(
    images: Sequence[Description], names: Sequence[str], own: int, effects: FloatArray, shape: LoCoReShape
) -> Attended:
    """The effects of the query's and of one candidate's descriptors, and of the other candidates as wholes.

    Args:
        images: the query and its G candidates, described.
        names: [G] ids of the candidates.
        own: number of the candidate that is explained.
        effects: [1 + G, per_image] of all tokens; see `token_effects`.
        shape: of the network that gave them.

    Raises:
        RelookError: the index keeps no places of local descriptors.
    """
    first = int(shape.global_token)
    counts = [min(shape.locals, len(image.locals or ())) for image in images]
    of_query, of_image = (effects[row, first : first + counts[row]] for row in (0, 1 + own))
    query_xy, image_xy = (first_places(images[row], counts[row], "locore") for row in (0, 1 + own))
    others = sorted(
        ((name, float(effects[1 + row].sum())) for row, name in enumerate(names) if row != own),
        key=lambda one: -abs(one[1]),
    )
    return Attended(query_xy, image_xy, of_query, of_image, dict(others))
