"""How errors are shown: a message and what to do; with -o json (markdown, ...) also one document on stdout."""

from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import zip_longest

import click

from reconciler.cli.command_tree import find_variable
from reconciler.cli.streams import is_plain
from reconciler.model.errors import FivrecError, ManifestError, MissingSetting, Unforeseen
from reconciler.model.names import printable
from reconciler.model.patterns import late
from reconciler.model.types import ErrorInfo
from reconciler.planning.report import Report
from reconciler.support.log import EventLog

SHORT_OUTPUT = late(r"-[vqhyCD]*o(.*)", re.DOTALL)
"""-o, also after flags and before its value, as click parses it."""

GROUPS = frozenset({"connect", "fleet", "key"})
"""Commands that have subcommands."""


def report_error(exc: FivrecError, argv: Sequence[str]) -> None:
    """Show an expected error, without a traceback at any verbosity."""
    say(exc.message, exc.hint, exc.code)
    _write(argv, exc)


def report_unforeseen(exc: Exception, argv: Sequence[str]) -> None:
    """Show an unexpected error: its type and place; the traceback at -vv. Its text could contain anything, and is not
    shown."""
    import traceback

    error = Unforeseen.of(exc)
    shown = traceback.format_tb(exc.__traceback__) if _verbosity(argv) > 1 else []
    say(error.message, error.hint, error.code, "".join(shown).rstrip())
    _write(argv, error)


def find_lost_directory() -> FivrecError | None:
    """The message that the working directory is gone, if it is: no relative path leads anywhere then."""
    try:
        os.getcwd()  # noqa: PTH109 (Path.cwd may answer by $PWD)
    except OSError:
        return FivrecError(
            "the working directory was removed, or replaced by another one of its name",
            hint='enter it again (cd "$PWD"), or another one, and run the command again',
            code="directory_gone",
        )
    return None


def usage_words(exc: click.ClickException) -> str:
    """What is wrong with the command line, naming the variable if an option's value came from one."""
    said = exc.format_message()
    if isinstance(exc, click.MissingParameter) and exc.ctx is not None and len(missing := _missing(exc.ctx)) > 1:
        return f"Missing: {', '.join(missing)}."
    if not isinstance(exc, click.BadParameter) or exc.param is None or exc.ctx is None:
        return said
    name = exc.param.name or ""
    if exc.ctx.get_parameter_source(name) is not click.core.ParameterSource.ENVIRONMENT:
        return said
    variable, _ = find_variable(exc.param, exc.ctx)
    return f"{said.rstrip('.')}; it comes from the variable {variable}"


def _missing(ctx: click.Context) -> list[str]:
    """Everything that the command line lacks; click stops at the first. Nothing if it can't be parsed."""
    command = ctx.command
    try:
        given, _, _ = command.make_parser(ctx).parse_args(sys.argv[1 + ctx.command_path.count(" ") :])
        values = [(param, param.consume_value(ctx, given)[0]) for param in command.get_params(ctx)]
    except click.UsageError:
        return []
    return [param.get_error_hint(ctx) for param, value in values if param.required and param.value_is_missing(value)]


def wanted_output(argv: Sequence[str]) -> str:
    """The format that the command line, or the environment, asks for by --output, even if it could not be parsed."""
    return _wanted(argv, "output", SHORT_OUTPUT)


def logs_json(argv: Sequence[str]) -> bool:
    return _wanted(argv, "log-format") == "json"


def _wanted(argv: Sequence[str], option: str, short: re.Pattern[str] | None = None) -> str:
    command, name = (word.upper().replace("-", "_").replace(" ", "_") for word in (command_name(argv), option))
    wanted = os.environ.get(f"FIVREC_{command}_{name}", "")
    for word, following in zip_longest(argv, argv[1:], fillvalue=""):
        if word == "--":
            break
        if word == f"--{option}":
            wanted = following
        elif word.startswith(f"--{option}="):
            wanted = word.partition("=")[2]
        elif short and (found := short.fullmatch(word)):
            wanted = found[1] or following
    return wanted


def command_name(argv: Sequence[str]) -> str:
    """`apply`, or `fleet apply` for a group; ignores a format that is given before any command."""
    words = [word for word, last in zip(argv, ("", *argv), strict=False) if word[:1] != "-" and not _asks_form(last)]
    return " ".join(words[: 2 if words[:1] and words[0] in GROUPS else 1])


def _asks_form(word: str) -> bool:
    """Whether the next argument is the option's value."""
    found = SHORT_OUTPUT.fullmatch(word)
    return word in ("--output", "--log-format") or (found is not None and not found[1])


def say(message: str, hint: str, code: str, traceback: str = "") -> None:
    """Show an error on stderr: what, and what to do; an event like any other if the log is JSON."""
    argv = sys.argv[1:]
    if logs_json(argv):
        more = {name: text for name, text in (("hint", hint), ("traceback", traceback)) if text}
        EventLog(sys.stderr, "json").error(command_name(argv), message, error=code, **more)
        return
    click.echo(f"{click.style('error', fg='red')} [{code}]: {_seen(message)}", err=True, color=_color(argv))
    if hint:
        click.echo(f"  {_seen(hint)}", err=True)
    if traceback:
        click.echo(traceback, err=True)


def _color(argv: Sequence[str]) -> bool | None:
    """Whether an error that ends a command is coloured: click has not read the options yet, or no longer has them."""
    given = [word for word in argv if word in ("--color", "--no-color")]
    if given:
        return given[-1] == "--color"
    return False if is_plain() else None


def _seen(text: str) -> str:
    """Escape what a terminal would take for a command; keeps line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def _write(argv: Sequence[str], exc: FivrecError) -> None:
    """Write the run's error in the requested format, so that a reader of stdout finds it there too."""
    from reconciler.cli.render.output import MACHINE_FORMATS, publish, write_report

    now = datetime.now(UTC)
    report = Report(
        command_name(argv),
        str(uuid.uuid4()),
        now,
        0,
        error=ErrorInfo.of(exc),
        problems=exc.problems if isinstance(exc, ManifestError) else (),
        lacking=exc.places if isinstance(exc, MissingSetting) else (),
    )
    output = wanted_output(argv)
    if output in MACHINE_FORMATS:
        write_report(report, output, fields=True)
        sys.stdout.flush()
    else:
        publish(report)


def _verbosity(argv: Sequence[str]) -> int:
    return sum(word.count("v") for word in argv if word.startswith("-v") and set(word[1:]) == {"v"})
