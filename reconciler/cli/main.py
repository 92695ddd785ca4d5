"""The command group, the error boundary, and the exit codes."""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn

import click

from reconciler import __version__
from reconciler.cli import streams
from reconciler.cli.command_tree import group_shared_options, read_variables, refuse_empty_values
from reconciler.cli.signals import SIGNALS
from reconciler.model.errors import FivrecError, Interrupted, UsageError

COMMANDS: dict[str, str] = {
    "apply": "Reconcile instances with their manifests.",
    "diff": "Show what apply would change; write nothing.",
    "drift": "Show what others changed; write nothing.",
    "pull": "Write drift back into the manifests.",
    "watch": "Keep reconciling and checking.",
    "validate": "Check manifests offline.",
    "render": "Print the manifests as they would be applied.",
    "check": "Check each instance's status at Connect, and record it.",
    "status": "Show what is known of each instance.",
    "logs": "Show the recorded status checks.",
    "history": "Show the audit log; --verify checks its chain.",
    "usage": "Show the usage report; --send posts it.",
    "plans": "Show Connect's plans.",
    "databases": "Show the databases that Connect knows.",
    "export": "Write a manifest of a live database.",
    "init": "Write a commented starter manifest.",
    "setup": "Provision one instance in one go.",
    "psql": "Open psql in one instance's database.",
    "purge": "Delete an instance's development rows.",
    "production-test": "Run an instance's checks as production, and roll back.",
    "key": "Make and rotate encryption keys.",
    "schema": "Print a JSON Schema.",
    "sql": "Print the database setup script.",
    "connect": "Run and drive the Connect emulator.",
    "serve": "Serve the integration API and the status page.",
    "report": "Write the status page as one file.",
    "fmt": "Format manifests, comments kept.",
    "docs": "Print a page of the docs.",
    "fleet": "Spread the work over machines.",
    "completion": "Print a shell's completion script.",
}

MODULES = {"render": "render_command"}
"""Modules whose names differ from their commands: `render` is the package that renders reports."""

EXIT_CODES = """\b
Exit codes:
  0    done, or in sync
  1    failed: every instance, the run itself, or not converged
  2    diff found changes, drift found drift
  3    refused by a safety guard, or a saved plan is stale: nothing was written
  4    busy: another run holds the instance
  5    partly: some failed and others are done, or an instance is degraded
  6    check: an instance is suspended, pending payment or overdue
  64   the command line does not fit
  65   a manifest is invalid
  78   a needed setting or secret is missing
  130  stopped by SIGINT
  143  stopped by SIGTERM"""

USAGE, BROKEN_PIPE = 64, 141


class LazyGroup(click.Group):
    """Imports a command when it is called: --help and --version need none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"reconciler.cli.{MODULES.get(cmd_name, cmd_name.replace('-', '_'))}")
        command: click.Command = module.command
        command.short_help = COMMANDS[cmd_name]
        refuse_empty_values(command)
        read_variables(command)
        group_shared_options(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            if near:
                raise click.UsageError(f'no such command "{args[0]}"; did you mean "{near[0]}"?', ctx) from exc
            raise


@click.command(
    cls=LazyGroup,
    epilog=EXIT_CODES,
    context_settings={
        "auto_envvar_prefix": "FIVREC",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
# A pipeline may well have a variable FIVREC_VERSION for something else.
@click.version_option(__version__, prog_name="fivrec", message="%(prog)s %(version)s", allow_from_autoenv=False)
def cli() -> None:
    """Keep Fi.V App instances in the state that their manifests declare.

    Example: fivrec apply manifests/client.yaml
    """


def main() -> NoReturn:
    """Run the command line; every outcome becomes an exit code."""
    streams.prepare()
    try:
        code = _ended()
        _flush()
    except BrokenPipeError:
        code = _broken_pipe()
    except OSError as exc:
        code = _unwritten(exc)
    finally:
        streams.let_go_of_stderr()
    if SIGNALS.number:
        code = 128 + SIGNALS.number
    sys.exit(code if isinstance(code, int) else 0)


def _ended() -> object:
    """Returns the command's exit code, with its error shown. Raises OSError if stdout can't take the result."""
    stdout = sys.stdout
    try:
        code = _command()
    except click.exceptions.Exit as exc:
        code = exc.exit_code
    except (click.Abort, KeyboardInterrupt) as exc:
        # click takes every EOFError for the end of a prompt; ours end in an Abort of their own.
        cause = exc.__cause__
        code = _unforeseen(cause) if isinstance(cause, EOFError) else _interrupted()
    except click.ClickException as exc:
        code = _usage_error(exc)
    except FivrecError as exc:
        code = _foreseen(exc)
    except BrokenPipeError:
        code = _broken_pipe()
    except SystemExit:
        if sys.stdout is stdout:
            raise
        code = _broken_pipe()  # click saw it first: it wraps stdout and exits with 1
    except Exception as exc:  # the only boundary: an unexpected error ends as a message
        if isinstance(exc, OSError) and _came_from_echo(exc):
            raise
        code = _unforeseen(exc)
    return code


def _command() -> object:
    SIGNALS.listen()
    try:
        return cli.main(prog_name="fivrec", standalone_mode=False)
    finally:
        SIGNALS.hold()  # the outcome is known: it is still reported


def _interrupted() -> int:
    from signal import SIGINT

    return _foreseen(Interrupted(SIGNALS.number or SIGINT))


def _usage_error(exc: click.ClickException) -> int:
    from reconciler.cli.boundary import command_name, logs_json, usage_words

    if isinstance(exc, click.exceptions.NoArgsIsHelpError):  # the message is the whole help
        click.echo(exc.format_message(), err=True)
        return USAGE
    context = exc.ctx if isinstance(exc, click.UsageError) else None
    if context is not None and not logs_json(sys.argv[1:]):
        click.echo(context.get_usage(), err=True)
    command = context.command_path if context is not None else f"fivrec {command_name(sys.argv[1:])}".rstrip()
    return _foreseen(UsageError(usage_words(exc), hint=f'see "{command} --help"'))


def _foreseen(exc: FivrecError) -> int:
    from reconciler.cli.boundary import find_lost_directory, report_error

    if isinstance(exc.__cause__, FileNotFoundError):
        exc = find_lost_directory() or exc
    report_error(exc, sys.argv[1:])
    return exc.exit_code


def _unforeseen(exc: Exception) -> int:
    from reconciler.cli.boundary import find_lost_directory, report_unforeseen

    if isinstance(exc, OSError) and (lost := find_lost_directory()) is not None:
        return _foreseen(lost)
    report_unforeseen(exc, sys.argv[1:])
    return 1


def _broken_pipe() -> int:
    """The reader of stdout is gone; nothing more can be written there."""
    _let_go_of_stdout()
    return BROKEN_PIPE


def _came_from_echo(exc: OSError) -> bool:
    """Whether a result could not be written, and not some other file."""
    place = exc.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    writers = (click.echo.__code__, streams.HarmlessWrite.__call__.__code__)
    return place is not None and place.tb_frame.f_code in writers


def _unwritten(exc: OSError) -> int:
    """stdout takes nothing more, as on a full disk. The rest is discarded."""
    from reconciler.cli.boundary import say

    _let_go_of_stdout()
    error = FivrecError(
        f"the result can't be written to stdout: {exc.strerror}",
        hint="what was done remains done; write the output somewhere else",
        code="output_failed",
    )
    say(error.message, error.hint, error.code)
    return error.exit_code


def _let_go_of_stdout() -> None:
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _broken_pipe()
