"""Tables of what an index holds: `info`, `duplicates`, and the settings that `config` lists.

Used by the command line, beside `console`, which shows results.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.report.cells import shown

# Groups and members of a group that a table shows; the page and the JSON document have all.
_GROUPS = 20
_MEMBERS = 6
_SHARDS_SHOWN = 4


def show_info(console: Console, document: Mapping[str, Any]) -> None:
    """Print an `info` document as one table of names and values."""
    table = Table(title=shown(f"index {document['index']}"), show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in info_rows(document):
        table.add_row(name, shown(value))
    console.print(table)


def show_failures(console: Console, document: Mapping[str, Any]) -> None:
    """Print the images that the last run could not read, each with its reason."""
    if not document["failures"]:
        console.print("the last run could read every photo")
        return
    table = Table(title=f"could not be read: {len(document['failures']):,}", title_justify="left")
    for heading in ("photo", "reason"):
        table.add_column(heading, overflow="fold")
    for row in document["failures"]:
        table.add_row(shown(row["path"]), shown(row["reason"]))
    console.print(table)


def show_duplicates(console: Console, document: Mapping[str, Any], root: Path | None = None) -> None:
    """Print the first groups of a `duplicates` document; paths are relative to `root` where they lie below it."""
    groups = document["groups"]
    table = Table(title=f"groups: {len(groups)}, images: {document['images']:,}", title_justify="left")
    for heading in ("group", "kind", "similarity"):
        table.add_column(heading, justify="right" if heading != "kind" else "left")
    table.add_column("photo", overflow="fold")
    for number, group in enumerate(groups[:_GROUPS], start=1):
        for place, member in enumerate(group["members"][:_MEMBERS]):
            first = place == 0
            cells = (str(number) if first else "", group["kind"] if first else "", f"{member['similarity']:.4f}")
            table.add_row(*cells, shown(shortened(member["path"], root)))
        if len(group["members"]) > _MEMBERS:
            table.add_row("", "", "", f"and {len(group['members']) - _MEMBERS} more")
    if len(groups) > _GROUPS:
        table.caption = f"and {len(groups) - _GROUPS} more groups; --json and --html have all"
    console.print(table)
    console.print(
        f"images that are copies of another one: {document['redundant']:,} (cosine at least {document['threshold']:g}, "
        "or the same bytes)",
        highlight=False,
    )


def show_settings(console: Console, document: Mapping[str, Any]) -> None:
    """Print a `config` document: one setting a row, values that differ from the default in bold."""
    table = Table(show_lines=False)
    for heading in ("setting", "value", "type", "meaning"):
        table.add_column(heading, overflow="fold")
    for row in document["settings"]:
        changed = row["value"] != row["default"]
        value = shown(_yaml(row["value"]), "bold" if changed else "")
        if changed:
            value.append(f" (default {_yaml(row['default'])})")
        table.add_row(shown(row["key"]), value, shown(row["type"]), shown(row["meaning"]))
    console.print(table)


def shortened(path: str, root: Path | None) -> str:
    """A path relative to `root` where it lies below it."""
    if root is not None and Path(path).is_relative_to(root):
        return Path(path).relative_to(root).as_posix()
    return path


def info_rows(document: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Names and values of an `info` document, for a table."""
    labels, model = document["labels"], document["model"]
    yield "images", f"{document['images']:,} (parts: {document['parts']:,}, deleted rows: {document['deleted']:,})"
    if document["failures"]:
        yield "failures", f"{document['failures']:,} images could not be read by the last run (relook info --failures)"
    yield (
        "labels",
        f"{labels['labels']:,} (images with a label: {labels['labelled']:,}, without: {labels['distractors']:,})",
    )
    if document["splits"]:
        splits = ", ".join(f"{name or 'none'} {count:,}" for name, count in document["splits"].items())
        yield "splits", splits
    yield "model", f"{model['name']} ({model['architecture']}), {model['dimension']} values, {model['weights']}"
    yield "fingerprint", document["fingerprint"]
    for kind, sizes in document["representations"].items():
        yield kind, f"{_bytes(sizes['bytes'])}, {sizes['bytes_per_image']:,.1f} bytes per image"
    state = "complete" if document["complete"] else "not complete: the run that made it has not ended"
    yield "generation", f"{document['generation']}, {state}"
    yield "updated", f"{document['updated']} ({_ago(document['age_seconds'])})"
    if document["earlier"]:
        earlier = ", ".join(str(row["generation"] or "damaged") for row in document["earlier"])
        yield "earlier", f"generations {earlier} (relook reindex --rollback)"
    if document["changing"]:
        changing = document["changing"]
        yield "model change", f"to {changing['fingerprint']}, {changing['images']:,} images so far"
    if document["shards"]:
        yield "shards", _shards(document["shards"])
    for row in document["rerankers"]:
        fits = "" if row["fits"] else "; trained for another model"
        yield f"reranker {row['name']}", f"{row['file']} ({_bytes(row['bytes'])}{fits})"
    if document["default_chain"] is not None:
        yield "re-ranked by", f"{', '.join(document['default_chain']) or 'none'} (unless --rerank names others)"
    if document["fusion"] is not None:
        fits = "" if document["fusion"]["fits"] else "; made for another model"
        yield "calibrated", f"{','.join(document['fusion']['chain'])} ({document['fusion']['file']}{fits})"
    for row in document["stores"]:
        vectors = "" if row["vectors"] is None else f", {row['vectors']:,} vectors"
        yield f"store {row['kind']}", f"{row['place']}{vectors}"
    if document["last_run"]:
        run = document["last_run"]
        yield "last run", f"{run['verb']}, {run['outcome']}, {run['time']}"


def _shards(shards: Mapping[str, Any]) -> str:
    """How far a divided extraction is, and the first shards that are missing."""
    text = f"{shards['done']:,} of {shards['shards']:,} done, of {shards['source']}, begun {shards['began']}"
    missing = shards["missing"]
    if not missing:
        return f"{text}; relook extract --join commits them"
    named = [
        f"{row['shard']} ({row['described']:,} of {row['images']:,} images)"
        if row["state"] == "begun"
        else f"{row['shard']} ({row['state']})"
        for row in missing[:_SHARDS_SHOWN]
    ]
    more = f" and {len(missing) - len(named):,} more" if len(missing) > len(named) else ""
    return f"{text}; missing: {', '.join(named)}{more}"


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"


def _ago(seconds: int) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} seconds ago"


def _yaml(value: Any) -> str:
    return "null" if value is None else value if isinstance(value, str) else json.dumps(value)
