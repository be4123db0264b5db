"""Descriptors made elsewhere: what other programs write, as a stream of images for an index.

Beside the index, which the stage `import_descriptors` fills from here. One file a format; `open_external` finds out
which one a source is.
"""

from pipeline.stores.exchange.base import ExternalImage, ExternalSource, Options
from pipeline.stores.exchange.registry import FORMATS, open_external

__all__ = ["FORMATS", "ExternalImage", "ExternalSource", "Options", "open_external"]
