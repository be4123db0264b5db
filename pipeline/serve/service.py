"""The parts of a running service, opened and closed together.

Between `app`, which routes requests to them, and the gallery.
"""

from __future__ import annotations

from pipeline.serve.engine import SearchEngine
from pipeline.serve.generations import Generations
from pipeline.serve.metrics import Metrics
from pipeline.serve.pictures import Pictures
from pipeline.workflow.gallery import Gallery


class Service:
    """Searches, photos and metrics of one gallery, which it closes.

    Args:
        gallery: `serve` of its configuration has all settings.

    Raises:
        RelookError: the store, the describer or the default rerankers cannot be used.
    """

    def __init__(self, gallery: Gallery) -> None:
        self.settings = gallery.config.serve
        self.metrics = Metrics()
        self.generations = Generations(gallery)
        self.engine = SearchEngine(self.generations, self.metrics)
        self.pictures = Pictures(self.generations, self.metrics)

    def start(self) -> None:
        """Begin to look for new generations."""
        self.generations.start()

    def close(self) -> None:
        """End all threads and close the gallery."""
        self.engine.close()
        self.pictures.close()
        self.generations.close()

    def reason_against(self) -> str:
        """Why searches are not answered now; "" where they are."""
        if not self.engine.alive:
            return "the thread that describes queries has ended; restart the service"
        if self.engine.full:
            return "the queue is full"
        return ""

    def measured(self) -> bytes:
        """The metrics as Prometheus reads them."""
        current = self.generations.current
        self.metrics.generation.set(current.number)
        self.metrics.images.set(len(current.gallery))
        return self.metrics.text()
