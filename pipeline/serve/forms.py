"""The form of a search, checked: a photo or an id, and how it is searched.

Between `routes` and `engine`. Whatever is wrong is one line that names the field.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.errors import UsageError
from pipeline.serve.engine import Plan
from pipeline.serve.generations import Pinned
from pipeline.workflow.query_inputs import Query, checked_box, checked_filter, with_feedback
from pipeline.workflow.rerank_chain import chosen_rerankers
from pipeline.workflow.searching import SearchOptions

Text = Annotated[str, Field(max_length=4096)]
# A service is sent the values of a filter; the built-in stores compare numbers.
_MOST_HOSTED = 1000


class SearchForm(BaseModel):
    """A search, as multipart/form-data."""

    model_config = ConfigDict(extra="forbid")

    image: UploadFile | None = Field(None, description="the photo to search with; or give an id")
    id: Text | None = Field(None, description="an image of the collection to search with")
    like: Annotated[list[Text], Field(max_length=100)] = Field(
        [], description="images of the collection that the query moves towards; without a photo and an id they are it"
    )
    unlike: Annotated[list[Text], Field(max_length=100)] = Field(
        [], description="images of the collection that the query moves away from"
    )
    box: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="x0,y0,x1,y1 in pixels of the upright photo: search with this part of it"
    )
    label: Annotated[list[Text], Field(max_length=100)] = Field([], description="only images with one of these labels")
    split: Annotated[list[Text], Field(max_length=100)] = Field([], description="only images of one of these splits")
    folder: Text = Field("", description="only images in or below this folder")
    text: Text = Field("", description="only images with this text in their path, in upper or lower case")
    min_score: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None, description="leave out results with a lower score"
    )
    top_k: Annotated[int, Field(ge=1)] | None = Field(None, description="results; default: search.top_k")
    depth: Annotated[int, Field(ge=1)] | None = Field(
        None, description="candidates that each reranker scores; default: as its settings say"
    )
    rerank: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="rerankers in order, such as superglobal,matching; none: the global search alone"
    )
    skip_itself: bool = Field(False, description="leave the query's own image out")
    explain: bool = Field(False, description="say why each result was scored as it was")

    @model_validator(mode="before")
    @classmethod
    def _refuse_addresses(cls, values: Any) -> Any:
        if isinstance(values, dict) and ("url" in values or isinstance(values.get("image"), str)):
            raise ValueError("addresses are not fetched; upload the photo as the file `image`, or give an id")
        return values

    @field_validator("label", "split", "like", "unlike")
    @classmethod
    def _without_empty_values(cls, values: list[str]) -> list[str]:
        return [value for value in values if value]


def plan_of(form: SearchForm, photo: bytes | None, pinned: Pinned, stages: bool) -> Plan | None:
    """How a form is searched; None: its filters leave no image.

    Args:
        form: as it was sent.
        photo: the bytes of the uploaded file; None where there is none.
        pinned: the generation that is searched.
        stages: whether the stages before the last one are wanted.

    Raises:
        KeyError: an id is not in the collection.
        UsageError: fields contradict each other, or ask for more than the service allows.
    """
    config = pinned.gallery.config
    most = config.serve
    top_k = form.top_k or min(config.search.top_k, most.top_k)
    for name, value, limit in (("top_k", top_k, most.top_k), ("depth", form.depth or 0, most.depth)):
        if value > limit:
            raise UsageError(f"{name} = {value}: this service allows {limit} at most")
    query, chain, where = _query(form, photo, pinned), _chain(form.rerank, pinned), _where(form, pinned)
    if where is not None and not all(where.values()):
        return None
    options = SearchOptions(top_k, checked_filter(where), form.min_score, form.skip_itself, form.explain)
    return Plan(query, options, chain, form.depth, stages)


def _query(form: SearchForm, photo: bytes | None, pinned: Pinned) -> Query:
    marked = [*form.like, *form.unlike]
    for name, there in zip(marked, pinned.gallery.index.has(marked), strict=True):
        if not there:
            raise KeyError(name)
    given = [] if photo is None and form.id is None and marked and form.box is None else [_given(form, photo, pinned)]
    return with_feedback(given, form.like, form.unlike)[0]


def _given(form: SearchForm, photo: bytes | None, pinned: Pinned) -> Query:
    """The photo or the image that is searched with."""
    if (photo is None) == (form.id is None):
        raise UsageError("give a photo as the file `image`, or the id of an image, and not both")
    box = None if form.box is None else checked_box(_numbers(form.box))
    if photo is not None:
        return Query((form.image and form.image.filename) or "photo", photo, bbox=box)
    index, name = pinned.gallery.index, form.id or ""
    if not index.has([name])[0]:
        raise KeyError(name)
    (record,) = index.find_records([name])
    if box is None:
        return Query(name, id=name, label=record.label)
    return Query(name, index.image_file(record), id=name, label=record.label, bbox=box)


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise UsageError(f"box = {text!r}: expected x0,y0,x1,y1 in pixels, such as 10,20,300,400") from None


def _where(form: SearchForm, pinned: Pinned) -> dict[str, list[str]] | None:
    where = {key: values for key, values in (("label", form.label), ("split", form.split)) if values}
    paths = pinned.collection.paths(form.text, form.folder.strip("/"))
    if paths is not None:
        if pinned.gallery.store.hosted and len(paths) > _MOST_HOSTED:
            raise UsageError(
                f"text, folder: {len(paths):,} images match; this store filters by {_MOST_HOSTED:,} paths at most, "
                "use a longer text, or label and split"
            )
        where["path"] = paths
    return where or None


def _chain(rerank: str | None, pinned: Pinned) -> tuple[str, ...]:
    if rerank is None:
        return pinned.default
    names = chosen_rerankers(pinned.gallery.config, rerank, pinned.gallery.index.keypoints_card)
    for name in names:
        if name not in pinned.rerankers:
            raise UsageError(f"rerank = {name!r}: not offered here; offered: {', '.join(pinned.rerankers)}")
        if pinned.rerankers[name]:
            raise UsageError(f"rerank = {name!r}: {pinned.rerankers[name]}")
    return names
