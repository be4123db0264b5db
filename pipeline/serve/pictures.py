"""Photos of the collection over HTTP: by id alone, upright, as JPEG without metadata.

Used by `routes`. No path comes from a request: an id is looked up in the pinned generation, its record has the file.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from starlette.responses import Response

from pipeline.errors import ImageError, RelookError
from pipeline.files import Place
from pipeline.serve.generations import Generations
from pipeline.serve.metrics import Metrics
from pipeline.serve.refusals import busy, refusal
from pipeline.serve.thumbnails import Thumbnails
from pipeline.workflow.opened_index import OpenedIndex

# Sides in pixels; few, so that few versions of a photo are kept.
SIDES = (160, 320, 640, 1280, 2560)
# Of a whole photo: JPEG's own limit.
_WHOLE = 65_000
# Photos of one page of results, of some clients.
_WAITING = 1024


class Pictures:
    """Reads photos on its own threads, a bounded number at a time.

    Args:
        generations: which ids there are.
        metrics: told about the cache.
    """

    def __init__(self, generations: Generations, metrics: Metrics) -> None:
        config = generations.current.gallery.config
        directory = config.serve.thumbnails.directory or config.index / "cache" / "thumbnails"
        self._generations = generations
        self._thumbnails = Thumbnails(directory, config.serve, metrics)
        self._pool = ThreadPoolExecutor(config.serve.workers, thread_name_prefix="pictures")
        self._waiting = 0

    async def response(self, name: str, side: int | None, if_none_match: str) -> Response:
        """The picture of an id, at most `side` pixels wide and high (None: its own size), or why there is none."""
        if self._waiting >= _WAITING:
            return busy()
        self._waiting += 1
        try:
            data, tag = await asyncio.get_running_loop().run_in_executor(self._pool, self._jpeg, name, side)
        except KeyError:
            return refusal(404, f"{name[:200]!r} is not in the collection")
        except ImageError as error:
            return refusal(404, error.reason)
        finally:
            self._waiting -= 1
        headers = {"ETag": f'"{tag}"', "Cache-Control": "private, max-age=60"}
        if tag in if_none_match:
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers, media_type="image/jpeg")

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _jpeg(self, name: str, side: int | None) -> tuple[bytes, str]:
        while True:
            with self._generations.pinned() as pinned:
                try:
                    file = _file_of(pinned.gallery, name)
                except RelookError as error:
                    if not self._generations.replaced(pinned, error):
                        raise
                    continue
                limits = pinned.gallery.config.describe.image
                return self._thumbnails.jpeg(
                    file, side or _WHOLE, max_pixels=limits.max_pixels, max_bytes=limits.max_bytes
                )


def _file_of(gallery: OpenedIndex, name: str) -> Place:
    index = gallery.index
    if not index.has([name])[0]:
        raise KeyError(name)
    return index.image_file(index.find_records([name])[0])
