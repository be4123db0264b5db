"""What `relook --help` says of the verbs: their groups, their order, and runnable examples of each.

Applied once, when the command line is put together; a run makes the options of its verb alone. Every example is run by
a test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import typer

# Group, verb, examples. The order is that of the help.
GROUPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Search": {
        "search": ("relook search photo.jpg", "relook search photo.jpg --top-k 20 --html results.html"),
        "serve": ("relook serve", "relook serve --index labelled --port 8080"),
        "evaluate": ("relook evaluate --index labelled", "relook evaluate --index labelled --report report"),
        "compare": ("relook compare report", "relook compare report --html comparison.html"),
        "match": ("relook match photo.jpg other.jpg", "relook match photo.jpg other.jpg --out match.png"),
        "duplicates": ("relook duplicates", "relook duplicates --threshold 0.98 --html duplicates.html"),
    },
    "Index": {
        "extract": (
            "relook extract --images photos",
            "relook extract --images photos/labels.csv --index labelled",
            "relook extract --images photos/labels.csv --index maps --config configs/train_detector.yaml",
        ),
        "reindex": ("relook reindex --images photos", "relook reindex --images photos --timeout 2h --max-failures 10"),
        "info": (
            "relook info",
            "relook info labelled --json",
            "relook info --failures",
            "relook info --html index.html",
        ),
        "map": ("relook map --html map.html", "relook map labelled --html map.html"),
        "upload": ("relook upload --store ann", "relook upload --store ann --dry-run"),
        "verify": ("relook verify", "relook verify --sample 1000"),
    },
    "Train": {
        "calibrate": ("relook calibrate --index labelled", "relook calibrate --index labelled --remove"),
        "train-rerank": (
            "relook train-rerank --index labelled",
            "relook train-rerank --index labelled --reranker ames",
        ),
        "train-global": ("relook train-global --images photos/labels.csv --out mine.safetensors",),
        "train-detector": ("relook train-detector --index maps --out detector.safetensors",),
        "adapt": (
            "relook adapt --out adapted.safetensors",
            "relook adapt --out adapted.safetensors --html groups.html",
        ),
        "label": (
            "relook label",
            "relook label --pairs pairs.csv --count 20",
            "relook label --answers pairs.csv --labels labels.csv",
        ),
        "convert": ("relook convert rrt.pt rrt.safetensors",),
    },
    "Data sets": {
        "fetch": ("relook fetch roxford5k --from downloads --out roxford5k",),
        "import": ("relook import vectors.csv --index imported",),
        "export": ("relook export globals vectors.npz", "relook export locals locals.hdf5"),
    },
    "Maintain": {
        "config": ("relook config", "relook config search.top_k", "relook config --schema"),
        "compact": ("relook compact",),
        "gc": ("relook gc --keep 2",),
        "demo": ("relook demo",),
        "version": ("relook version",),
    },
}


def arrange(app: typer.Typer) -> None:
    """Give every command of `app` its group and its examples, in the order of `GROUPS`."""
    places = {
        verb: (number, group, examples)
        for number, (group, verb, examples) in enumerate(
            (group, verb, examples) for group, verbs in GROUPS.items() for verb, examples in verbs.items()
        )
    }
    for command in app.registered_commands:
        _, command.rich_help_panel, examples = places[_name(command)]
        command.epilog = "\n\n".join(("Examples:", *examples))
    app.registered_commands.sort(key=lambda command: places[_name(command)][0])


def keep_named(app: typer.Typer, words: Sequence[str]) -> None:
    """Leave `app` with the verb that these words begin with, if they do: making the options of all takes 0.1 s."""
    named = [command for command in app.registered_commands if [_name(command)] == list(words[:1])]
    app.registered_commands = named or app.registered_commands


def _name(command: typer.models.CommandInfo) -> str:
    return command.name or str(getattr(command.callback, "__name__", "")).rstrip("_").replace("_", "-")
