"""A base for describers without fitted projections: what the engine needs of a describer besides describing.

For describers that are written outside of `network.py`; docs/extend.md shows one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import RelookError
from pipeline.types import Description, FloatArray, ModelCard, Prepared


@dataclass(frozen=True)
class _Batch:
    """Prepared images in the place of a network's output."""

    images: Sequence[Prepared]
    bytes: int = 0

    def on_cpu(self) -> _Batch:
        return self


class UnfittedDescriber:
    """A `FittableDescriber` with nothing to fit. A subclass has `card`, `prepare` and `describe`."""

    card: ModelCard
    to_fit: tuple[str, ...] = ()

    def describe(self, batch: Sequence[Prepared]) -> list[Description]:
        """See `Describer.describe`."""
        raise NotImplementedError

    def fit(self, batches: Iterable[Sequence[Prepared]]) -> None:
        """See `FittableDescriber.fit`: there is nothing to fit."""

    def observe(self, batch: Sequence[Prepared]) -> Any:
        """See `FittableDescriber.observe`."""
        return _Batch(batch)

    @property
    def fits_on_labels(self) -> bool:
        """See `FittableDescriber.fits_on_labels`."""
        return False

    def fit_on(self, outputs: Iterable[Any], labels: Sequence[str] = ()) -> None:
        """See `FittableDescriber.fit_on`: there is nothing to fit."""

    def describe_output(self, output: Any) -> list[Description]:
        """See `FittableDescriber.describe_output`."""
        return self.describe(output.images)

    def fitted(self) -> dict[str, FloatArray]:
        """See `FittableDescriber.fitted`."""
        return {}

    def use_fitted(self, arrays: Mapping[str, FloatArray]) -> None:
        """See `FittableDescriber.use_fitted`. Raises RelookError when there are any."""
        if arrays:
            raise RelookError(f"{self.card.name} has no projections, and {', '.join(arrays)} were fitted")
