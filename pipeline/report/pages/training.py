"""The page of a training: curves of loss and validation, and the table of epochs.

Written by `train-rerank --html` and `train-global --html`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.report.figures.training import training_plots
from pipeline.report.pages.page import write_page
from pipeline.report.pages.pictures import Pictures


def write_training(path: Path, result: Mapping[str, Any], losses: Sequence[float]) -> None:
    """Write the page.

    Args:
        path: the file, replaced if it is there.
        result: a `train-rerank` or `train-global` document.
        losses: of every step.

    Raises:
        RelookError: the page cannot be written.
    """
    write_page(path, "training", Pictures(path, 0), result=result, plots=training_plots(result, losses))
