"""`fivrec history`: the audit log, and the check of its chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import OF_DATABASE, SECONDS, Settings, manifest_options, settings_from
from reconciler.cli.queries import (
    DATABASE,
    ask_all,
    exit_code,
    format_moment,
    open_readonly,
    since_moment,
    write_errors,
    write_json,
    write_table,
)
from reconciler.model.errors import UsageError
from reconciler.planning.report import FAILED

if TYPE_CHECKING:
    from reconciler.engine.queries import QueryResult
    from reconciler.planning.audit import AuditEntry, Chain

HEADINGS = ("time", "instance", "action", "resource", "cause", "actor", "run", "fields")


@click.command("history", short_help="Show the audit log; --verify checks its chain.")
@manifest_options("text", "json", "markdown", unused=OF_DATABASE)
@click.option("--since", type=SECONDS, metavar="SPAN", help="Only entries of the last 30m, 12h, 7d …")
@click.option("--kind", metavar="KIND", help="Only changes of this kind: queue, plan, …; run for failed runs.")
@click.option("-n", "--lines", type=click.IntRange(min=1), default=50, show_default=True, help="At most, an instance.")
@click.option("--verify", is_flag=True, help="Check that every entry stands as it was written; exits 1 where not.")
@click.option("--expect-head", metavar="HASH", help="With --verify: the head that an apply printed must be there.")
def command(**options: Any) -> None:
    """Show the audit log, newest first.

    Every change is an entry, chained to the one before by its hash. --verify finds an edited, deleted, reordered or
    forked entry; a cut tail is found with --expect-head.

    Example: fivrec history manifests/client.yaml --verify
    """
    from reconciler.engine.queries import query_history, verify_history

    settings = settings_from(options)
    if options["expect_head"] and not options["verify"]:
        raise UsageError("--expect-head goes with --verify")
    with open_readonly(settings, "history", DATABASE) as ready:
        if options["verify"]:
            head = options["expect_head"]
            chains = ask_all(ready, settings, lambda item, run: verify_history(item, run, head))
            click.get_current_context().exit(_write_verified(chains, settings))
        since, kind, lines = since_moment(options["since"]), options["kind"], options["lines"]
        readings = ask_all(
            ready, settings, lambda item, run: query_history(item, run, since=since, kind=kind, limit=lines)
        )
    if settings.output == "json":
        write_json("history", readings, lambda entries: {"entries": [entry_as_json(entry) for entry in entries or ()]})
    else:
        rows = [_row(item.instance, entry) for item in readings for entry in item.value or ()]
        write_table(HEADINGS, rows, markdown=settings.output == "markdown")
        write_errors(readings, settings)
    click.get_current_context().exit(exit_code(readings))


def entry_as_json(entry: AuditEntry) -> dict[str, Any]:
    """One audit entry as JSON."""
    return {
        "seq": entry.seq,
        "at": entry.at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "run_id": entry.run_id,
        "actor": entry.actor,
        "git_commit": entry.git_commit,
        "manifest_digest": entry.manifest_digest,
        "environment": entry.environment,
        "kind": entry.kind,
        "name": entry.name,
        "action": entry.action,
        "cause": entry.cause,
        "source": entry.source,
        "fields": entry.fields,
        "hash": entry.hash,
    }


def _row(instance: str, entry: AuditEntry) -> tuple[str, ...]:
    fields = " ".join(str(field.get("field")) for field in entry.fields)
    resource = f"{entry.kind}/{entry.name}"
    when = format_moment(entry.at) or ""
    return (when, instance, entry.action, resource, entry.cause or "-", entry.actor, entry.run_id[:8], fields)


def _write_verified(chains: tuple[QueryResult[Chain], ...], settings: Settings) -> int:
    if settings.output == "json":
        write_json("history", chains, _shown_chain)
    else:
        for item in chains:
            if item.value is not None:
                _say_chain(item.instance, item.value)
        write_errors(chains, settings)
    broken = any(item.value is not None and item.value.finding is not None for item in chains)
    return FAILED if broken else exit_code(chains)


def _shown_chain(chain: Chain | None) -> dict[str, Any]:
    if chain is None:
        return {"verified": False, "entries": None, "head": None, "finding": None}
    finding = {"seq": chain.finding.seq, "message": chain.finding.message} if chain.finding else None
    return {"verified": finding is None, "entries": chain.count, "head": chain.head[1] or None, "finding": finding}


def _say_chain(instance: str, chain: Chain) -> None:
    if chain.finding is None:
        said = f"{instance}: ✅ {chain.count} entries stand as they were written; head {chain.head[1] or 'none'}"
        click.echo(click.style(said, fg="green"))
    else:
        click.echo(click.style(f"{instance}: ❌ {chain.finding.message}", fg="red"))
