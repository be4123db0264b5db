"""The section `rerank`: the chain of rerankers, and one section per reranker of the registry.

The settings of each reranker lie beside it, in `pipeline.rerank`; reading them imports no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, create_model

from pipeline.errors import UsageError
from pipeline.rerank.registry import RERANKERS
from pipeline.rerank.settings import RerankerSettings
from pipeline.settings import Section


class RerankChain(Section):
    """Re-ranking: rerankers by name, applied in order."""

    chain: tuple[str, ...] = Field(
        ("superglobal",),
        description="names, applied in order; where it is not set, those that the index names, and matching after them "
        "where it names none and keeps XFeat's keypoints",
    )
    locals_from: Path | None = Field(
        None,
        description="another index of the same photos, whose local descriptors are re-ranked by (joined by id); null: "
        "those of the index that is searched",
    )
    calibration: Literal["index", "none"] = Field(
        "index",
        description="weights and margins by relook calibrate, where the index has them and none is set; or none",
    )

    def settings_of(self, name: str) -> RerankerSettings:
        """The settings of a reranker; the defaults of one that was registered after the configuration was made."""
        settings: RerankerSettings | None = getattr(self, name, None)
        return RERANKERS[name].settings() if settings is None else settings


if TYPE_CHECKING:

    class RerankConfig(RerankChain):
        """The chain, and a section by the name of each reranker."""

        def __getattr__(self, name: str) -> Any: ...

else:
    RerankConfig = create_model(
        "RerankConfig",
        __base__=RerankChain,
        __doc__=RerankChain.__doc__,
        **{name: (kind.settings, kind.settings()) for name, kind in RERANKERS.items()},
    )


def parse_chain(rerank: str | Sequence[str] | None, source: str) -> tuple[str, ...]:
    """The rerankers that a text such as "a,b" or a list names; none for "none" and None.

    Args:
        rerank: what a caller gave.
        source: how messages begin, such as "--rerank".

    Raises:
        UsageError: "none" beside other names.
    """
    given = rerank.split(",") if isinstance(rerank, str) else list(rerank or ())
    names = tuple(name.strip() for name in given if name.strip())
    if "none" in names and len(names) > 1:
        raise UsageError(f"{source} {','.join(names)}: none cannot be combined with other names")
    return () if names == ("none",) else names
