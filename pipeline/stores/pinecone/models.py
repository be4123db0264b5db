"""Several models in one Pinecone index: each has a namespace and a card, and one of them is current.

Below the Pinecone store. Which model is current is a tag of the index, so that every machine sees the same and a
switch is one step. The cards lie in a namespace of their own: they say what differs between two models, and which
namespaces relook made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from pipeline.errors import RelookError
from pipeline.stores.index.manifest import fingerprints_in
from pipeline.stores.pinecone.requests import pinecone_errors
from pipeline.stores.pinecone.service import PineconeService, RemoteIndex
from pipeline.types import ModelCard


class Models:
    """The models of one collection.

    Args:
        service: the Pinecone index.
        collection: prefix of the namespaces, where several collections share the index; None: there is one.
        card: the model of the store.
    """

    def __init__(self, service: PineconeService, collection: str | None, card: ModelCard) -> None:
        self._service, self._card = service, card
        self._prefix = f"{collection}-" if collection else ""
        self._tag = f"relook-current-{collection}" if collection else "relook-current"
        self._cards = f"{self._prefix}models"
        self._registered = False

    @property
    def namespace(self) -> str:
        """The namespace of this model's vectors."""
        return self._prefix + self._card.fingerprint

    def counts(self, remote: RemoteIndex) -> dict[str, int]:
        """The service's count of the vectors of each namespace that is named as a model's, by fingerprint."""
        spaces = self._service.read(lambda: remote.client.describe_index_stats().namespaces)
        own = re.compile(re.escape(self._prefix) + "([0-9a-f]{16})")
        found = [(own.fullmatch(name), summary.vector_count) for name, summary in spaces.items()]
        return {match[1]: count for match, count in found if match}

    def current(self) -> str | None:
        """The fingerprint of the current model; None before the first was promoted."""
        return self._service.tags().get(self._tag)

    def promote(self) -> None:
        """Make this model the current one."""
        self._service.tag(self._tag, self._card.fingerprint)

    def prunable(self, remote: RemoteIndex) -> dict[str, int]:
        """The models but this and the current one that relook made: numbers of vectors by fingerprint.

        Raises RelookError where no model is current.
        """
        current = self.current()
        if current is None:
            raise RelookError(f"Pinecone index {self._service.name}: no model is current; run: relook upload --promote")
        others = [name for name in self.counts(remote) if name not in (current, self._card.fingerprint)]
        ours, counts = self._with_card(remote, others), self.counts(remote)
        return {name: counts.get(name, 0) for name in ours}

    def prune(self, remote: RemoteIndex) -> dict[str, int]:
        """Delete the namespaces of `prunable` models, which it returns."""
        gone = self.prunable(remote)
        with pinecone_errors(self._service.name):
            for name in gone:
                remote.client.delete_namespace(name=self._prefix + name)
            if gone:
                remote.records.delete(self._cards, list(gone))
        return gone

    def register(self, remote: RemoteIndex) -> None:
        """Write this model's card to the service, once."""
        if self._registered:
            return
        card = json.dumps(self._card.to_json())
        direction = [1.0, *[0.0] * (self._card.dimension - 1)]  # every record needs a vector
        record = remote.records.record(self._card.fingerprint, direction, {"card": card})
        if not self._with_card(remote, [self._card.fingerprint]):
            with pinecone_errors(self._service.name):
                sizes = [2 * len(card) + 5 * len(direction)]
                remote.records.write(self._cards, [record], sizes, self._service.settings)
        self._registered = True

    def check_current(self, remote: RemoteIndex, directory: Path) -> None:
        """Refuse a model that is not current in the service.

        While `reindex` changes the model of an index, its earlier generation still searches its own vectors: the model
        becomes current just before the manifest is switched, and readers may have opened the index before that.

        Args:
            remote: as found when the store was opened.
            directory: the index that is searched.

        Raises:
            RelookError: another model is current that is not of this index; the message says what differs.
        """
        current = remote.tags.get(self._tag)
        if current not in (None, self._card.fingerprint) and current not in fingerprints_in(directory):
            raise RelookError(
                f"Pinecone index {self._service.name}: another model is current, "
                f"{self._difference(remote, str(current))}; search with its index, run: relook upload --promote, "
                "or set store.pinecone.unpromoted=true to try this one"
            )

    def check_not_elsewhere(self, remote: RemoteIndex) -> None:
        """Raises RelookError where there are vectors, but only of other models."""
        counts = self.counts(remote)
        others = sorted(name for name, count in counts.items() if count)
        if others and not counts.get(self._card.fingerprint):
            raise RelookError(
                f"Pinecone index {self._service.name}: has no vectors of this model, but of another one, "
                f"{self._difference(remote, others[0])}; run: relook upload --store pinecone"
            )

    def _difference(self, remote: RemoteIndex, fingerprint: str) -> str:
        other = self._with_card(remote, [fingerprint]).get(fingerprint)
        return f"{fingerprint} ({'; '.join(self._card.differences(other)[:3])})" if other else fingerprint

    def _with_card(self, remote: RemoteIndex, fingerprints: Sequence[str]) -> dict[str, ModelCard]:
        """The cards of those models that have one here; a card of another fingerprint is not relook's."""
        cards = {}
        for batch in remote.records.fetching(self._card.dimension, metadata=True).batches(fingerprints):
            found = self._service.read(partial(remote.records.fetch, self._cards, batch, metadata=True))
            for name, (_, fields) in found.items():
                with suppress(ValueError, KeyError, TypeError, RelookError):
                    card = ModelCard.from_json(json.loads(fields["card"]))
                    if card.fingerprint == name:
                        cards[name] = card
        return cards
