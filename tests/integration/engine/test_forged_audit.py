"""Write access to the database without an encryption key can't forge the audit log: verify finds each attempt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Json

from reconciler.database.status_queries import HistoryFilter, entry_from_row
from reconciler.engine import status_and_logs
from reconciler.engine.reconcile import reconcile
from reconciler.engine.retention import Keep, prune
from reconciler.engine.rotate_keys import rotate
from reconciler.model.errors import DatabaseError, MissingSetting
from reconciler.model.secret import Secret
from reconciler.planning.audit import Actor, AuditEntry, Context, Event, chain, listed_fields, prune_event
from reconciler.planning.audit_check import Chain
from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.keyring import KeyRing
from tests.support.engine import INSTANCE, desired_of, document, run_of

LOG, KEY = "fivrec.audit_log", "fivrec.audit_key"
Server = psycopg.Connection[dict[str, object]]


def entries(server: Server) -> list[AuditEntry]:
    return [entry_from_row(row) for row in server.execute(f"SELECT * FROM {LOG} ORDER BY seq").fetchall()]


def rewrite(server: Server, written: list[AuditEntry]) -> None:
    """Replace all entries with these."""
    names = list(AuditEntry.__dataclass_fields__)
    columns, values = ", ".join(names), ", ".join(f"%({name})s" for name in names)
    server.execute(f"DELETE FROM {LOG}")
    for entry in written:
        server.execute(
            f"INSERT INTO {LOG} ({columns}) VALUES ({values})", {**asdict(entry), "fields": Json(entry.fields)}
        )


def chained(server: Server, events: list[Event], *, onto: list[AuditEntry]) -> list[AuditEntry]:
    last = onto[-1]
    context = Context("forged", last.at, Actor("mallory"), last.manifest_digest, last.instance, last.environment)
    return [*onto, *chain((last.seq, last.hash), context, events)]


def rechained(written: list[AuditEntry], manifest_digest: str | None = None) -> list[AuditEntry]:
    """Returns the same entries with every hash computed again."""
    head, found = (0, ""), []
    for entry in written:
        context = Context(
            entry.run_id,
            entry.at,
            Actor(entry.actor, entry.git_commit),
            entry.manifest_digest if manifest_digest is None else manifest_digest,
            entry.instance,
            entry.environment,
        )
        event = Event(entry.kind, entry.name, entry.action, entry.cause, entry.source, entry.fields)
        (made,) = chain(head, context, [event])
        found.append(replace(made, signature=entry.signature))
        head = (made.seq, made.hash)
    return found


SALE = Event("queue", "Sales", "update", "drift", "manifest", [])


def edit_and_rechain(server: Server) -> None:
    first, *rest = entries(server)
    rewrite(server, rechained([replace(first, actor="somebody else"), *rest]))


def rechain_without_signatures(server: Server) -> None:
    rewrite(server, [replace(entry, signature=None) for entry in rechained(entries(server))])


def prune_by_hand(server: Server) -> None:
    found = entries(server)
    said = prune_event((found[2].seq, found[2].hash))
    rewrite(server, chained(server, [said], onto=found)[3:])


def append(server: Server) -> None:
    rewrite(server, chained(server, [SALE], onto=entries(server)))


def append_with_a_signature_from_elsewhere(server: Server) -> None:
    *found, made = chained(server, [SALE], onto=entries(server))
    rewrite(server, [*found, replace(made, signature=found[-1].signature)])


def append_what_fivrec_never_writes(server: Server) -> None:
    odd = [5, {"field": "seq"}, None, [5], [{"field": "seq", "before": None, "after": "x"}]]
    events = [Event("audit", "\x1b[31m", "prune", "", "manifest", fields) for fields in odd]
    rewrite(server, chained(server, events, onto=entries(server)))


def number_below_one(server: Server) -> None:
    first = entries(server)[0]
    rewrite(server, [replace(first, seq=-3, id="forged", hash="f"), *entries(server)])


def number_zero_alone(server: Server) -> None:
    rewrite(server, [replace(entries(server)[0], seq=0)])


def truncate(server: Server) -> None:
    server.execute(f"TRUNCATE {LOG}")


def truncate_with_the_key(server: Server) -> None:
    server.execute(f"TRUNCATE {LOG}, {KEY}")


def truncate_all_of_fivrecs(server: Server) -> None:
    server.execute(f"TRUNCATE {LOG}, {KEY}, fivrec.applied")


def drop(server: Server) -> None:
    server.execute(f"DROP TABLE {LOG}")


def drop_with_the_key(server: Server) -> None:
    server.execute(f"DROP TABLE {LOG}, {KEY}")


def take_the_key_away(server: Server) -> None:
    server.execute(f"DELETE FROM {KEY}")


def take_key_and_signatures_away(server: Server) -> None:
    server.execute(f"DELETE FROM {KEY}")
    rechain_without_signatures(server)


def pass_for_setups(server: Server) -> None:
    """Pass the log off as one of `setup`, the only command that writes without keys."""
    server.execute(f"DELETE FROM {KEY}")
    rewrite(server, [replace(one, signature=None) for one in rechained(entries(server), manifest_digest="")])


def pass_for_an_old_log(server: Server) -> None:
    """Pass the log off as one of fivrec 0.1 that was migrated just now: only a head kept elsewhere reveals it."""
    server.execute(f"DELETE FROM {KEY}")
    server.execute("UPDATE fivrec.migrations SET applied_at = now() + interval '1 hour' WHERE name = 'audit_key'")
    old = [{"field": "version", "before": None, "after": 8}]
    written = [replace(one, fields=old) if one.kind == "schema" else one for one in entries(server)]
    rewrite(server, [replace(one, signature=None) for one in rechained(written)])


def change_the_seal(server: Server) -> None:
    letter = "CASE substr(sealed, 40, 1) WHEN 'A' THEN 'B' ELSE 'A' END"
    server.execute(f"UPDATE {KEY} SET sealed = overlay(sealed PLACING {letter} FROM 40 FOR 1)")


FORGERIES: dict[Callable[[Server], None], str] = {
    edit_and_rechain: "entry 1 has a signature that is not the audit key's",
    rechain_without_signatures: "entry 1 is not signed: it was written without the audit key",
    prune_by_hand: "is not signed: it was written without the audit key",
    append: "is not signed: it was written without the audit key",
    append_with_a_signature_from_elsewhere: "has a signature that is not the audit key's",
    append_what_fivrec_never_writes: "is not signed: it was written without the audit key",
    number_below_one: "was not written by fivrec: its numbers begin at 1",
    number_zero_alone: "was not written by fivrec: its numbers begin at 1",
    truncate: "the log is empty, and run",
    truncate_with_the_key: "the log is empty, and run",
    truncate_all_of_fivrecs: "the log is empty, and the run that encrypted the instance key wrote to it",
    drop: "the log is empty, and run",
    drop_with_the_key: "the log is empty, and run",
    take_the_key_away: "is signed by a key that this database does not have any more",
    take_key_and_signatures_away: "entry 1 is not signed, though entries were signed here by then",
    pass_for_setups: "no entry is signed, though a run with keys applied something: the audit key is gone",
    pass_for_an_old_log: "no entry is signed, though a run with keys applied something: the audit key is gone",
    change_the_seal: "the audit key was changed, or moved here from another database",
}


class Database:
    """One applied instance, its log, and a second connection to the same database."""

    def __init__(self, url: Secret, keys: KeyRing, folder: Path, server: Server) -> None:
        self.url, self.keys, self.folder, self.server = url, keys, folder, server

    async def apply(self, number: int = 1, keys: KeyRing | None = None, **sections: object) -> object:
        desired = desired_of(document(**sections), self.url)
        return await reconcile(desired, run_of(self.keys if keys is None else keys, self.folder, number))

    async def verify(self, keys: KeyRing | None = None, head: str | None = None) -> Chain:
        desired = desired_of(document(), self.url)
        return await status_and_logs.verify_history(
            desired, run_of(self.keys if keys is None else keys, self.folder), head
        )


@pytest.fixture
async def applied(database: Secret, keys: KeyRing, tmp_path: Path):
    with psycopg.connect(database.reveal(), autocommit=True, row_factory=dict_row) as server:
        found = Database(database, keys, tmp_path, server)
        report = await found.apply()
        assert report.outcome == "changed", report.error
        yield found


async def test_every_entry_of_a_new_database_is_signed(applied: Database) -> None:
    chain_ = await applied.verify()
    assert (chain_.finding, chain_.unchecked, chain_.unsigned) == (None, None, 0)
    assert chain_.signed == entries(applied.server)[0]


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
async def test_a_forger_without_the_key_is_found(forge: Callable[[Server], None], applied: Database) -> None:
    forge(applied.server)
    found = (await applied.verify()).finding
    assert found is not None
    assert FORGERIES[forge] in found.message


@pytest.mark.parametrize("forge", [truncate, truncate_with_the_key, drop, drop_with_the_key], ids=lambda f: f.__name__)
async def test_an_emptied_log_is_found_after_runs_that_go_on(
    forge: Callable[[Server], None], applied: Database
) -> None:
    forge(applied.server)
    for number in (2, 3):
        report = await applied.apply(number, queues={"items": [{"name": f"Queue {number}"}], "unmanaged": "keep"})
        assert report.outcome == "changed", report.error
    chain_ = await applied.verify()
    assert (chain_.unsigned, chain_.unchecked) == (0, None)
    assert chain_.finding is not None
    assert "found the log empty" in chain_.finding.message
    assert chain_.finding.seq == 1


async def test_entries_after_a_kept_head_are_found(applied: Database) -> None:
    head = entries(applied.server)[-1].hash
    assert (await applied.verify(head=head)).finding is None
    append(applied.server)
    assert (await applied.verify(head=head)).finding is not None


async def test_forged_entries_stay_found_behind_true_ones(applied: Database) -> None:
    append(applied.server)
    report = await applied.apply(2, queues={"items": [{"name": "Night"}], "unmanaged": "keep"})
    assert report.outcome == "changed", report.error
    finding = (await applied.verify()).finding
    assert finding is not None
    assert "is not signed" in finding.message


async def test_numbers_below_one_are_never_shown(applied: Database) -> None:
    number_below_one(applied.server)
    desired, run = desired_of(document(), applied.url), run_of(applied.keys, applied.folder)
    shown = await status_and_logs.query_history(desired, run, HistoryFilter(limit=1000))
    assert [entry.seq for entry in shown] == [entry.seq for entry in entries(applied.server)[:0:-1]]


async def test_without_keys_the_chain_alone_is_checked(applied: Database) -> None:
    whole = await applied.verify(KeyRing(()))
    assert (whole.finding, whole.unchecked and whole.unchecked.code) == (None, "missing_setting")
    other = await applied.verify(KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": generate_key()}))
    assert (other.finding, other.unchecked and other.unchecked.code) == (None, "key_retired")
    applied.server.execute(f"UPDATE {LOG} SET actor = 'x' WHERE seq = 2")
    assert (await applied.verify(KeyRing(()))).finding is not None


async def test_odd_entries_are_listed_and_checked_without_keys_too(applied: Database) -> None:
    append_what_fivrec_never_writes(applied.server)
    assert (await applied.verify(KeyRing(()))).finding is None
    desired, run = desired_of(document(), applied.url), run_of(applied.keys, applied.folder)
    shown = await status_and_logs.query_history(desired, run, HistoryFilter(limit=5))
    assert [[name for name, _ in listed_fields(entry)] for entry in shown] == [["seq"], [], [], [], []]


@pytest.mark.parametrize("at", ["infinity", "-infinity", "0044-03-15 BC", "20000-01-01"])
async def test_a_time_that_no_program_holds_is_an_edit(at: str, applied: Database) -> None:
    applied.server.execute(f"UPDATE {LOG} SET at = '{at}' WHERE seq = 3")
    finding = (await applied.verify()).finding
    assert finding is not None
    assert (finding.seq, "was edited" in finding.message) == (3, True)
    desired, run = desired_of(document(), applied.url), run_of(applied.keys, applied.folder)
    shown = await status_and_logs.query_history(desired, run, HistoryFilter(limit=1000))
    assert 3 in {entry.seq for entry in shown}


async def test_entries_stay_verifiable_under_a_new_encryption_key(applied: Database) -> None:
    new = KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": generate_key()})
    both = KeyRing((*new.keys, *applied.keys.keys))
    report = await rotate(desired_of(document(), applied.url), run_of(both, applied.folder, 2))
    assert report.outcome == "changed", report.error
    found = await applied.verify(new)
    assert (found.finding, found.unchecked, found.unsigned) == (None, None, 0)
    assert (await applied.verify()).unchecked.code == "key_retired"


async def test_a_log_and_key_moved_from_another_instance_are_found(
    applied: Database, make_database: Callable[[], Secret]
) -> None:
    """The same encryption keys open the other's audit key, so its entries would verify."""
    url = make_database()
    other = desired_of(document(instance="other-1", plans=None), url, connect=None)
    assert (await reconcile(other, run_of(applied.keys, applied.folder, 7))).outcome == "changed"
    with psycopg.connect(url.reveal(), row_factory=dict_row) as theirs:
        moved = entries(theirs)
        key = theirs.execute(f"SELECT sealed FROM {KEY}").fetchone()
    rewrite(applied.server, moved)
    applied.server.execute(f"UPDATE {KEY} SET sealed = %s", (key["sealed"],))
    found = (await applied.verify()).finding
    assert found is not None
    assert found.message == "the audit key was changed, or moved here from another database"


async def test_nothing_is_written_that_cannot_be_signed(applied: Database) -> None:
    before = entries(applied.server)
    applied.server.execute(f"UPDATE {KEY} SET sealed = replace(sealed, 'fivenc:v1:', 'fivenc:v1:0')")
    report = await applied.apply(2, queues={"items": [{"name": "Night"}], "unmanaged": "keep"})
    assert (report.outcome, report.exit_code) == ("failed", 78)
    assert entries(applied.server) == before
    assert applied.server.execute("SELECT FROM queues WHERE name = 'Night'").fetchall() == []


async def test_adopting_a_database_takes_its_audit_log_over(applied: Database) -> None:
    other = desired_of(document(instance="other-1", plans=None), applied.url, connect=None)
    refused = await reconcile(other, run_of(applied.keys, applied.folder, 2))
    assert (refused.outcome, refused.error.code) == ("refused", "wrong_instance")
    report = await reconcile(other, run_of(applied.keys, applied.folder, 3, adopt=True))
    assert report.outcome in ("changed", "degraded"), report.error
    chain_ = await status_and_logs.verify_history(other, run_of(applied.keys, applied.folder), None)
    assert (chain_.finding, chain_.unchecked, chain_.unsigned) == (None, None, 0)
    assert {entry.instance for entry in entries(applied.server)} == {INSTANCE, "other-1"}


async def test_an_adoption_that_is_refused_leaves_the_audit_key(applied: Database) -> None:
    emptied = document(instance="other-1", plans=None, queues={"items": [], "unmanaged": "remove"})
    other = desired_of(emptied, applied.url, connect=None)
    report = await reconcile(other, run_of(applied.keys, applied.folder, 2, adopt=True))
    assert (report.outcome, report.error.code) == ("refused", "guard")
    assert entries(applied.server)[-1].instance == "other-1"
    assert ((await applied.verify()).finding, (await applied.verify()).unsigned) == (None, 0)
    assert (await applied.apply(3)).outcome == "in_sync"
    assert (await applied.verify()).finding is None


@pytest.mark.parametrize("names", [("Sales",), ("Sales", "Night")], ids=["in_sync", "changed"])
@pytest.mark.parametrize("forge", [take_key_and_signatures_away, take_the_key_away], ids=lambda f: f.__name__)
async def test_signatures_taken_away_stay_found_after_a_new_key(
    forge: Callable[[Server], None], names: tuple[str, ...], applied: Database
) -> None:
    """The next apply creates one, and says so."""
    forge(applied.server)
    count = len(entries(applied.server))
    desired = desired_of(
        document(queues={"items": [{"name": name} for name in names], "unmanaged": "keep"}), applied.url
    )
    run = run_of(applied.keys, applied.folder, 2)
    report = await reconcile(desired, run)
    assert report.exit_code == 0, report.error
    assert "no audit key: if only the setup script" in run.log.stream.getvalue()
    first = entries(applied.server)[count]
    assert (first.kind, first.name, first.action, first.signature is None) == ("audit", "key", "create", False)
    finding = (await applied.verify()).finding
    assert finding is not None
    assert finding.seq == 1
    assert (await applied.apply(3)).exit_code == 0
    assert (await applied.verify()).finding == finding


@pytest.mark.parametrize("at", ["now() - interval '2 minutes'", "'-infinity'"])
async def test_a_log_cut_at_its_beginning_is_judged_by_the_migrations_time(at: str, applied: Database) -> None:
    """No entry that is left records the schema's version: the time of the migration decides."""
    server = applied.server
    server.execute(f"DELETE FROM {KEY}")
    rest = [one for one in entries(server) if one.kind != "schema"]
    rewrite(server, [replace(one, signature=None) for one in rechained(rest)])
    server.execute(f"UPDATE fivrec.migrations SET applied_at = {at} WHERE name = 'audit_key'")
    finding = (await applied.verify()).finding
    assert finding is not None
    assert (finding.seq, "entries were signed here by then" in finding.message) == (1, True)


async def test_entries_written_by_setup_without_keys_are_accepted(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    bare = desired_of(document(config=None, plans=None), database, connect=None)
    bare = replace(bare, origin=replace(bare.origin, digest=""))
    assert (await reconcile(bare, run_of(KeyRing(()), tmp_path))).outcome == "changed"
    with psycopg.connect(database.reveal(), autocommit=True, row_factory=dict_row) as server:
        found = Database(database, keys, tmp_path, server)
        before = entries(server)
        assert {entry.signature for entry in before} == {None}
        assert (await found.verify()).finding is None
        assert (await found.apply(2)).outcome == "changed"
        chain_ = await found.verify()
        assert (chain_.finding, chain_.unsigned, chain_.signed.seq) == (None, len(before), len(before) + 1)
        edit_and_rechain(server)
        assert (await found.verify()).finding is not None


async def test_only_setup_writes_without_keys(database: Secret, tmp_path: Path) -> None:
    bare = desired_of(document(config=None, plans=None), database, connect=None)
    report = await reconcile(bare, run_of(KeyRing(()), tmp_path))
    assert (report.outcome, report.exit_code) == ("failed", 78)


async def test_a_no_op_apply_begins_the_signatures_of_an_old_chain(applied: Database) -> None:
    pass_for_an_old_log(applied.server)
    count = len(entries(applied.server))
    assert [(await applied.apply(number)).outcome for number in (2, 3)] == ["in_sync", "in_sync"]
    chain_ = await applied.verify()
    assert (chain_.finding, chain_.unsigned, chain_.count) == (None, count, count + 1)
    assert (chain_.signed.kind, chain_.signed.name, chain_.signed.action) == ("audit", "key", "create")


async def test_a_database_from_before_the_migration_is_signed_from_it(applied: Database) -> None:
    pass_for_an_old_log(applied.server)
    applied.server.execute(f"ALTER TABLE {LOG} DROP COLUMN signature")
    applied.server.execute(f"DROP TABLE {KEY}")
    applied.server.execute("DELETE FROM fivrec.migrations WHERE name = 'audit_key'")
    old = await applied.verify()
    assert (old.finding, old.unchecked, old.unsigned) == (None, None, old.count)
    report = await applied.apply(2)
    assert [str(change.key.kind) for change in report.changes] == ["schema"]
    new = await applied.verify()
    assert (new.finding, new.unsigned, new.signed.kind) == (None, old.count, "schema")


async def test_verify_says_what_retention_pruned_by_whom_and_when(applied: Database) -> None:
    desired, run = desired_of(document(), applied.url), run_of(applied.keys, applied.folder, 5)
    await prune(desired, run, Keep(audit_s=0.0))
    chain_ = await applied.verify()
    assert (chain_.finding, chain_.begins_after[0] > 0) == (None, True)
    assert (chain_.pruned.actor, chain_.pruned.run_id, chain_.pruned.action) == ("test", run.id, "prune")


async def test_retention_keeps_what_does_not_verify(applied: Database) -> None:
    """Otherwise a forged age would make fivrec itself delete entries, and sign for it."""
    applied.server.execute(f"UPDATE {LOG} SET at = at - interval '9 years'")
    before = entries(applied.server)
    desired, run = desired_of(document(), applied.url), run_of(applied.keys, applied.folder, 5)
    with pytest.raises(DatabaseError) as raised:
        await prune(desired, run, Keep(audit_s=3600.0))
    assert (raised.value.code, entries(applied.server)) == ("audit_forged", before)


async def test_retention_needs_the_keys(applied: Database) -> None:
    desired = desired_of(document(), applied.url)
    with pytest.raises(MissingSetting):
        await prune(desired, run_of(KeyRing(()), applied.folder, 5), Keep(audit_s=0.0))
