"""`fivrec psql`: psql in one instance's database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import OF_DATABASE, manifest_options, settings_from
from reconciler.model.errors import UsageError

if TYPE_CHECKING:
    from reconciler.cli.runtime import RunSetup
    from reconciler.database.psql import PsqlCall
    from reconciler.model.types import Desired

MOST_NAMED = 10


class _WithArguments(click.Command):
    """Arguments after `--` are psql's, whatever they look like."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        own, ctx.meta["psql"] = args[:end], args[end + 1 :]
        return super().parse_args(ctx, own)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARG…]"]


@click.command("psql", cls=_WithArguments)
@manifest_options(unused=OF_DATABASE | {"forks", "timeout"})
def command(**options: Any) -> None:
    """Open psql in the database of the one instance that PATH and --limit choose; the embedded one too.

    What follows -- goes to psql. The password goes to psql in the environment, never as an argument. fivrec ends with
    psql's own exit code. The next diff shows what you change by hand as drift.

    Example: fivrec psql manifests/ -l client-abc-123

    Example: fivrec psql manifests/client.yaml -- -c 'SELECT name, price FROM plans'
    """
    from reconciler.cli.reading_commands import DATABASE, open_readonly

    settings = settings_from(options)
    context = click.get_current_context()
    with open_readonly(settings, "psql", DATABASE) as ready:
        if ready.broken is not None and not settings.limit:
            context.exit(ready.broken.exit_code)  # it is logged already; a broken manifest may declare others
        call = _build_call(ready, context.meta["psql"])
        code = _run(call)
    context.exit(code)


def _build_call(ready: RunSetup, more: list[str]) -> PsqlCall:
    from reconciler.database.psql import build_psql_call, find_psql
    from reconciler.engine.observe import refuse_unmade

    item = _only(ready)
    refuse_unmade(item)
    program = find_psql(os.environ, embedded=bool(item.database.embedded))
    return build_psql_call(program, item.database.url, more, os.environ, ready.run.application_name)


def _only(ready: RunSetup) -> Desired:
    """The one chosen instance; those that lack something or are broken count too."""
    from reconciler.cli.reading_commands import unresolved

    names = [*(item.instance for item in ready.desired), *(item.instance for item in unresolved(ready))]
    if len(names) == 1:
        return ready.desired[0]
    more = ", …" if len(names) > MOST_NAMED else ""
    hint = f"choose one by --limit: {', '.join(names[:MOST_NAMED])}{more}"
    raise UsageError(f"psql opens one database, and {len(names)} instances are chosen", hint=hint)


def _run(call: PsqlCall) -> int:
    """Run psql in the foreground: Ctrl-C goes to psql, which cancels the statement, and SIGTERM is passed on. Returns
    its exit code; 128 plus the signal's number if a signal ended it."""
    sys.stdout.flush()
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _: FrameType | None) -> None:
        if process is not None:
            process.send_signal(number)

    # A handler, not SIG_IGN, which psql's own children would inherit.
    before = {
        number: signal.signal(number, handler)
        for number, handler in ((signal.SIGINT, lambda *_: None), (signal.SIGTERM, pass_on))
    }
    try:
        process = subprocess.Popen(call.arguments, env=call.environment)
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
