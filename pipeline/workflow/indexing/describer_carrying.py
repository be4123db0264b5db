"""Having an index carry its describer, so that its searches need neither torch nor the weights.

Called by a run that describes. What cannot be carried is said: searches then load the network, as for an index from
before describers were carried.
"""

from __future__ import annotations

import logging
import sys

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.stores import Index, IndexWriter
from pipeline.types import FittableDescriber

logger = logging.getLogger("relook")


def carry_describer(writer: IndexWriter, describer: FittableDescriber, config: Config) -> None:
    """Write the describer of the index that is written into it, unless it is there or `describe.runtime` is torch.

    The papers' networks are carried where a compiled runtime is named.

    Raises:
        RelookError: the disk is full or closed to us.
    """
    from pipeline.describe.packaged_describer import PackagedDescriber
    from pipeline.describe.presets import PRESETS

    runtime, index = config.describe.runtime, writer.index
    if runtime == "torch" or index is None or (runtime == "auto" and config.describe.name in PRESETS):
        return
    try:
        if index.carried_describer() is not None:
            return
    except RelookError as error:
        logger.warning("%s; it is made again", error)
    if isinstance(describer, PackagedDescriber):
        writer.carry_describer(describer.graph, describer.spec.to_json())
    elif "torch" in sys.modules:  # a network is described with it
        _carry_network(writer, index, describer)


def _carry_network(writer: IndexWriter, index: Index, describer: FittableDescriber) -> None:
    from pipeline.describe.carried import carried_describer
    from pipeline.describe.describer import NetworkDescriber

    if not isinstance(describer, NetworkDescriber):
        return
    try:
        found = carried_describer(describer)
    except RelookError as error:
        logger.info("%s: searches load the network, since the index cannot carry it: %s", index.directory, error)
        return
    writer.carry_describer(found.graph, found.spec.to_json())
