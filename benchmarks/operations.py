"""Operations of each paper's training, counted: the hours of docs/training.md, which no GPU was at hand to measure.

    python benchmarks/operations.py

Networks are built on torch's meta device, so that nothing is computed: torch counts the multiplications and additions
of matrix products and convolutions, forward and backward. Hours are those at a stated share of a GPU's peak.
"""

from __future__ import annotations

from collections.abc import Callable

import timm
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.rerank.ames.network import AMESNetwork, AMESShape
from pipeline.rerank.cvnet.network import CVLearner, expand
from pipeline.rerank.image_rows import Batch
from pipeline.rerank.rrt.network import RRTNetwork, RRTShape
from pipeline.rerank.rrt_sop.network import RRTSOPNetwork, RRTSOPShape

# Dense bfloat16 (float16 for V100) peaks in TFLOP/s, as their data sheets give them, and the share that is reached.
GPUS = {"V100": 125, "A100": 312, "H100": 989}
SHARE = 0.3
GLD_PHOTOS, SOP_PHOTOS = 1_580_470, 59_551


def main() -> None:
    """Count and print."""
    table = Table(title=f"at {SHARE:.0%} of the peak", title_justify="left")
    for heading in ("training", "GFLOP each", "of them", *(f"{name}, hours" for name in GPUS)):
        table.add_column(heading, justify="left" if heading == "training" else "right")
    with torch.device("meta"):
        for name, each, count in rows():
            hours = [f"{each * count / (peak * 1e12 * SHARE) / 3600:,.1f}" for peak in GPUS.values()]
            table.add_row(name, f"{each / 1e9:,.2f}", f"{count:,}", *hours)
    Console(width=150).print(table)


def rows() -> list[tuple[str, float, int]]:
    """Name, operations of one item (a photo or a pair) forward and backward, and how many items are seen."""
    found = []
    for depth in (50, 101):
        network = timm.create_model(f"resnet{depth}", num_classes=0)
        image = torch.zeros(1, 3, 512, 512)
        both, forward = operations(lambda n=network, i=image: n(i)), operations(lambda n=network, i=image: n(i), False)
        found.append((f"CVNet-Global R{depth}, 25 epochs of GLDv2-clean", both + forward, 25 * GLD_PHOTOS))
        found.append((f"DELG R{depth}, 25 epochs of GLDv2-clean", both, 25 * GLD_PHOTOS))
    # Triplets are two pairs; how many are seen is what configs/train_*.yaml say.
    found.append(("RRT, landmarks: a pair of 500 locals", operations(rrt), 2 * 15 * 322_008))
    found.append(("RRT, products: a pair of 7 x 7 cells", operations(rrt_sop), 2 * 100 * SOP_PHOTOS))
    found.append(("AMES: a pair of 400 and 400 locals", operations(ames), 2 * 15 * 750_000))
    found.append(("CVNet-Rerank: a pair of 32 x 32 cells", operations(cvnet), 2 * 25 * GLD_PHOTOS))
    return found


def operations(run: Callable[[], torch.Tensor], backward: bool = True) -> float:
    """Of one forward pass, and of its backward pass."""
    with FlopCounterMode(display=False) as counter:
        result = run()
        if backward:
            result.sum().backward()
    return float(counter.get_total_flops())


def rrt() -> torch.Tensor:
    """Logit of the published network."""
    network = RRTNetwork(RRTShape())
    side = Batch(torch.zeros(1, 500, 128), None, torch.zeros(1, 128))
    return network.compare(side, side)


def rrt_sop() -> torch.Tensor:
    """Logit of the published network."""
    side = Batch(torch.zeros(1, 49, 128), None, torch.zeros(1, 0))
    logit: torch.Tensor = RRTSOPNetwork(RRTSOPShape())(side, side)
    return logit


def ames() -> torch.Tensor:
    """Logit of the published network for DINOv2's descriptors."""
    network = AMESNetwork(AMESShape())
    sides = []
    for gallery in (False, True):
        rows, whole = network.begin(network.project(torch.zeros(1, 400, 768), gallery), None)
        sides.append(Batch(rows, None, whole))
    logit: torch.Tensor = network(*sides)
    return logit


def cvnet() -> torch.Tensor:
    """Logits of maps of 256 channels at three levels."""
    levels = [torch.zeros(1, 256, *size) for size in ((16, 16), (23, 23), (32, 32))]
    maps = expand(levels)
    learner: nn.Module = CVLearner(3)
    logits: torch.Tensor = learner(maps[0], maps)
    return logits


if __name__ == "__main__":
    main()
