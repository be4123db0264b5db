"""The flags that several verbs share, each written once.

Below the verbs of this room. A verb takes such a flag as a parameter, `index: IndexDir = None`; None leaves the value
of the configuration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UsageError

ConfigFile = Annotated[Path | None, typer.Option("--config", help="A YAML file; see configs/.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key; repeatable.")]
IndexDir = Annotated[Path | None, typer.Option("--index", help="The index directory.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, everything else on stderr.")]
Verbose = Annotated[int, typer.Option("--verbose", "-v", count=True, help="Say more; with tracebacks.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but the result and errors.")]
MaxFailures = Annotated[
    int | None, typer.Option("--max-failures", min=0, help="More unreadable inputs end with code 3.")
]
Rerank = Annotated[str | None, typer.Option("--rerank", metavar="NAME[,NAME]", help="The second look, or none.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Take a few steps; say parameters, memory, time. Keep nothing.")
]
Store = Annotated[str | None, typer.Option("--store", help="table, csv, ann or pinecone.")]


def chain_of(rerank: str | None) -> list[str] | None:
    """The names in `--rerank`; [] for none. Raises UsageError where none stands beside others."""
    if rerank is None:
        return None
    names = [name.strip() for name in rerank.split(",") if name.strip()]
    if "none" in names and len(names) > 1:
        raise UsageError(f"--rerank {rerank}: none stands alone")
    return [] if names == ["none"] else names
