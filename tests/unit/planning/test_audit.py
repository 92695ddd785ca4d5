"""audit: a chain that reveals any tampering."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from reconciler.database.schema import version_of
from reconciler.model.changes import Create, FieldChange, Update
from reconciler.model.types import Key, Resource, SealedKey
from reconciler.planning.audit import (
    EMPTY,
    Actor,
    AuditEntry,
    Context,
    Event,
    build_events,
    chain,
    entry_hash,
    key_event,
    lost_event,
    prune_event,
    pruned_until,
    run_event,
)
from reconciler.planning.audit_check import SIGNED_SCHEMA, Chain, Finding, Signatures, Tail, Traces
from tests.support.audit_chain import verify
from tests.support.examples import INSTANCE, NOON, queue

CONTEXT = Context("run-1", NOON, Actor("ana", "abc123"), "digest", INSTANCE, "production")


def created(name: str) -> Create:
    return Create(Key("queue", name), (FieldChange("is_active", None, after=True),), "manifest", "new", queue(name))


def entries(*names: str) -> list[AuditEntry]:
    return list(chain(EMPTY, CONTEXT, build_events([created(name) for name in names])))


def test_an_entry_says_who_did_what_when_and_why() -> None:
    (entry,) = entries("Sales")
    assert replace(entry, hash="") == AuditEntry(
        seq=1,
        id="run-1/1.1",
        run_id="run-1",
        at=NOON,
        actor="ana",
        git_commit="abc123",
        manifest_digest="digest",
        instance=INSTANCE,
        environment="production",
        kind="queue",
        name="Sales",
        action="create",
        cause="new",
        source="manifest",
        fields=[{"field": "is_active", "before": None, "after": True}],
        prev_hash="",
        hash="",
    )
    assert len(entry.hash) == 64


def test_secrets_are_masked_in_entries() -> None:
    key = Key("admin", "a@e.com")
    change = Update(
        key, (FieldChange("password", sensitive=True),), "manifest", "drift", Resource(key, {}), Resource(key, {})
    )
    assert build_events([change])[0].fields == [{"field": "password", "sensitive": True}]


def test_a_failed_run_is_an_entry_too() -> None:
    event = run_event("refused", "guard", "1 queue row would be removed: Sales")
    assert (event.kind, event.name, event.action) == ("run", "refused", "refused")
    assert event.fields[0] == {"field": "code", "before": None, "after": "guard"}


def test_an_untouched_chain_verifies() -> None:
    assert verify(entries("a", "b", "c")) is None


def test_a_chain_goes_on_behind_its_head() -> None:
    first = entries("a", "b")
    more = chain((first[-1].seq, first[-1].hash), replace(CONTEXT, run_id="run-2"), build_events([created("c")]))
    assert [entry.seq for entry in (*first, *more)] == [1, 2, 3]
    assert verify([*first, *more]) is None


def test_nothing_to_say_leaves_the_chain_as_it_is() -> None:
    assert chain((7, "hash"), CONTEXT, ()) == ()


def test_an_empty_log_verifies() -> None:
    assert verify([]) is None


EDITS = {
    "id": "other",
    "run_id": "other",
    "at": NOON + timedelta(microseconds=1),
    "actor": "mallory",
    "git_commit": None,
    "manifest_digest": "other",
    "instance": "other",
    "environment": "development",
    "kind": "plan",
    "name": "other",
    "action": "update",
    "cause": "drift",
    "source": "connect",
    "fields": [{"field": "is_active", "before": None, "after": 1}],
    "hash": "0" * 64,
}


@pytest.mark.parametrize("column", EDITS)
def test_an_edit_of_any_column_shows(column: str) -> None:
    log = entries("a", "b", "c")
    log[1] = replace(log[1], **{column: EDITS[column]})
    finding = verify(log)
    assert finding is not None
    assert finding.seq == 2
    assert finding.message.endswith("was edited")


def test_every_column_but_the_chains_own_is_tried() -> None:
    assert set(EDITS) | {"seq", "prev_hash", "signature"} == set(AuditEntry.__dataclass_fields__)


def test_an_edit_with_a_recomputed_hash_shows_at_the_next_entry() -> None:
    log = entries("a", "b", "c")
    edited = replace(log[1], name="other")
    log[1] = replace(edited, hash=entry_hash(edited))
    assert verify(log) == Finding(3, "entry 3 does not continue entry 2: reordered or forked")


def test_a_deleted_entry_shows() -> None:
    first, _, third = entries("a", "b", "c")
    assert verify([first, third]) == Finding(3, "entry 3 follows 1: entries between are gone")


def test_a_deleted_beginning_shows() -> None:
    assert verify(entries("a", "b")[1:]) == Finding(2, "entry 2 follows 0: entries between are gone")


def test_reordered_entries_show() -> None:
    first, second, third = entries("a", "b", "c")
    swapped = [first, replace(third, seq=2), replace(second, seq=3)]
    assert verify(swapped) == Finding(2, "entry 2 does not continue entry 1: reordered or forked")


def test_a_fork_shows() -> None:
    first, second = entries("a", "b")
    other = chain((1, first.hash), replace(CONTEXT, run_id="run-2"), build_events([created("x")]))[0]
    assert verify([first, second, other]) == Finding(2, "entry 2 is there twice")


def test_a_rewritten_log_shows_by_the_expected_head() -> None:
    head = entries("a", "b")[-1].hash
    assert verify(entries("a", "x"), head) == Finding(
        3, "entries after 2 are gone: the expected head is not among them"
    )


def test_a_cut_tail_shows_by_the_expected_head_only() -> None:
    log = entries("a", "b", "c")
    assert verify(log[:2]) is None
    assert verify(log[:2], log[2].hash) == Finding(3, "entries after 2 are gone: the expected head is not among them")


def test_an_emptied_log_shows_by_the_expected_head() -> None:
    finding = verify([], entries("a")[0].hash)
    assert finding == Finding(1, "entries after 0 are gone: the expected head is not among them")


def test_an_earlier_head_is_still_among_the_entries() -> None:
    log = entries("a", "b", "c")
    assert verify(log, log[0].hash) is None


def test_the_hash_ignores_the_drivers_time_zone() -> None:
    (entry,) = entries("a")
    local = replace(entry, at=entry.at.astimezone(timezone(timedelta(hours=-3))))
    assert entry_hash(local) == entry.hash


def test_the_hash_ignores_how_jsonb_writes_numbers_and_keys() -> None:
    (entry,) = entries("a")
    written = replace(entry, fields=[{"field": "price", "before": 1e20, "after": {"b": 29.0, "a": 1}}])
    read = replace(entry, fields=[{"after": {"a": 1, "b": 29}, "before": 10**20, "field": "price"}])
    assert entry_hash(read) == entry_hash(written)


def test_a_chain_begins_later_only_where_it_says_it_was_pruned() -> None:
    events = [Event("queue", f"q{number}", "create", "new", "manifest", []) for number in range(6)]
    whole = chain(EMPTY, CONTEXT, events)
    head = (whole[-1].seq, whole[-1].hash)
    until = (whole[2].seq, whole[2].hash)
    said = chain(head, CONTEXT, [prune_event(until)])
    assert verify([*whole[3:], *said]) is None
    assert verify(whole[3:]) == Finding(4, "entry 4 follows 0: entries between are gone")
    assert verify([*whole[4:], *said]) == Finding(5, "entry 5 follows 0: entries between are gone")
    assert verify([*whole, *said]) is None
    assert verify([*whole[3:5], *said]) == Finding(7, "entry 7 follows 5: entries between are gone")


def test_of_several_retentions_the_one_that_fits_the_beginning_counts() -> None:
    """A retention may run while the log is read: then its entry is read, and so are those that it deleted."""
    events = [Event("queue", f"q{number}", "create", "new", "manifest", []) for number in range(6)]
    whole = chain(EMPTY, CONTEXT, events)
    said = [prune_event((whole[number].seq, whole[number].hash)) for number in (2, 3)]
    assert verify([*whole[3:], *chain((whole[-1].seq, whole[-1].hash), CONTEXT, said)]) is None


def test_a_resource_entry_is_not_taken_for_a_retention() -> None:
    (entry,) = chain(EMPTY, CONTEXT, [prune_event((3, "abc"))])
    assert pruned_until(entry) == (3, "abc")
    assert pruned_until(replace(entry, kind="queue")) is None


def test_a_hash_covers_the_one_before() -> None:
    events = build_events([created("a")])
    (one,), (other,) = chain((1, "one"), CONTEXT, events), chain((1, "other"), CONTEXT, events)
    assert one.hash != other.hash


def test_a_number_below_one_is_not_fivrecs() -> None:
    (entry,) = entries("a")
    assert verify([replace(entry, seq=0)]) == Finding(
        0, "entry 0 (queue/a) was not written by fivrec: its numbers begin at 1"
    )


KEY = SealedKey(INSTANCE, "sealed")
HEAD = (3, "abc")


@pytest.mark.parametrize(
    ("tail", "lost", "lacks_key"),
    [
        (Tail(EMPTY), False, False),
        (Tail(EMPTY, KEY), True, False),
        (Tail(EMPTY, traces=True), True, False),
        (Tail(EMPTY, keyed=True), False, False),
        (Tail(HEAD, KEY, traces=True, keyed=True), False, False),
        (Tail(HEAD, keyed=True), False, True),
        (Tail(HEAD), False, False),  # from before there were keys
    ],
)
def test_a_log_is_lost_or_lacks_its_key_by_what_else_is_known(tail: Tail, lost: bool, lacks_key: bool) -> None:
    assert (tail.is_lost, tail.lacks_key) == (lost, lacks_key)


SIGNED = Signatures(1, lambda entry_hash, signature: signature == f"by key of {entry_hash}")


def signed(*names: str) -> list[AuditEntry]:
    events = build_events([created(name) for name in names])
    return list(chain(EMPTY, CONTEXT, events, lambda entry_hash: f"by key of {entry_hash}"))


def judged(log: list[AuditEntry], signatures: Signatures) -> Chain:
    found = Chain(signatures=signatures)
    for entry in log:
        found.take(entry)
    found.close()
    return found


def test_a_signed_chain_verifies_and_tells_where_it_begins() -> None:
    log = signed("a", "b")
    found = judged(log, SIGNED)
    assert (found.finding, found.signed, found.unsigned) == (None, log[0], 0)


def test_the_signature_is_not_part_of_the_hash() -> None:
    assert [entry.hash for entry in signed("a", "b")] == [entry.hash for entry in entries("a", "b")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signature": None}, "entry 2 is not signed: it was written without the audit key"),
        ({"signature": "of another key"}, "entry 2 has a signature that is not the audit key's"),
    ],
)
def test_an_entry_without_the_keys_signature_shows(change: dict[str, str | None], message: str) -> None:
    log = signed("a", "b", "c")
    log[1] = replace(log[1], **change)
    assert judged(log, SIGNED).finding == Finding(2, message)


def test_entries_from_before_the_key_have_no_signature() -> None:
    log = [*entries("a"), *signed("a", "b")[1:]]
    since_two = replace(SIGNED, since=2)
    assert judged(log, since_two).unsigned == 1
    gone = "is signed by a key that this database does not have any more"
    assert judged(signed("a", "b"), since_two).finding == Finding(1, f"entry 1 {gone}")
    assert judged(signed("a"), replace(SIGNED, since=None)).finding == Finding(1, f"entry 1 {gone}")


SCHEMA = Event("schema", "fivrec", "create", "new", "manifest", [{"field": "version", "before": None, "after": 9}])
SALE = list(build_events([created("Sales")]))
BY_THEN = "is not signed, though entries were signed here by then"


@pytest.mark.parametrize(
    ("events", "digest", "signing", "finding"),
    [
        ([SCHEMA], "d", None, Finding(1, f"entry 1 {BY_THEN}")),
        ([replace(SCHEMA, fields=[{"field": "version", "before": None, "after": 8}])], "d", None, None),
        ([key_event()], "d", None, Finding(1, f"entry 1 {BY_THEN}")),
        ([SCHEMA], "", None, None),  # by setup, without keys
        (SALE, "d", (NOON - timedelta(minutes=2), NOON), Finding(1, f"entry 1 {BY_THEN}")),
        (SALE, "d", (NOON - timedelta(seconds=50), NOON), None),  # a run's clock may be ahead
        (SALE, "d", (NOON + timedelta(days=1), NOON + timedelta(days=2)), None),
        (SALE, "d", (NOON - timedelta(days=2), NOON - timedelta(days=1)), None),  # the run's time is in the future
    ],
)
def test_an_unsigned_entry_of_a_time_with_keys_is_no_old_one(
    events: list[Event], digest: str, signing: tuple[datetime, datetime] | None, finding: Finding | None
) -> None:
    found = Chain(signatures=replace(SIGNED, since=None), signing=signing)
    for entry in chain(EMPTY, replace(CONTEXT, manifest_digest=digest), events):
        found.take(entry)
    found.close()
    assert found.finding == finding


def test_after_setup_without_keys_later_entries_must_be_signed() -> None:
    first = chain(EMPTY, replace(CONTEXT, manifest_digest=""), [SCHEMA])
    log = [*first, *chain((1, first[0].hash), CONTEXT, SALE)]
    assert judged(log, replace(SIGNED, since=None)).finding == Finding(2, f"entry 2 {BY_THEN}")


def test_the_schema_that_signs_is_the_one_of_its_migration() -> None:
    assert version_of("audit_key") == SIGNED_SCHEMA


def test_a_chain_that_ends_before_its_signatures_begin_was_cut() -> None:
    found = judged(entries("a"), replace(SIGNED, since=2)).finding
    assert found == Finding(2, "entries after 1 are gone: signed ones begin at 2")
    assert judged(signed("a"), SIGNED).finding is None


@pytest.mark.parametrize("keyed", [True, False])
def test_without_its_key_a_log_is_whole_if_no_run_had_keys(keyed: bool) -> None:
    found = Chain(signatures=replace(SIGNED, since=None))
    found.take(entries("a")[0])
    found.close(Traces("run 1 wrote to it", keyed=keyed))
    words = "no entry is signed, though a run with keys applied something: the audit key is gone"
    assert found.finding == (Finding(2, words) if keyed else None)


def test_an_empty_log_is_none_if_something_tells_of_runs() -> None:
    bare = Chain()
    bare.close(Traces("run 1 wrote to it"))
    assert bare.finding == Finding(1, "the log is empty, and run 1 wrote to it")


def test_a_log_that_was_found_empty_stays_found() -> None:
    log = list(chain(EMPTY, CONTEXT, [lost_event(), *build_events([created("a")])]))
    words = f"run run-1 found the log empty on {NOON:%Y-%m-%d %H:%M} UTC: entries from before are gone"
    assert verify(log) == Finding(1, words)
    again = chain((2, log[-1].hash), replace(CONTEXT, run_id="run-2"), [lost_event()])
    assert verify([*log, *again]) == Finding(1, words)
