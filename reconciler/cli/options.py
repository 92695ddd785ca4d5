"""Options that several commands share, and their values as `Settings`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from reconciler.cli.streams import is_plain
from reconciler.model.errors import MissingSetting, UsageError
from reconciler.model.patterns import late
from reconciler.model.records import dataclass

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_FORKS = 16
KEPT_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Settings:
    """The shared options of one command."""

    paths: tuple[str, ...] = ()
    limit: tuple[str, ...] = ()
    extra_vars: tuple[str, ...] = ()
    output: str = "text"
    forks: int = DEFAULT_FORKS
    verbose: int = 0
    quiet: bool = False
    log_format: str = "console"
    timeout: float = 120.0
    secrets_dir: Path | None = None
    allow_command: tuple[str, ...] = ()
    allow_embedded: bool = False
    allow_env: tuple[str, ...] = ()
    allow_connect: tuple[str, ...] = ()
    allow_database: tuple[str, ...] = ()
    allow_secret: tuple[str, ...] = ()
    ca_file: str | None = None
    actor: str | None = None
    changed_since: str | None = None
    keep_going: bool = False
    retry: str | None = None
    work_dir: Path = Path(".fivrec")


SHORTEST_S, LONGEST_S = 0.001, 36500 * 86400.0
"""The longest time that every clock, interval and timeout behind an option can represent."""
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = late(r"([0-9]*\.?[0-9]+) *(ms|s|m|h|d)?")


class Seconds(click.ParamType[float]):
    """A time span in seconds: 30, 30s, 500ms, 5m, 2h, 7d, at most a hundred years."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = _SPAN.fullmatch(str(value).strip().lower())
        seconds = float(found[1]) * _UNITS[found[2] or "s"] if found else 0.0
        if seconds < SHORTEST_S:
            raise click.BadParameter(f'"{value}" is not a time span: write 30, 30s, 500ms, 5m, 2h or 7d', ctx, param)
        if seconds > LONGEST_S:
            raise click.BadParameter(f'"{value}" is too long: a time span is at most 100 years, 36500d', ctx, param)
        return seconds


SECONDS = Seconds()


OWN, CHOICE, RUN = "Options", "Choosing instances", "The run"
REACH, OUTPUT = "What manifests may reach", "Output and log"
GROUPS = (OWN, CHOICE, RUN, REACH, OUTPUT)


class SharedOption(click.Option):
    """An option that several commands have. --help lists it below the command's own, under its `group`."""

    def __init__(self, *args: Any, group: str = OUTPUT, **more: Any) -> None:
        super().__init__(*args, **more)
        self.group = group


def shared_option(*names: str, **more: Any) -> Callable[[F], F]:
    return click.option(*names, cls=SharedOption, **more)


def combine(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """One decorator for several options, in the order in which --help lists them."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def output_option(*formats: str) -> Callable[[F], F]:
    """-o/--output with these formats, the first one as the default; nothing without formats."""
    if not formats:
        return lambda function: function
    return shared_option(
        "-o",
        "--output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Format of the result.",
    )


def _color(ctx: click.Context, param: click.Parameter, value: bool | None) -> bool | None:  # noqa: ARG001, FBT001
    """--color wins, then NO_COLOR (no-color.org) and TERM=dumb, then click's detection of the terminal."""
    if value is not None:
        ctx.color = value
    elif is_plain():
        ctx.color = False
    return value


log_options = combine(
    shared_option(
        "-v",
        "--verbose",
        count=True,
        help="Log each step to stderr; -vv adds tracebacks of faults.",
    ),
    shared_option("-q", "--quiet", is_flag=True, help="Log only errors to stderr."),
    shared_option(
        "--color/--no-color",
        default=None,
        expose_value=False,
        callback=_color,
        help="Use colours. NO_COLOR turns them off too.",
    ),
    shared_option(
        "--log-format",
        type=click.Choice(["console", "json"]),
        default="console",
        show_default=True,
        help="Format of the log on stderr.",
    ),
)
"""Verbosity, colour and the format of the log on stderr."""


def _schema_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    from reconciler.manifest.rules import schema_problem

    if value != "public" and (reason := schema_problem(value)):
        raise click.BadParameter(f"it {reason}", ctx, param)
    return value


schema_option = click.option(
    "--schema",
    default="public",
    show_default=True,
    metavar="NAME",
    callback=_schema_name,
    help="The schema of the app's tables.",
)


class Names(click.ParamType[str]):
    """One of several names; in a variable they are separated by commas."""

    name = "names"
    envvar_list_splitter = ","

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = str(value).strip()
        if not name:  # an empty bound would not bound anything
            raise click.BadParameter("an empty name bounds nothing; is a variable not set?", ctx, param)
        return name


def bound_option(what: str, metavar: str, words: str) -> Callable[[F], F]:
    """--allow-…: what manifests may reach, also settable by a variable for all commands. An empty variable, which would
    bound nothing, is refused as for any option (`command_tree`)."""
    variable = f"FIVREC_ALLOW_{what.upper()}"
    return shared_option(
        f"--allow-{what}",
        multiple=True,
        type=Names(),
        envvar=variable,
        metavar=metavar,
        group=REACH,
        help=f"{words}; anything else is 65. Repeatable; also {variable}, with commas.",
    )


OFFLINE = frozenset({"forks", "timeout", "secrets_dir", "allow_command", "allow_embedded", "ca_file", "actor"})
"""Options that a command without secrets and connections does not use."""
OF_APPLY = frozenset({"actor"})
OF_DATABASE = frozenset({"ca_file", "actor"})
"""Options that a command which writes nothing does not use, and those that one without Connect does not use either."""


def manifest_options(*formats: str, required: bool = True, unused: frozenset[str] = frozenset()) -> Callable[[F], F]:
    """PATH… (at least one if `required`) and the options of all commands that read manifests; see `settings_from`.

    --help does not list the `unused` ones. They are still accepted: scripts give every command the same options.
    """

    def option(*names: str, **more: Any) -> Callable[[F], F]:
        return shared_option(*names, hidden=names[-1][2:].replace("-", "_") in unused, **more)

    paths = click.argument("paths", metavar="PATH…" if required else "[PATH…]", nargs=-1, required=required)
    return combine(log_options, paths, *_choices(option), *_run(option), *_reach(option), output_option(*formats))


def _complete_limit(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    from reconciler.cli.completion import complete_limit  # only when a shell asks

    return complete_limit(ctx, incomplete)


def _choices(option: Any) -> tuple[Callable[[F], F], ...]:
    return (
        option(
            "-l",
            "--limit",
            multiple=True,
            metavar="PATTERN",
            group=CHOICE,
            shell_complete=_complete_limit,
            help="Only instances whose name matches the glob, or with label=value; "
            "a,b is either, ! excludes. Repeatable.",
        ),
        option(
            "-e",
            "--extra-vars",
            multiple=True,
            metavar="KEY=VALUE|@FILE",
            group=CHOICE,
            help="Add or override variables of the manifests. Repeatable.",
        ),
    )


def _reach(option: Any) -> tuple[Callable[[F], F], ...]:
    return (
        option(
            "--secrets-dir",
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIR",
            group=REACH,
            help="Where {file: …} references may point besides the manifest's own folder.",
        ),
        option(
            "--allow-command",
            multiple=True,
            metavar="PROG",
            group=REACH,
            help="Let {command: [PROG, …]} references run this program. Repeatable.",
        ),
        bound_option("env", "GLOB", "Let manifests name only variables that match"),
        bound_option("connect", "HOST", "Let manifests name only this host of Fi.V Connect"),
        bound_option("database", "HOST", "Let manifests name only databases on this host"),
        bound_option(
            "secret",
            "GLOB",
            "Let manifests name only secrets of Vault and packages that match (vault:mount/path#field, NAME:VALUE)",
        ),
        option("--allow-embedded", is_flag=True, group=REACH, help='Let production use "embedded:".'),
    )


def _run(option: Any) -> tuple[Callable[[F], F], ...]:
    return (
        option(
            "-f",
            "--forks",
            type=click.IntRange(min=1),
            default=DEFAULT_FORKS,
            show_default=True,
            metavar="N",
            group=RUN,
            help="How many instances to work on at once.",
        ),
        option(
            "--timeout",
            type=SECONDS,
            default="120s",
            show_default=True,
            metavar="SPAN",
            group=RUN,
            help="Time limit for each instance.",
        ),
        option(
            "--ca-file",
            type=click.Path(dir_okay=False),
            metavar="FILE",
            group=RUN,
            help="CA certificates for Fi.V Connect. Default: SSL_CERT_FILE, else the system's.",
        ),
        option(
            "--actor",
            metavar="NAME",
            group=RUN,
            help="The name in the audit log. Default: from the CI's variables, else the user.",
        ),
    )


listen_option = click.option("--listen", metavar="HOST:PORT", help="Serve /healthz, /readyz and /metrics there.")


receiver_options = combine(
    click.option(
        "--notify-url",
        multiple=True,
        metavar="URL",
        help="Post alerts there, as Slack-compatible JSON; env:NAME or file:PATH keep it out of `ps`. Repeatable.",
    ),
    click.option(
        "--notify",
        multiple=True,
        metavar="URL",
        help="Send alerts by Apprise, which knows mail, Teams, PagerDuty …; env:NAME or file:PATH too. Repeatable.",
    ),
)
"""The receivers of alerts."""


loop_options = combine(
    click.option(
        "--reconcile/--check-only",
        "reconciles",
        default=True,
        show_default=True,
        help="Reconcile, or record status checks and follow the lock only.",
    ),
    listen_option,
    receiver_options,
    click.option("--keep-logs", type=SECONDS, metavar="SPAN", help="Delete older status checks. Default: keep all."),
    click.option("--keep-audit", type=SECONDS, metavar="SPAN", help="Delete older audit entries. Default: keep all."),
    click.option(
        "--keep-connections",
        type=click.IntRange(min=0),
        default=KEPT_CONNECTIONS,
        show_default=True,
        metavar="N",
        help="Keep at most this many idle connections to databases; the one unused for longest is closed first.",
    ),
)
"""The options that `watch` and a worker of the fleet share."""


lines_option = click.option(
    "-n",
    "--lines",
    type=click.IntRange(1, 2_000_000_000),
    metavar="N",
    default=50,
    show_default=True,
    help="At most N per instance.",
)


def text_or_variable(text: str) -> str:
    """A literal URL, or env:NAME for the variable that contains it."""
    if not text.startswith("env:"):
        return text

    name = text.removeprefix("env:")
    value = os.environ.get(name, "")
    if not value:
        raise MissingSetting(f"the variable {name} is not set", hint=f"set {name} to the database's URL")
    return value


def receiver_url(text: str) -> str:
    """A receiver's literal URL, or env:NAME for the variable, or file:PATH for the file that contains it."""
    scheme, _, rest = text.partition(":")
    if scheme in ("env", "file") and not rest:
        raise UsageError(
            f"{text} names no {'variable' if scheme == 'env' else 'file'}", hint="write env:NAME or file:PATH"
        )
    if scheme == "env":
        found, what = os.environ.get(rest, ""), f"the variable {rest}"
    elif scheme == "file":
        try:
            found, what = Path(rest).read_text(encoding="utf-8"), f"the file {rest}"
        except (OSError, ValueError) as exc:
            raise MissingSetting(f"the file {rest} can't be read", hint="it holds a receiver's URL, in UTF-8") from exc
    else:
        return text
    if not found.strip():
        missing = "is empty" if scheme == "file" else "is empty or not set"
        raise MissingSetting(f"{what} {missing}", hint="it holds the URL of a receiver of alerts")
    return found.strip()


def instance_name(text: str | None) -> str | None:
    """--instance as given. Raises UsageError if no manifest could have that name."""
    from reconciler.support.json_schema.validate import load_schema

    if text and not re.fullmatch(load_schema("manifest")["$defs"]["name"]["pattern"], text):
        raise UsageError("--instance is not a valid instance name", hint="such as client-abc-123")
    return text


def settings_from(options: dict[str, Any]) -> Settings:
    """Take the shared options out of a command's keyword arguments; the rest is the command's own."""
    names = [name for name in Settings.__dataclass_fields__ if name in options]
    return Settings(**{name: options.pop(name) for name in names})


def refuse_manifest(out: str | None, example: str) -> None:
    """Raises UsageError if --out names a manifest, as it does in `--out *.yaml`: it would be overwritten. A plan and a
    page begin otherwise, whatever they are called."""
    path = Path(out or "")
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file() and path.read_bytes()[:1] not in (b"", b"{", b"<"):
        raise UsageError(f"--out {out} would overwrite a manifest", hint=f"such as --out {example}")
