"""A real server over loopback for tests: the application in a thread, over a small index of the tiny describer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from tiny import paint, tiny_config

from pipeline.config import Config
from pipeline.config.loading import with_values
from pipeline.serve.app import make_app
from pipeline.serve.label_app import make_label_app
from pipeline.serve.service import Service
from pipeline.stages.extract import extract
from pipeline.stages.label import answers_path
from pipeline.train.mining.answers import AnswerFile
from pipeline.workflow.gallery import open_gallery
from pipeline.workflow.labelling.session import LabellingSession
from pipeline.workflow.progress import Silent

LABELS = ("tower", "bridge", "statue")
EACH = 4


def make_served(folder: Path, **serve: Any) -> Config:
    """An index of a dozen small photos below `folder`, in folders that are their labels; settings of `serve`."""
    for number, label in enumerate(LABELS):
        for view in range(EACH):
            paint(folder / "photos" / label / f"{label} {view}.png", 10 * number + view)
    config = tiny_config(folder)
    extract(config)
    return served_config(config, **serve)


def served_config(config: Config, **serve: Any) -> Config:
    """The configuration with settings of `serve`, and no reranker that needs weights."""
    values = {"rerankers": ["superglobal"], "refresh": 0.05, **serve}
    return with_values(config, {f"serve.{key}": value for key, value in values.items()}, "tests")


def serving(config: Config, token: str | None = None) -> AbstractContextManager[str]:
    """Serve for the length of the block; gives the address."""
    return listening(make_app(Service(open_gallery(config)), token))


@contextmanager
def labelling(config: Config) -> Iterator[str]:
    """Serve the page of `relook label` for the length of the block; yields the address."""
    with open_gallery(config) as gallery:
        session = LabellingSession(gallery, config, AnswerFile(answers_path(config)), Silent())
        with listening(make_label_app(session, gallery, config)) as address:
            yield address


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """An application at a free port for the length of the block; yields the address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for _ in range(400):
        if server.started:
            break
        time.sleep(0.025)
    try:
        yield address
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def client(address: str, **headers: str) -> httpx.Client:
    """For requests to a server; with a token as `Authorization`."""
    return httpx.Client(base_url=address, timeout=30, trust_env=False, headers=headers)
