"""The page of the command line: every verb with its flags and examples, from the typer application."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer

from pipeline.cli import app
from pipeline.cli.help import GROUPS

HEAD = """\
# Command line

Every verb with its flags, as `relook VERB --help` prints them. Flags override settings ([settings](settings.md)); what
verbs print with `--json` is in [JSON documents](json.md), how they end in [exit codes](exit-codes.md).

"""


def cli_page() -> str:
    """The Markdown of the page."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    shared = _shared(commands.values())
    parts = [HEAD, _contents(commands), "## Flags of most verbs\n\n", _table(shared.values())]
    for group, verbs in GROUPS.items():
        for verb, examples in verbs.items():
            command = commands[verb]
            own = [one for one in command.params if _key(one) not in shared]
            usage = " ".join([f"relook {verb}", *(_takes(one) for one in own if one.param_type_name == "argument")])
            parts.append(f"## {verb} {{ #{verb} }}\n\n{_sentence(command.help)} *{group}.*\n\n")
            parts.append(f"```text\n{usage} [OPTIONS]\n```\n\n")
            parts.append(_table(own) if own else "")
            parts.append('```text title="Examples"\n' + "\n".join(examples) + "\n```\n\n")
    return "".join(parts)


def _contents(commands: dict[str, Any]) -> str:
    rows = []
    for group, verbs in GROUPS.items():
        rows.append(f"| **{group}** | |\n")
        rows += [f"| [`{verb}`](#{verb}) | {_escaped(_sentence(commands[verb].help))} |\n" for verb in verbs]
    return "| verb | |\n|---|---|\n" + "".join(rows) + "\n"


def _shared(commands: Iterable[Any]) -> dict[str, Any]:
    """Flags that mean the same in ten verbs or more, by what is shown of them."""
    counts: dict[str, list[Any]] = {}
    for command in commands:
        for one in command.params:
            if one.param_type_name == "option":
                counts.setdefault(_key(one), []).append(one)
    return {key: found[0] for key, found in counts.items() if len(found) >= 10}


def _key(one: Any) -> str:
    return "|".join([*one.opts, one.help or "", str(one.show_default)])


def _table(params: Iterable[Any]) -> str:
    rows = "".join(f"| {_names(one)} | {_escaped(one.help or '')} | {_default(one)} |\n" for one in params)
    return f"| | | default |\n|---|---|---|\n{rows}\n"


def _names(one: Any) -> str:
    if one.param_type_name == "argument":
        return f"`{_takes(one)}`"
    names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
    return names if one.is_flag or one.count else f"{names} `{_takes(one)}`"


def _takes(one: Any) -> str:
    """The word for a value, such as PATH or N."""
    if one.metavar:
        return str(one.metavar)
    if one.param_type_name == "argument":
        return str(one.name).upper()
    words = {"Path": "PATH", "int": "N", "float": "NUMBER"}
    annotation = getattr(getattr(one, "type_descriptor", None), "annotation", None)
    return words.get(getattr(annotation, "__name__", ""), "TEXT")


def _default(one: Any) -> str:
    shown = one.show_default if isinstance(one.show_default, str) else one.default if one.show_default else None
    return "" if shown is None or shown in (False, (), "") or callable(shown) else f"`{_escaped(str(shown))}`"


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split("\f")[0].split())


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
