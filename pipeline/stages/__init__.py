"""The verbs: each a function from a configuration to a result, wiring the rooms.

The only room that knows all others. `pipeline.cli` calls these and shows what they return; so can any program.
"""

from pipeline.stages.evaluate import EvaluateResult, evaluate
from pipeline.stages.extract import ExtractResult, extract
from pipeline.stages.search import SearchResult, search
from pipeline.stages.train_rerank import TrainResult, train_rerank
from pipeline.stages.upload import UploadResult, upload

__all__ = [
    "EvaluateResult",
    "ExtractResult",
    "SearchResult",
    "TrainResult",
    "UploadResult",
    "evaluate",
    "extract",
    "search",
    "train_rerank",
    "upload",
]
