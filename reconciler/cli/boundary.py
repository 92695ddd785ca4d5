"""How errors are shown: a message and what to do; with -o json, one JSON document on stdout as well."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from reconciler.core.model import Problem, Value
from reconciler.core.report import Report, as_json
from reconciler.errors import FivrecError, ManifestError


def report_error(exc: FivrecError, argv: Sequence[str]) -> None:
    """A foreseen error, without a traceback at any verbosity."""
    say(exc.message, exc.hint, exc.code)
    if wants_json(argv):
        problems = exc.problems if isinstance(exc, ManifestError) else ()
        places = [
            {"path": item.path, "line": item.line, "column": item.column, "message": item.message, "hint": item.hint}
            for item in problems
        ]
        _print_document(argv, Problem(exc.code, exc.message, exc.hint), places)


def report_unforeseen(exc: Exception, argv: Sequence[str]) -> None:
    """What was not foreseen: its type and place; the traceback at -vv. Its text could hold anything: not shown."""
    import traceback

    frame = traceback.extract_tb(exc.__traceback__)[-1]
    message = f"fivrec failed where it should not: {type(exc).__name__} in {frame.name}, line {frame.lineno}"
    hint = "run again with -vv for the traceback, and report it"
    say(message, hint, "internal")
    if _verbosity(argv) > 1:
        for line in traceback.format_tb(exc.__traceback__):
            click.echo(line.rstrip(), err=True)
    if wants_json(argv):
        _print_document(argv, Problem("internal", message, hint), [])


def wants_json(argv: Sequence[str]) -> bool:
    """Whether the command line, or the environment, asks for JSON; also where it could not be parsed."""
    command = command_name(argv).upper().replace("-", "_")
    wanted = os.environ.get(f"FIVREC_{command}_OUTPUT", "")
    for index, word in enumerate(argv):
        if word in ("-o", "--output") and index + 1 < len(argv):
            wanted = argv[index + 1]
        elif word.startswith("--output="):
            wanted = word.partition("=")[2]
        elif word.startswith("-o") and len(word) > len("-o"):
            wanted = word[2:]
    return wanted == "json"


def command_name(argv: Sequence[str]) -> str:
    return next((word for word in argv if not word.startswith("-")), "")


def say(message: str, hint: str, code: str) -> None:
    """An error on stderr: what, and what to do."""
    click.echo(f"{click.style('error', fg='red')} [{code}]: {message}", err=True)
    if hint:
        click.echo(f"  {hint}", err=True)


def _print_document(argv: Sequence[str], problem: Problem, places: list[dict[str, Value]]) -> None:
    report = Report(command_name(argv), str(uuid.uuid4()), datetime.now(UTC), 0, error=problem)
    document = as_json(report)
    if places:
        document["error"]["problems"] = places
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))
    sys.stdout.flush()


def _verbosity(argv: Sequence[str]) -> int:
    return sum(word.count("v") for word in argv if word.startswith("-v") and set(word[1:]) == {"v"})
