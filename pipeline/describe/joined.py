"""Two describers as one, for queries: the global descriptor of the first, the local ones of the second.

So that candidates of one model's index are re-ranked by local descriptors of another one (`rerank.locals_from`), and a
query is read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.errors import RelookError
from pipeline.imaging import ColourRule, Pixels
from pipeline.types import Box, Describer, Description, ModelCard, Prepared


def with_locals(describer: Describer, other: Describer) -> Describer:
    """`describer`, whose descriptions have the `locals` of `other`. Its card is that of `describer`.

    Raises:
        RelookError: one of them reads pictures in the colours of their profiles, the other one does not.
    """
    return _Joined(describer, other)


@dataclass(frozen=True)
class _PreparedTwice(Prepared):
    """A picture that is ready for both networks; all but `other` is the first one's."""

    other: Prepared | None = None

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """See `Prepared.shape`."""
        return super().shape + (() if self.other is None else self.other.shape)


class _Joined:
    def __init__(self, describer: Describer, other: Describer) -> None:
        self._describer, self._other = describer, other
        first, second = _icc(describer), _icc(other)
        if first != second:
            raise RelookError(
                f"rerank.locals_from: its describer reads colours with describe.image.icc = {second}, that of the "
                f"searched index with {first}; extract one of them again"
            )
        self.icc: ColourRule = first

    @property
    def card(self) -> ModelCard:
        return self._describer.card

    def prepare(self, image: Pixels, bbox: Box | None = None) -> Prepared:
        first = self._describer.prepare(image, bbox)
        fields = {name: getattr(first, name) for name in Prepared.__dataclass_fields__}
        return _PreparedTwice(**fields, other=self._other.prepare(image, bbox))

    def describe(self, batch: Sequence[Prepared]) -> list[Description]:
        others = [item.other for item in batch if isinstance(item, _PreparedTwice) and item.other is not None]
        if len(others) != len(batch):
            raise RelookError("pictures that were prepared for one describer alone")
        found = zip(self._describer.describe(batch), self._other.describe(others), strict=True)
        return [replace(one, locals=other.locals) for one, other in found]


def _icc(describer: Describer) -> ColourRule:
    icc: ColourRule = getattr(describer, "icc", "ignore")
    return icc
