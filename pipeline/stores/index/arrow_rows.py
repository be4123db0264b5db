"""Row numbers as Arrow's `take` reads them.

Below whatever looks up single rows: a search imports pandas nowhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def arrow_rows(rows: npt.NDArray[np.integer]) -> pa.Array:
    """[N] int64 over NumPy's own memory. `pa.array` would do, but it imports pandas, which takes half a second."""
    numbers = np.ascontiguousarray(rows, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])
