"""The application of `relook label`: a page that shows two photos side by side and asks whether they show one thing.

One person, on this machine: the routes are few, and everything around them (who may call, how much, security headers,
errors in one line) is what `serve` has.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from pipeline import __version__
from pipeline.config import Config
from pipeline.errors import ImageError, RelookError, UsageError
from pipeline.serve.app import add_handlers, add_page, allowed_hosts
from pipeline.serve.guard import Guard
from pipeline.serve.metrics import Metrics
from pipeline.serve.pictures import SIDES
from pipeline.serve.refusals import refusal
from pipeline.serve.request_limits import Limits
from pipeline.serve.thumbnails import Thumbnails
from pipeline.workflow.labelling.session import LabellingSession, question_document
from pipeline.workflow.opened_index import OpenedIndex

Id = Annotated[str, Field(max_length=2000)]


class Given(BaseModel):
    """What a person says of a pair."""

    first: Id
    second: Id
    answer: Literal["yes", "no", "unsure"]


def make_label_app(session: LabellingSession, gallery: OpenedIndex, config: Config) -> FastAPI:
    """The application of a session.

    Args:
        session: whose questions are shown.
        gallery: that it reads.
        config: `serve` and `describe.image` matter here.
    """
    app = FastAPI(title="relook label", version=__version__, docs_url=None, redoc_url=None)
    metrics = Metrics()
    _add_questions(app, session)
    _add_photos(app, gallery, config, metrics)
    add_page(app, "label.html")
    add_handlers(app)

    @app.exception_handler(RelookError)
    async def failed(_: Any, error: RelookError) -> Response:
        return refusal(422 if isinstance(error, UsageError) else 503, str(error))

    app.add_middleware(Limits, settings=config.serve, full=lambda: False, metrics=metrics)
    app.add_middleware(Guard, hosts=allowed_hosts(config.serve), token=None)
    return app


def _add_questions(app: FastAPI, session: LabellingSession) -> None:
    @app.get("/question")
    def question() -> dict[str, Any]:
        """The pair whose answer is worth most, and how many were answered."""
        return {"question": question_document(session.question()), "answered": session.counts()}

    @app.post("/answers")
    def answer(given: Given) -> dict[str, Any]:
        """Keep an answer; the next question follows when it is on the disk."""
        session.answer(given.first, given.second, given.answer)
        return question()

    @app.post("/undo")
    def undo() -> dict[str, Any]:
        """Take back the last answer, and ask again."""
        again = session.undo()
        return {"question": question_document(again), "answered": session.counts()} if again else question()

    @app.get("/points")
    def points(
        first: Annotated[str, Query(max_length=2000)], second: Annotated[str, Query(max_length=2000)]
    ) -> JSONResponse:
        """The points that match, as the reasons of a search have them."""
        found = session.points(first, second)
        return JSONResponse({"kind": type(found).__name__, **found.to_json()})


def _add_photos(app: FastAPI, gallery: OpenedIndex, config: Config, metrics: Metrics) -> None:
    directory = config.serve.thumbnails.directory or config.index / "cache" / "thumbnails"
    thumbnails, limits = Thumbnails(directory, config.serve, metrics), config.describe.image

    @app.get("/images/{name:id}")
    def image(name: Annotated[str, Path(max_length=2000)], size: int = SIDES[3]) -> Response:
        """A photo of the index, upright and without metadata."""
        if size not in SIDES:
            return refusal(422, f"size must be one of {', '.join(map(str, SIDES))}")
        if not gallery.index.has([name])[0]:
            return refusal(404, f"{name[:200]!r} is not in the index")
        file = gallery.index.image_file(gallery.index.find_records([name])[0])
        try:
            data, _ = thumbnails.jpeg(file, size, max_pixels=limits.max_pixels, max_bytes=limits.max_bytes)
        except ImageError as error:
            return refusal(404, error.reason)
        return Response(data, headers={"Cache-Control": "private, max-age=60"}, media_type="image/jpeg")
