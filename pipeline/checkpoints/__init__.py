"""Files of weights: relook's own and those of training code; read by describers and rerankers alike."""

from pipeline.checkpoints.weight_files import (
    Checkpoint,
    Writable,
    hash_weights,
    pickle_tensors,
    read_checkpoint,
    read_header,
    split_key,
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
    "write_checkpoint",
    "write_official",
]
