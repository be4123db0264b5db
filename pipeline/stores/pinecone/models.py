"""Several models in one Pinecone index: a namespace each, one of them current, and the card of each.

Below the Pinecone store. Which model is current is a tag of the index, so that every machine sees the same and a
switch is one step; the cards lie in a namespace of their own, so that a refusal can say what differs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from pipeline.errors import RelookError
from pipeline.stores.index.manifest import fingerprints_in
from pipeline.stores.pinecone.api import Sending
from pipeline.stores.pinecone.service import Served, Service, speaking
from pipeline.types import ModelCard


class Models:
    """The models of one collection.

    Args:
        service: the Pinecone index.
        collection: keeps the namespaces of several collections apart; None where there is one only.
        card: the model that is worked with.
    """

    def __init__(self, service: Service, collection: str | None, card: ModelCard) -> None:
        self._service, self._card = service, card
        self._prefix = f"{collection}-" if collection else ""
        self._tag = f"relook-current-{collection}" if collection else "relook-current"
        self._cards = f"{self._prefix}models"
        self._registered = False

    @property
    def namespace(self) -> str:
        """Where the vectors of this model lie."""
        return self._prefix + self._card.fingerprint

    def counts(self, served: Served) -> dict[str, int]:
        """How many vectors the service knows of each model, by fingerprint."""
        with speaking(self._service.name):
            spaces = served.client.describe_index_stats().namespaces
        own = re.compile(re.escape(self._prefix) + "([0-9a-f]{16})")
        found = [(own.fullmatch(name), summary.vector_count) for name, summary in spaces.items()]
        return {match[1]: count for match, count in found if match}

    def current(self) -> str | None:
        """The fingerprint of the current model; None before the first was promoted."""
        return self._service.tags().get(self._tag)

    def promote(self) -> None:
        """Make this model the current one."""
        self._service.tag(self._tag, self._card.fingerprint)

    def prune(self, served: Served) -> dict[str, int]:
        """Delete the namespaces of all models but this and the current one; returns how many vectors each had."""
        current = self.current()
        if current is None:
            raise RelookError(f"Pinecone index {self._service.name}: no model is current; run: relook upload --promote")
        kept = (current, self._card.fingerprint)
        gone = {name: count for name, count in self.counts(served).items() if name not in kept}
        with speaking(self._service.name):
            for name in gone:
                served.client.delete_namespace(name=self._prefix + name)
            if gone:
                served.records.delete(self._cards, list(gone))
        return gone

    def register(self, served: Served, sending: Sending) -> None:
        """Leave this model's card in the service."""
        if self._registered:
            return
        card = json.dumps(self._card.to_json())
        direction = [1.0, *[0.0] * (self._card.dimension - 1)]  # no record goes without a vector
        item = served.records.item(self._card.fingerprint, direction, {"card": card})
        with speaking(self._service.name):
            if not served.records.fetch(self._cards, [self._card.fingerprint], metadata=True):
                served.records.write(self._cards, [item], [2 * len(card) + 5 * len(direction)], sending)
        self._registered = True

    def check_current(self, served: Served, directory: Path) -> None:
        """Refuse a model that is not current in the service.

        While `reindex` changes the model of an index, its earlier generation still searches its own vectors: the model
        becomes current just before the manifest is switched, and readers may have opened the index before that.

        Args:
            served: as found when the store was opened.
            directory: the index that is searched.

        Raises:
            RelookError: another model is current that is not of this index; the message says what differs.
        """
        current = served.tags.get(self._tag)
        if current not in (None, self._card.fingerprint) and current not in fingerprints_in(directory):
            raise RelookError(
                f"Pinecone index {self._service.name}: another model is current, "
                f"{self._difference(served, str(current))}; search with its index, run: relook upload --promote, "
                "or set store.pinecone.unpromoted=true to try this one"
            )

    def check_not_elsewhere(self, served: Served) -> None:
        """Raises RelookError where there are vectors, but of other models only."""
        counts = self.counts(served)
        others = sorted(name for name, count in counts.items() if count)
        if others and not counts.get(self._card.fingerprint):
            raise RelookError(
                f"Pinecone index {self._service.name}: holds no vectors of this model, but of another one, "
                f"{self._difference(served, others[0])}; run: relook upload --store pinecone"
            )

    def _difference(self, served: Served, fingerprint: str) -> str:
        with speaking(self._service.name):
            found = served.records.fetch(self._cards, [fingerprint], metadata=True)
        if fingerprint not in found:
            return fingerprint
        other = ModelCard.from_json(json.loads(found[fingerprint][1]["card"]))
        return f"{fingerprint} ({'; '.join(self._card.differences(other)[:3])})"
