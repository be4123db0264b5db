"""Which tokens of a list speak for one of its candidates: gradient times input of LoCoRe's logit.

Called by `LoCoReReranker.explain`. The input of a token is its projected descriptor with its scale, before positions; a
separator is no descriptor and has no effect of its own here.
"""

from __future__ import annotations

import torch

from pipeline.rerank.locore.network import ImageLists, LoCoReNetwork, aggregate
from pipeline.types import FloatArray


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
