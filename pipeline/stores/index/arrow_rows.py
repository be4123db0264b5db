"""Row numbers as Arrow's `take` reads them, and texts as its `index_in` does.

Below whatever looks up single rows: a search imports pandas nowhere, as `pa.array` does, which takes half a second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def arrow_rows(rows: npt.NDArray[np.integer]) -> pa.Array:
    """[N] int64 over NumPy's own memory."""
    numbers = np.ascontiguousarray(rows, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])


def arrow_texts(texts: Sequence[bytes]) -> pa.Array:
    """[N] binary, of less than 2 GB together."""
    ends = np.cumsum([0, *map(len, texts)]).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(texts), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(texts))])
