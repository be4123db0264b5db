"""Whether the packages of the extra `serve` are installed.

Asked by the verbs before anything else of this room is imported.
"""

from __future__ import annotations

from importlib.util import find_spec

from pipeline.errors import RelookError

_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def require_extra(verb: str) -> None:
    """Raises RelookError where the packages of the extra `serve` are not installed."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise RelookError(f"{verb} needs {', '.join(missing)}; install: pip install 'relook[serve]'")
