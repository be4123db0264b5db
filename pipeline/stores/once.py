"""A property that is computed once, also when several threads read it at the same time.

Used by objects of this room that several threads share: an index, the table store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any, Self, TypeVar, overload

T_co = TypeVar("T_co", covariant=True)


class once_property(cached_property[T_co]):  # noqa: N801  (used as a decorator, like cached_property)
    """`functools.cached_property` with a lock, which that has had no longer since Python 3.12.

    The other threads wait for the first one. Once the value is there, nobody waits: it is found in the instance.
    """

    def __init__(self, function: Callable[[Any], T_co]) -> None:
        super().__init__(function)
        self._once_lock = threading.RLock()

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> T_co: ...
    def __get__(self, instance: object | None, owner: type[Any] | None = None) -> Any:
        """The value, or of the class the property itself."""
        if instance is None:
            return self
        with self._once_lock:
            return super().__get__(instance, owner)
