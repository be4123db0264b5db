"""Pinecone's limits, and requests that keep to them whatever they hold: sized in bytes before they are sent.

Below the Pinecone store. The limits are those of https://docs.pinecone.io/reference/api/database-limits, rounded down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

REQUEST_BYTES = 2_000_000
REPLY_BYTES = 4_000_000
METADATA_BYTES = 40 * 1024
RECORDS = 1_000
TOP_K = 10_000
PAGE = 100
# No limit is published for a URL; servers and proxies begin to refuse at 8,192.
URL_BYTES = 6_000
# A float32 written as a double in JSON has at most 24 characters, and a comma.
VALUE_BYTES = 25
# An id of 512 characters occurs twice in a reply, and may be escaped there.
ID_BYTES = 2_500
# Write units: one per kilobyte of a request's records, and at least this number per request.
_LEAST_UNITS = 5


@dataclass(frozen=True)
class Fetching:
    """The limits of one fetch.

    Attributes:
        reply: bytes that one record takes in the reply, at most.
        in_url: whether the ids stand in the URL.
    """

    reply: int
    in_url: bool

    def batches(self, ids: Sequence[str]) -> Iterator[list[str]]:
        """The ids in groups whose reply, number and URL are within the limits."""
        most = min(RECORDS, max(1, REPLY_BYTES // self.reply))
        batch: list[str] = []
        url = 0
        for name in ids:
            size = len(quote(name, safe="")) + len("&ids=") if self.in_url else 0
            if batch and (len(batch) == most or url + size > URL_BYTES):
                yield batch
                batch, url = [], 0
            batch.append(name)
            url += size
        if batch:
            yield batch


def records_per_request(sizes: Sequence[int]) -> int:
    """The number of records that fit a request, whichever of these sizes in bytes they have."""
    return min(RECORDS, max(1, (REQUEST_BYTES - 1_000) // (max(sizes) + 1)))


def write_units(sizes: Sequence[int], per_request: int) -> int:
    """The cost of writing records, `per_request` at once; sizes are in bytes, as stored."""
    requests = (sum(sizes[first : first + per_request]) for first in range(0, len(sizes), per_request))
    return sum(max(_LEAST_UNITS, math.ceil(size / 1_000)) for size in requests)
