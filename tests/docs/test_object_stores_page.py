"""docs/object-stores.md: its commands run as shown, against an S3-compatible server."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from bucket import VARIABLES, Bucket, object_client, object_server
from doc_commands import QUICKER, commands
from preloaded import PRELOADED

from pipeline.stores import Index

__all__ = ["object_client", "object_server"]


@pytest.fixture
def collection(object_server: str, object_client: Any, home: Path) -> Bucket:
    object_client.create_bucket(Bucket="collection")
    bucket = Bucket("collection", object_client, object_server)
    bucket.put_folder(home / "photos", "photos")
    return bucket


def test_the_commands(home: Path, collection: Bucket) -> None:
    environment = {
        **VARIABLES,
        "COLUMNS": "120",
        "AWS_ENDPOINT_URL": collection.endpoint,
        "XDG_CACHE_HOME": str(home / "caches"),
    }

    def run(line: str, *more: str) -> str:
        words = shlex.split(line.removeprefix("relook "))
        done = PRELOADED.run([*words, *QUICKER.get(words[0], []), *more], home, environment)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    lines = [line for line in commands("docs/object-stores.md") if line.startswith("relook ")]
    assert len(lines) == 9
    for line in lines:
        run(line)
    results = [
        json.loads(run(f"relook search photo.jpg --index {index} --json"))["queries"][0]["results"]
        for index in ("s3://collection/index", "local-index")
    ]
    assert [(hit["id"], hit["score"], hit["path"]) for hit in results[0]] == [
        (hit["id"], hit["score"], hit["path"]) for hit in results[1]
    ]
    page = home / "page.html"
    run(f"relook search s3://collection/photos/{results[0][0]['id']} --index local-index --html {page}")
    assert page.read_text().count("data:image/jpeg") > 5
    assert Index(home / "local-index").manifest.images_root == "s3://collection/photos"
    assert not (home / "s3:").exists()
