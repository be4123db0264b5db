"""Descriptors made elsewhere: what other programs write, as a stream of images for an index.

Beside the index, which the stage `import_descriptors` fills from here. One file a format; `open_foreign` finds out
which one a source is.
"""

from pipeline.stores.exchange.base import Foreign, ForeignImage, Options
from pipeline.stores.exchange.registry import FORMATS, open_foreign

__all__ = ["FORMATS", "Foreign", "ForeignImage", "Options", "open_foreign"]
