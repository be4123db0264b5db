"""`relook serve`: a search page and an HTTP service."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.options import (
    AcceptLicense,
    ConfigFile,
    Device,
    IndexDir,
    Quiet,
    Rerank,
    Settings,
    Store,
    Verbose,
    chain_of,
    setting,
)
from pipeline.cli.run import Run, app

Host = Annotated[str | None, setting("serve.host", "--host", "The address to listen on.")]
Port = Annotated[int | None, setting("serve.port", "--port", "The port; 0: a free one.", min=0, max=65535)]
Insecure = Annotated[bool, typer.Option("--insecure", help="Listen beyond this machine without a token.")]


@app.command()
def serve(
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    host: Host = None,
    port: Port = None,
    insecure: Insecure = False,
    store: Store = None,
    rerank: Rerank = None,
    accept_license: AcceptLicense = None,
    device: Device = None,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Search in a browser, or over HTTP. The variable RELOOK_TOKEN holds the token that clients need, if any."""
    from pipeline.stages import serve as stage
    from pipeline.workflow.bucket_index import shown_index

    flags = {
        "index": index,
        "serve.host": host,
        "serve.port": port,
        "serve.insecure": insecure or None,
        "store.kind": store,
        "device": device,
        "accept_license": accept_license or None,
        "rerank.chain": chain_of(rerank),
    }
    run = Run(config, settings, flags, False, verbose, quiet, bucket=True)
    shown = shown_index(run.config)
    stage.serve(run.config, lambda address: run.note(f"serving {shown} at {address} (Ctrl-C ends it)"))
