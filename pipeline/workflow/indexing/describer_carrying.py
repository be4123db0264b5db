"""Having an index carry its describer, so that its searches need neither torch nor the weights.

Called by a run that describes. What cannot be carried is said: searches then load the network, as for an index from
before describers were carried.
"""

from __future__ import annotations

import logging

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.stores import IndexWriter
from pipeline.types import FittableDescriber

logger = logging.getLogger("relook")


def carry_describer(writer: IndexWriter, describer: FittableDescriber, config: Config) -> None:
    """Write the describer of the index that is written into it, unless it is there or `describe.runtime` is torch.

    The papers' networks are carried where a compiled runtime is named.

    Raises:
        RelookError: the disk is full or closed to us.
    """
    from pipeline.describe.describer import NetworkDescriber
    from pipeline.describe.presets import PRESETS

    runtime, index = config.describe.runtime, writer.index
    if not isinstance(describer, NetworkDescriber) or runtime == "torch" or index is None:
        return
    if runtime == "auto" and config.describe.name in PRESETS:
        return
    from pipeline.describe.carried import carried_describer

    try:
        if index.carried_describer() is not None:
            return
    except RelookError as error:
        logger.warning("%s; it is made again", error)
    try:
        found = carried_describer(describer)
    except RelookError as error:
        logger.info("%s: searches load the network, since the index cannot carry it: %s", index.directory, error)
        return
    writer.carry_describer(found.graph, found.spec.to_json())
