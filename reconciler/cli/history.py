"""`fivrec history`: the audit log, and the check of its chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.follow import follow
from reconciler.cli.history_follow import FollowedHistory
from reconciler.cli.options import OF_DATABASE, SECONDS, Settings, lines_option, manifest_options, settings_from
from reconciler.cli.reading_commands import (
    DATABASE,
    ask_all,
    exit_code,
    format_moment,
    open_readonly,
    since_moment,
    write_errors,
    write_found,
    write_json,
)
from reconciler.cli.render.values import show
from reconciler.model.errors import ManifestError, MissingSetting, UsageError
from reconciler.model.kinds import BY_NAME
from reconciler.model.names import one_line
from reconciler.model.types import rfc3339
from reconciler.planning.audit import NOT_RESOURCES, AuditEntry, listed_fields
from reconciler.planning.report import FAILED

if TYPE_CHECKING:
    from reconciler.engine.status_and_logs import QueryResult
    from reconciler.planning.audit_check import Chain

KEYLESS = MissingSetting.exit_code
HEADINGS = ("time", "instance", "action", "resource", "cause", "actor", "run", "fields")
SHOWN = (
    *("seq", "at", "run_id", "actor", "git_commit", "manifest_digest", "environment"),
    *("kind", "name", "action", "cause", "source", "fields", "hash", "signature"),
)
"""What JSON has of an entry."""


@click.command("history")
@manifest_options("text", "json", "markdown", unused=OF_DATABASE)
@click.option("--since", type=SECONDS, metavar="SPAN", help="Only entries of the last 30m, 12h, 7d …")
@click.option(
    "--kind",
    metavar="KIND",
    help="Only changes of this kind: queue, plan, …; run: failed runs; call: the API's.",
)
@click.option("--run", metavar="ID", help="Only entries of this run; the beginning of its id will do.")
@click.option("--cause", type=click.Choice(["new", "intent", "drift"]), help="Only changes of this cause.")
@lines_option
@click.option("--follow", is_flag=True, help="Keep printing new entries as they come; with json, one per line.")
@click.option(
    "--verify",
    is_flag=True,
    help="Check that no entry was changed or taken out; exits 1 if one was. Only --expect-head sees a cut-off end.",
)
@click.option("--expect-head", metavar="HASH", help="With --verify: the head that an apply printed must be there.")
def command(**options: Any) -> None:
    """Show the audit log, newest first.

    Every change is an entry, chained to the one before by its hash, and signed with the database's audit key. --verify
    finds an edited, deleted, reordered or forged entry. It needs the encryption keys for the signatures, and ends with
    78 without them. --expect-head also finds a tail that was cut off, or a database that was restored to an
    earlier state.

    Example: fivrec history manifests/client.yaml --cause drift

    Example: fivrec history manifests/client.yaml --verify
    """
    from reconciler.database.status_queries import HistoryFilter
    from reconciler.engine.status_and_logs import query_history, verify_history

    settings = settings_from(options)
    if options["expect_head"] and not options["verify"]:
        raise UsageError("--expect-head goes with --verify")
    _check_kind(options["kind"])
    if options["verify"]:
        _check_whole(options)
    with open_readonly(settings, "history", DATABASE) as ready:
        if options["verify"]:
            head = options["expect_head"]
            chains = ask_all(ready, settings, lambda item, run: verify_history(item, run, head))
            click.get_current_context().exit(_write_verified(chains, settings, ready.broken))
        wanted = HistoryFilter(
            since_moment(options["since"]), options["kind"], options["run"], options["lines"], cause=options["cause"]
        )
        if options["follow"]:
            follow(ready, settings, FollowedHistory(wanted).ask, entry_as_json, _row)
        readings = ask_all(ready, settings, lambda item, run: query_history(item, run, wanted))
    if settings.output == "json":
        write_json("history", readings, lambda found: {"entries": list(map(entry_as_json, found or ()))}, ready.broken)
    else:
        entries = [(entry.at, entry.seq, item.instance, entry) for item in readings for entry in item.value or ()]
        entries.sort(key=lambda found: found[:3], reverse=True)
        rows = [_row(instance, entry) for _, _, instance, entry in entries]
        write_found(settings, HEADINGS, rows, readings, ready.broken)
    click.get_current_context().exit(exit_code(readings, ready.broken))


def _check_whole(options: dict[str, Any]) -> None:
    """A chain holds as a whole, from the first entry on: nobody may take it for an answer about a part."""
    from click.core import ParameterSource

    context = click.get_current_context()
    chosen = [name for name in ("since", "kind", "run", "cause", "follow") if options[name]]
    if context.get_parameter_source("lines") is ParameterSource.COMMANDLINE:
        chosen.append("lines")
    if chosen:
        names = ", ".join(f"--{name}" for name in chosen)
        raise UsageError(f"--verify checks the whole log and does not go with {names}", hint="leave one of them out")


def _check_kind(kind: str | None) -> None:
    known = (*BY_NAME, *NOT_RESOURCES)
    if kind is not None and kind not in known:
        raise UsageError(f'--kind "{kind[:60]}": there is no such kind', hint=f"kinds are {', '.join(known)}")


def entry_as_json(entry: AuditEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in SHOWN} | {"at": _at(entry)}


def _row(instance: str, entry: AuditEntry) -> tuple[str, ...]:
    fields = " ".join(name + _former(entry, name, before) for name, before in listed_fields(entry))
    resource = f"{entry.kind}/{entry.name}"
    when = format_moment(entry.at) or ""
    return (when, instance, entry.action, resource, entry.cause or "-", entry.actor, entry.run_id[:8], fields)


def _former(entry: AuditEntry, field: str, before: Any) -> str:
    """The name that a renamed resource had: the entry stands under the one that it got."""
    kind = BY_NAME.get(entry.kind)
    is_renamed = kind is not None and field == kind.renamed_field and isinstance(before, str)
    return f" (was {show(before, 60)})" if is_renamed else ""


def _write_verified(chains: tuple[QueryResult[Chain], ...], settings: Settings, broken: ManifestError | None) -> int:
    if settings.output == "json":
        write_json("history", chains, _shown_chain, broken)
    elif settings.output == "markdown":
        rows = [(item.instance, line.strip()) for item in chains if item.value for line, _ in _lines(item.value)]
        write_found(settings, ("instance", "audit log"), rows, chains, broken)
    else:
        for item in chains:
            if item.value is not None:
                for line, color in _lines(item.value):
                    click.echo(click.style(f"{item.instance}: {line}", fg=color))
        write_errors(chains, settings)
    found = [item.value for item in chains if item.value is not None]
    if any(chain.finding is not None for chain in found):
        return FAILED
    judged = [replace(item, exit_code=KEYLESS) if item.value and item.value.unchecked else item for item in chains]
    return exit_code(judged, broken)


def _shown_chain(chain: Chain | None) -> dict[str, Any]:
    if chain is None:
        return {"verified": False, "entries": None, "head": None, "finding": None, "signatures": None, "pruned": None}
    finding = {"seq": chain.finding.seq, "message": chain.finding.message} if chain.finding else None
    unchecked = {"code": chain.unchecked.code, "message": chain.unchecked.message} if chain.unchecked else None
    return {
        "verified": finding is None and unchecked is None,
        "entries": chain.count,
        "head": chain.head[1] or None,
        "finding": finding,
        "signatures": {"begin": _who(chain.signed), "without": chain.unsigned, "unchecked": unchecked},
        "pruned": {"until": chain.begins_after[0], **_who(chain.pruned)} if chain.pruned else None,
    }


def _who(entry: AuditEntry | None) -> Any:
    return {"seq": entry.seq, "at": _at(entry), "run_id": entry.run_id, "actor": entry.actor} if entry else None


def _lines(chain: Chain) -> Iterator[tuple[str, str | None]]:
    """The result of --verify for one chain, each line with its colour."""
    if chain.finding is not None:
        yield one_line(f"❌ {chain.finding.message}"), "red"
        return
    head = f"head {chain.head[1] or 'none'}"
    if chain.unchecked is not None:
        yield (
            f"⚠️ chain whole, signatures not checked: {chain.unchecked.message}; {chain.count} entries; {head}",
            "yellow",
        )
    else:
        yield f"✅ {chain.count} entries are as they were written; {head}", "green"
    if chain.unsigned and chain.signed is not None:
        begin = f"entry {chain.signed.seq}, {_by(chain.signed)}"
        yield f"   signatures begin at {begin}; {chain.unsigned} entries before it have none", None
    elif chain.unsigned:
        yield "   no entry is signed: signatures begin with the next apply", None
    if chain.pruned is not None and chain.begins_after[0]:
        yield f"   entries 1 to {chain.begins_after[0]} were pruned by retention, {_by(chain.pruned)}", None


def _by(entry: AuditEntry) -> str:
    return one_line(f"{format_moment(entry.at)} by {entry.actor}, run {entry.run_id[:8]}")


def _at(entry: AuditEntry) -> str:
    return rfc3339(entry.at, "microseconds")
