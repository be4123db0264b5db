"""The command line: one command per verb. Each parses, calls its stage and shows the result.

Top of the house; nothing imports it. Exit codes: 0 done, 1 an error in one line, 2 wrong usage, 3 more failed inputs
than `--max-failures`, 75 locked. With `--json` stdout holds one JSON document and nothing else. Of the processes that
torchrun starts the first one speaks; of an error that only one of them met, that one.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler

from pipeline import __version__
from pipeline.config import Config, load_config
from pipeline.errors import FailedElsewhereError, RelookError, TooManyFailuresError, UsageError
from pipeline.report import Bars, show_answers, show_evaluation, show_rows, show_training, write_page
from pipeline.stages.progress import Reporter, Silent

app = typer.Typer(
    help="Find the photos that show the same thing, then look again.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console()
err = Console(stderr=True)

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
Store = Annotated[str | None, typer.Option("--store", help="table or csv.")]


@app.command()
def extract(
    images: Annotated[str, typer.Option("--images", help="A folder, a manifest (.csv, .parquet) or NAME:FOLDER.")],
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    device: Device = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    max_failures: MaxFailures = None,
) -> None:
    """Describe photos into an index; run again, it does only what changed."""
    from pipeline.stages import extract as stage

    run = _Run(config, settings, {"index": index, "device": device}, as_json, verbose, quiet)
    result = stage.extract(run.config, images, run.reporter)
    run.show(result.to_json(), lambda document: show_rows(out, "extract", document))
    if result.failed:
        run.note(f"{result.failed} images could not be read; they are listed in {result.index}/failures.*")
    if max_failures is not None and result.failed > max_failures:
        raise TooManyFailuresError(f"{result.failed} images failed, more than --max-failures {max_failures}")


@app.command()
def upload(
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    store: Store = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Bring the vector store to the state of the index; the built-in table is verified."""
    from pipeline.stages import upload as stage

    run = _Run(config, settings, {"index": index, "store.kind": store}, as_json, verbose, quiet)
    run.show(stage.upload(run.config).to_json(), lambda document: show_rows(out, "upload", document))


@app.command("train-global")
def train_global(
    images: Annotated[str, typer.Option("--images", help="Labelled photos: a manifest, a folder or NAME:FOLDER.")],
    checkpoint: Annotated[Path | None, typer.Option("--out", help="Where the best checkpoint goes.")] = None,
    dry_run: DryRun = False,
    config: ConfigFile = None,
    settings: Settings = None,
    device: Device = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Train a describer on labelled photos."""
    from pipeline.stages import train_global as stage

    run = _Run(config, settings, {"device": device, "train_global.out": checkpoint}, as_json, verbose, quiet)
    if dry_run:
        run.show_cost(stage.dry_run_global(run.config, images, run.reporter))
        return
    result = stage.train_global(run.config, images, run.reporter)
    run.show(result.to_json(), lambda document: show_training(out, document))


@app.command("train-rerank")
def train_rerank(
    reranker: Annotated[str | None, typer.Option("--reranker", help="What to train: rrt.")] = None,
    checkpoint: Annotated[Path | None, typer.Option("--out", help="Where the best checkpoint goes.")] = None,
    dry_run: DryRun = False,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    store: Store = None,
    device: Device = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Train a reranker on the labelled photos of an index, with the store's candidates."""
    from pipeline.stages import train_rerank as stage

    flags = {
        "index": index,
        "store.kind": store,
        "device": device,
        "train_rerank.reranker": reranker,
        "train_rerank.out": checkpoint,
    }
    run = _Run(config, settings, flags, as_json, verbose, quiet)
    if dry_run:
        run.show_cost(stage.dry_run_rerank(run.config))
        return
    result = stage.train_rerank(run.config, run.reporter)
    run.show(result.to_json(), lambda document: show_training(out, document))


@app.command()
def search(
    queries: Annotated[list[str], typer.Argument(metavar="QUERY...", help="Photos, folders or manifests.")],
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    store: Store = None,
    rerank: Rerank = None,
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Results per query.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with the pictures.")] = None,
    device: Device = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    max_failures: MaxFailures = None,
) -> None:
    """Which photos of the index show the same thing as these?"""
    from pipeline.stages import search as stage

    flags = {
        "index": index,
        "store.kind": store,
        "device": device,
        "search.top_k": top_k,
        "rerank.chain": _chain(rerank),
    }
    run = _Run(config, settings, flags, as_json, verbose, quiet)
    result = stage.search(run.config, queries, run.reporter)
    document = result.to_json()
    if html is not None:
        write_page(html, document)
        run.note(f"pictures: {html}")
    run.show(document, lambda shown: show_answers(out, shown, Path.cwd()))
    if max_failures is not None and len(result.failed) > max_failures:
        raise TooManyFailuresError(f"{len(result.failed)} queries failed, more than --max-failures {max_failures}")


@app.command()
def evaluate(
    images: Annotated[str | None, typer.Option("--images", help="Ground truth; without it the index's labels.")] = None,
    queries: Annotated[str | None, typer.Option("--queries", help="Photos to ask with; without it every one.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Only this split of the ground truth.")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", help="labels.")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    store: Store = None,
    rerank: Rerank = None,
    device: Device = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """How good the search is, before and after the second look."""
    from pipeline.stages import evaluate as stage

    flags = {
        "index": index,
        "store.kind": store,
        "device": device,
        "rerank.chain": _chain(rerank),
        "evaluate.split": split,
        "evaluate.protocol": protocol,
    }
    run = _Run(config, settings, flags, as_json, verbose, quiet)
    result = stage.evaluate(run.config, images, queries, run.reporter)
    run.show(result.to_json(), lambda document: show_evaluation(out, document))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Weights: an official file, or relook's own.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help=".safetensors: relook's format; .pt: the official.")],
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Official weights to relook's own format, and back."""
    from pipeline.stages import convert as stage

    run = _Run(None, None, {}, as_json, verbose, quiet)
    run.show(stage.convert(source, target).to_json(), lambda document: show_rows(out, "convert", document))


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Where index, checkpoint and page go.")] = Path("relook-demo"),
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """All of it on the sample photos: extract, upload, train-rerank, search, evaluate."""
    from pipeline.stages.demo import run_demo

    run = _Run(None, None, {}, False, verbose, quiet)
    run_demo(folder, out, run.reporter)


@app.command()
def version() -> None:
    """The version of relook."""
    out.print(__version__)


def main() -> NoReturn:
    """Run the command line; every error ends in one line and its exit code."""
    if "RANK" in os.environ:  # each process of torchrun would warn of parameters that could have been unused
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        code = app(standalone_mode=False)
    except RelookError as error:
        _fail(error, str(error), error.exit_code)
    except (typer.Abort, KeyboardInterrupt) as error:
        _fail(error, "stopped", 130)
    except BrokenPipeError:  # the reader of our output, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # click's usage errors
            _fail(error, error.format_message(), error.exit_code)
        _fail(error, f"{type(error).__name__}: {error} (a defect of relook; -v shows where)", 1)
    sys.exit(code if isinstance(code, int) else 0)


class _Run:
    """What every verb does around its stage."""

    def __init__(
        self,
        config: Path | None,
        settings: list[str] | None,
        flags: Mapping[str, Any],
        as_json: bool,
        verbose: int,
        quiet: bool,
    ) -> None:
        overrides = [f"{key}={json.dumps(_plain(value))}" for key, value in flags.items() if value is not None]
        self.config: Config = load_config(config, [*(settings or ()), *overrides])
        quiet = quiet or not _is_first()
        self.reporter: Reporter = Silent() if quiet else Bars(err)
        self._as_json, self._quiet = as_json, quiet
        level = logging.ERROR if quiet else logging.DEBUG if verbose > 1 else logging.INFO
        logging.basicConfig(
            level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=err, show_path=False)]
        )
        logging.getLogger("relook").setLevel(level)

    def show(self, document: dict[str, Any], table: Any) -> None:
        """The result, as JSON or as a table."""
        if not _is_first():
            return
        if self._as_json:
            sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        else:
            table(document)

    def show_cost(self, cost: Any) -> None:
        """What a dry run measured."""
        self.show(cost.to_json(), lambda document: show_rows(out, "dry run", cost.to_rows()))

    def note(self, text: str) -> None:
        """A word beside the result."""
        if not self._quiet:
            err.print(text, highlight=False, markup=False)


def _chain(rerank: str | None) -> list[str] | None:
    if rerank is None:
        return None
    names = [name.strip() for name in rerank.split(",") if name.strip()]
    if "none" in names and len(names) > 1:
        raise UsageError(f"--rerank {rerank}: none stands alone")
    return [] if names == ["none"] else names


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _is_first() -> bool:
    """Whether this is the first process of torchrun, or there is one only."""
    return os.environ.get("RANK", "0") == "0"


def _fail(error: BaseException, message: str, code: int) -> NoReturn:
    """Say one line. What goes wrong before processes have joined goes wrong in each; later it has a note (`joined`)."""
    notes = getattr(error, "__notes__", [])
    if isinstance(error, FailedElsewhereError) or not (_is_first() or notes):
        sys.exit(code)
    if any(word.startswith("-v") for word in sys.argv[1:]):
        err.print_exception()
    line = " ".join(f"{': '.join([*notes, message])}".split())
    err.print(f"relook: {line}", style="red", highlight=False, markup=False, soft_wrap=True)
    sys.exit(code)
