"""`upload` to the embedded approximate store: what is sent, sent again and deleted, and the table's answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stores_helpers import make_index, make_items, unit_vectors

from pipeline.config import parse_config
from pipeline.errors import RelookError
from pipeline.stages.upload import plan_upload, upload
from pipeline.stages.verify import verify
from pipeline.stores import IndexWriter, open_store
from pipeline.workflow.gallery import open_gallery


def test_upload_makes_the_store_equal_to_the_index(tmp_path: Path) -> None:
    names = [f"photo {number:03d}.jpg" for number in range(300)]
    make_index(tmp_path, ids=names)
    config = parse_config({"index": str(tmp_path), "store": {"kind": "ann", "ann": {"flat_below": 100}}}, "here")
    with pytest.raises(
        RelookError, match="the store ann is empty, the index has 300 images; run: relook upload --store ann"
    ):
        open_gallery(config)
    assert plan_upload(config).added == 300
    done = upload(config)
    assert (done.added, done.changed, done.removed, done.equal) == (300, 0, 0, 0)
    assert upload(config).equal == 300
    with IndexWriter(tmp_path) as writer:
        writer.add(*make_items([names[0], "new"], seed=5))
        writer.delete(names[1:3])
    done = upload(config)
    assert (done.added, done.changed, done.removed, done.equal) == (1, 1, 2, 297)
    assert not verify(config).differs
    gallery = open_gallery(config)
    exact = open_store("table", gallery.index)
    asked = unit_vectors(8, seed=7)
    for (ids, scores), (others, theirs) in zip(gallery.store.query(asked, 20), exact.query(asked, 20), strict=True):
        assert ids == others
        np.testing.assert_array_equal(scores, theirs)
    assert (tmp_path / "ann" / gallery.index.card.fingerprint / "records.sqlite").exists()
