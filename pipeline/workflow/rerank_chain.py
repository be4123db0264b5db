"""Which rerankers a search uses: those that its caller names, else those of the configuration or of the index.

`train-rerank --default` writes `rerankers/default.json`, and an index that keeps keypoints is matched by them; whoever
uses either says so.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from pipeline.config import Config, RerankConfig, parse_chain
from pipeline.errors import RelookError
from pipeline.files import write_bytes, write_errors
from pipeline.types import KeypointsCard

logger = logging.getLogger("relook")

Rerank = str | Sequence[str] | None

# Keypoints whose matching gains by itself: measured on every protocol, with weights that are installed. Others are for
# whoever names `matching`: theirs may have to be fetched, or are licensed otherwise.
MATCHED_KEYPOINTS = "xfeat"


def chosen_rerankers(config: Config, rerank: Rerank, keypoints: KeypointsCard | None) -> tuple[str, ...]:
    """The names that `rerank` has; with "default" those of `configured_chain`.

    Raises:
        UsageError: "none" beside other names.
        RelookError: the file of the index's default is damaged.
    """
    return configured_chain(config, keypoints) if rerank == "default" else parse_chain(rerank, "rerank =")


def configured_chain(config: Config, keypoints: KeypointsCard | None) -> tuple[str, ...]:
    """`rerank.chain` where it is set; else the index's default, which is logged; else the default of that setting.

    Args:
        config: names the index.
        keypoints: what made the keypoints that the index keeps; None: it keeps none.

    Raises:
        RelookError: the file of the index's default is damaged.
    """
    if "rerank" in config.model_fields_set and "chain" in config.rerank.model_fields_set:
        return config.rerank.chain
    named = default_chain(config.index, keypoints)
    if named is None:
        return config.rerank.chain
    logger.info("re-ranking with %s, the default of %s; choose with --rerank", ",".join(named) or "none", config.index)
    return named


def default_chain(index: Path, keypoints: KeypointsCard | None) -> tuple[str, ...] | None:
    """The rerankers that an index names, or else its keypoints ask for; None where there is neither.

    Raises:
        RelookError: the file that names them is damaged.
    """
    path = _file(index)
    try:
        chain = json.loads(path.read_text(encoding="utf-8"))["chain"]
        if not isinstance(chain, list) or not all(isinstance(name, str) for name in chain):
            raise ValueError("chain is not a list of names")
    except FileNotFoundError:
        matched = keypoints is not None and keypoints.kind == MATCHED_KEYPOINTS
        return (*RerankConfig().chain, "matching") if matched else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RelookError(
            f"{path}: cannot be read ({error}); remove it or run: relook train-rerank --default"
        ) from None
    return tuple(chain)


def set_default_chain(index: Path, chain: Sequence[str]) -> None:
    """Have searches of an index use these rerankers unless others are named. Raises RelookError when it cannot."""
    path = _file(index)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, json.dumps({"chain": list(chain)}).encode())


def _file(index: Path) -> Path:
    return index / "rerankers" / "default.json"
