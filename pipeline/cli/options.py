"""The flags that several verbs share, each written once.

Below the verbs of this room. A verb takes such a flag as a parameter, `index: IndexDir = None`; None leaves the value
of the configuration, whose default the help shows.
"""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.config import Config, expand_argument, parse_chain

_DEFAULTS = Config()


def setting(key: str, flag: str, help: str, **more: Any) -> Any:
    """A flag that overrides one key of the configuration; its help shows the default of that key."""
    value = reduce(getattr, key.split("."), _DEFAULTS)
    shown = ",".join(value) if isinstance(value, tuple) else value
    return typer.Option(flag, help=help, show_default=False if shown is None else str(shown), **more)


def expanded_source(text: str) -> str:
    """Parses a path or NAME:FOLDER that is no setting; settings are expanded with the configuration."""
    return expand_argument(text)


def expanded_path(text: str | Path) -> Path:
    """Parses a path that is no setting. A default is parsed as well, and is a Path already."""
    return Path(expand_argument(str(text)))


ConfigFile = Annotated[Path | None, typer.Option("--config", help="A YAML file of settings; see configs/.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one setting; repeatable.")
]
IndexDir = Annotated[Path | None, setting("index", "--index", "The index directory.")]
Device = Annotated[str | None, setting("device", "--device", "auto, cpu or cuda.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, everything else on stderr.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Log more; show tracebacks.", show_default=False)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result and errors.")]
MaxFailures = Annotated[
    int | None,
    typer.Option("--max-failures", metavar="N", min=0, help="Exit with code 3 if more than N inputs cannot be read."),
]
Rerank = Annotated[
    str | None, setting("rerank.chain", "--rerank", "Rerankers, applied in order; or none.", metavar="NAME[,NAME]")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Run a few steps, report parameters, memory and time, save nothing.")
]
LabelsFile = Annotated[
    Path | None,
    setting("catalog.labels_file", "--labels", "A table path,label whose labels lie over a folder's.", metavar="FILE"),
]
MaxRemoved = Annotated[
    float | None,
    setting(
        "reindex.max_removed",
        "--max-removed",
        "Share of the index's images that may be gone, from 0 to 1; more is an error.",
        metavar="SHARE",
        min=0,
        max=1,
    ),
]
Store = Annotated[str | None, setting("store.kind", "--store", "table, csv, ann or pinecone.")]
Wait = Annotated[
    str | None, typer.Option("--wait", metavar="TIME", help="Time to wait for another run to end, such as 10m.")
]
AcceptLicense = Annotated[
    list[str] | None,
    typer.Option("--accept-license", metavar="NAME", help="Accept the licence of weights, such as superpoint."),
]
LogJson = Annotated[
    bool, typer.Option("--log-json", help="One JSON object per line on stderr; the last is the summary.")
]
Metrics = Annotated[
    Path | None,
    typer.Option("--metrics", metavar="FILE", help="Write Prometheus' text format.", parser=expanded_path),
]
HtmlPage = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page with the pictures.", parser=expanded_path)
]
Figure = Annotated[
    Path | None,
    typer.Option(
        "--figure", metavar="FILE", help="Write the plots as .pdf, .svg or .png, for a paper.", parser=expanded_path
    ),
]


def chain_of(rerank: str | None) -> list[str] | None:
    """The names in `--rerank`, None where it is not given. Raises UsageError where none is combined with others."""
    return None if rerank is None else list(parse_chain(rerank, "--rerank"))
