"""How all plots look, and how they become part of a page or a file.

Colours are those of Okabe and Ito (2008), told apart with any colour vision; lines also differ in their dashes.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from pipeline.errors import UsageError
from pipeline.files import write_bytes, write_errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":")
# Text and axes: nearly black in a file, the colour of the text around it in a page.
INK = "#010203"
ENDINGS = (".pdf", ".svg", ".png")
_SETTINGS: Any = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text that a journal can embed and people can search
    "svg.fonttype": "none",
    "svg.hashsalt": "relook",
}


@contextmanager
def styled() -> Iterator[None]:
    """Within the block plots are drawn and written in this style."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        yield


def panels(count: int, columns: int = 2) -> tuple[Figure, list[Axes]]:
    """A figure with so many plots, in rows of `columns`."""
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.6 * columns, 3.3 * rows))
    axes = [figure.add_subplot(rows, columns, number + 1) for number in range(count)]
    return figure, axes


def svg_of(figure: Figure, what: str) -> Markup:
    """The figure as part of a page, in its colours; `what` says in words what it shows."""
    data = io.StringIO()
    figure.savefig(data, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = data.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    for number, colour in enumerate(COLOURS):  # lighter on a dark page
        text = text.replace(f": {colour.lower()}", f": var(--plot{number}, {colour.lower()})")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    # Names of clip paths and markers are unique in a file only.
    key = f"f{zlib.crc32(what.encode('utf-8', 'backslashreplace')):08x}-"
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{key}", text)
    opening = text[: text.index(">") + 1]
    width, view = (re.search(rf'{name}="([^"]+)"', opening)[1] for name in ("width", "viewBox"))  # type: ignore[index]
    own = f'<svg viewBox="{view}" style="width: {width}; max-width: 100%; height: auto" role="img" '
    return Markup(own + f'aria-label="{escape(what)}">' + text[len(opening) :])


def check_ending(path: Path) -> None:
    """Raises UsageError unless the file's ending is that of a kind of figure."""
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"--figure {path}: a figure is written as {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")


def save_figure(path: Path, figure: Figure) -> None:
    """Write the figure as .pdf, .svg or .png, with nothing in it that changes from run to run.

    Raises:
        UsageError: the file has another ending.
        RelookError: it cannot be written.
    """
    check_ending(path)
    kind = path.suffix.lower()[1:]
    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    data = io.BytesIO()
    figure.savefig(data, format=kind, dpi=300, metadata=dates[kind])
    with write_errors(path):
        write_bytes(path, data.getvalue())
