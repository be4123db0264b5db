"""Files of weights: relook's own and those of training code; read by describers and rerankers alike.

What reads and writes tensors loads torch when it is first used.
"""

from typing import TYPE_CHECKING, Any

from pipeline.checkpoints.names import split_key

if TYPE_CHECKING:
    from pipeline.checkpoints.weight_files import (
        Checkpoint,
        Writable,
        hash_weights,
        pickle_tensors,
        read_checkpoint,
        read_header,
        write_bare,
        write_checkpoint,
        write_official,
    )

__all__ = [
    "Checkpoint",
    "Writable",
    "hash_weights",
    "pickle_tensors",
    "read_checkpoint",
    "read_header",
    "split_key",
    "write_bare",
    "write_checkpoint",
    "write_official",
]


def __getattr__(name: str) -> Any:
    """What needs torch, when it is first used."""
    if name in __all__:
        from pipeline.checkpoints import weight_files

        return getattr(weight_files, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
