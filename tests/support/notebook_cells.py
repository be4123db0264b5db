"""Runs the code cells of a notebook and keeps what Jupyter would show: what is printed, and the last value of a cell.

`python tests/support/notebook_cells.py docs/notebook.ipynb` writes the outputs into the notebook; the documentation
shows them.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any


def run_cells(file: Path) -> dict[str, Any]:
    """The notebook with the outputs of a new run, which sees the folder of `file` as its own."""
    notebook: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(file.parent):
        count = 0
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                count += 1
                cell["execution_count"] = count
                cell["outputs"] = _run("".join(cell["source"]), names, count)
    return notebook


def _run(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "<cell>", "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(True)})
    if value is not None:
        result = {"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": _shown(value)}
        outputs.append(result)
    return outputs


def _shown(value: Any) -> dict[str, Any]:
    if hasattr(value, "_repr_jpeg_"):
        return {"image/jpeg": base64.b64encode(value._repr_jpeg_()).decode()}
    data: dict[str, Any] = {"text/plain": repr(value).splitlines(True)}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_().splitlines(True)
    return data


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    path = Path(sys.argv[1]).resolve()
    path.write_text(json.dumps(run_cells(path), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
