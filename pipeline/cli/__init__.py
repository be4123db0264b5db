"""The command line: one file per verb. Each parses, calls its stage and shows the result.

Top of the house; nothing imports it. Exit codes: 0 done, 1 an error in one line, 2 wrong usage, 3 more failed inputs
than `--max-failures`, 75 locked. With `--json` stdout holds one JSON document and nothing else. Of the processes that
torchrun starts the first one speaks; of an error that only one of them met, that one.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import NoReturn

import typer

# Imported for their verbs.
from pipeline.cli import (
    adapt,
    calibrate,
    compact,
    compare,
    config,
    convert,
    demo,
    duplicates,
    evaluate,
    export_descriptors,
    extract,
    fetch,
    gc,
    import_descriptors,
    info,
    label,
    map,
    match,
    reindex,
    search,
    serve,
    train_detector,
    train_global,
    train_rerank,
    upload,
    verify,
    version,
)
from pipeline.cli.help import arrange, keep_named
from pipeline.cli.run import app, is_first
from pipeline.cli.streams import err, escape_unencodable, use_utf8_names
from pipeline.errors import FailedElsewhereError, RelookError

__all__ = [
    "adapt",
    "calibrate",
    "compact",
    "compare",
    "config",
    "convert",
    "demo",
    "duplicates",
    "evaluate",
    "export_descriptors",
    "extract",
    "fetch",
    "gc",
    "import_descriptors",
    "info",
    "label",
    "main",
    "map",
    "match",
    "reindex",
    "search",
    "serve",
    "train_detector",
    "train_global",
    "train_rerank",
    "upload",
    "verify",
    "version",
]

arrange(app)


def main() -> NoReturn:
    """Run the command line; every error ends in one line and its exit code."""
    use_utf8_names()
    escape_unencodable()
    # Read when torch is loaded, which a verb does: threads that spin while they wait take twice the time on a machine
    # with other work (benchmarks/waiting.py).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Photos are prepared by several threads already; OpenCV's own would only wait for each other.
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # Pillow warns of files that it reads nonetheless
    if "RANK" in os.environ:  # each process of torchrun would warn of parameters that could have been unused
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    keep_named(app, sys.argv[1:])
    try:
        code = app(prog_name="relook", standalone_mode=False)
    except RelookError as error:
        _fail(error, str(error), error.exit_code)
    except (typer.Abort, KeyboardInterrupt) as error:
        _fail(error, "stopped", 130)
    except BrokenPipeError:  # the reader of our output, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # click's usage errors
            _fail(error, error.format_message(), error.exit_code, traceback=False)
        _fail(error, f"{type(error).__name__}: {error} (a defect of relook; -v shows where)", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(error: BaseException, message: str, code: int, traceback: bool = True) -> NoReturn:
    """Say one line. What goes wrong before processes have joined goes wrong in each; later it has a note (`joined`)."""
    notes = getattr(error, "__notes__", [])
    if isinstance(error, FailedElsewhereError) or not (is_first() or notes):
        sys.exit(code)
    if traceback and any(word.startswith(("-v", "--verbose")) for word in sys.argv[1:]):
        err.print_exception()
    line = " ".join(f"{': '.join([*notes, message])}".split())
    err.print(f"relook: {line}", style="red", highlight=False, markup=False, soft_wrap=True)
    sys.exit(code)
