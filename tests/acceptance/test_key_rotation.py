"""`fivrec key rotate`: seals everything under the first key, despite interruptions; moved ciphertexts don't decrypt."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from reconciler.engine.reconcile import reconcile
from reconciler.model.secret import Secret
from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.keyring import KeyRing
from tests.support.engine import desired_of, document, run_of
from tests.support.fault_proxy import running_proxy, server_of, through
from tests.support.harness import INSTANCE, Fivrec, fingerprint, manifest, rows, run_sql

Record = Callable[[str, object], None]
ALWAYS = "  password: {env: FIV_ADMIN_PASSWORD}|  password: {env: FIV_ADMIN_PASSWORD}\n  update_password: always"
ROUNDS = 8


def key_id(key: str) -> str:
    return KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": key}).first_id


def envelope(url: str) -> str:
    ((stored,),) = rows(url, "SELECT instance_key FROM instance_config")
    return str(stored)


def without_audit(url: str) -> object:
    return {name: found for name, found in fingerprint(url).items() if name != "fivrec.audit_log"}


def test_rotation_moves_to_the_new_key_and_the_old_one_may_go(fivrec: Fivrec, url: str) -> None:
    fivrec.write(manifest(always=ALWAYS))
    old, new = fivrec.env["FIVREC_ENCRYPTION_KEY"], generate_key()
    assert fivrec.apply().code == 0
    hashed = rows(url, "SELECT password FROM users")
    done = fivrec.run("key", "rotate", "client.yaml", "-o", "json", FIVREC_ENCRYPTION_KEY=f"{new},{old}")
    assert (done.code, done.one["outcome"], done.one["error"]) == (0, "changed", None), done.stderr
    assert done.one["changes"] == [
        {
            "kind": "config",
            "name": INSTANCE,
            "action": "update",
            "source": "manifest",
            "cause": "intent",
            "fields": [
                {"field": "instance_key", "sensitive": True},
                {"field": "key_id", "before": key_id(old), "after": key_id(new)},
            ],
        }
    ]
    assert done.one["notes"] == [
        "2 fingerprints renewed",
        "the audit key is sealed with the first key; earlier entries stay verifiable",
    ]
    assert envelope(url).startswith(f"fivenc:v1:{key_id(new)}:")
    remembered = str(rows(url, "SELECT fields FROM fivrec.applied"))
    assert (key_id(old) in remembered, remembered.count(f"hmac:v1:{key_id(new)}:")) == (False, 4)
    before, last_run = fingerprint(url), "SELECT command, outcome, changes, error FROM fivrec.last_run"
    assert rows(url, last_run) == [("key rotate", "changed", 1, None)]
    again = fivrec.run("key", "rotate", "client.yaml", "-o", "json", FIVREC_ENCRYPTION_KEY=f"{new},{old}")
    assert (again.code, again.one["outcome"]) == (0, "in_sync")
    assert rows(url, last_run) == [("key rotate", "in_sync", 0, None)]
    lost = fivrec.run("key", "rotate", "client.yaml", FIVREC_ENCRYPTION_KEY=old)
    assert (lost.code, rows(url, last_run)) == (78, [("key rotate", "failed", 0, "key_retired")])
    applied = fivrec.apply(FIVREC_ENCRYPTION_KEY=new)
    assert (applied.code, applied.one["outcome"]) == (0, "in_sync"), applied.stdout
    assert fingerprint(url) == before
    assert rows(url, "SELECT password FROM users") == hashed
    assert fivrec.run("history", "client.yaml", "--verify", FIVREC_ENCRYPTION_KEY=new).code == 0


def test_a_suspended_manifest_keeps_its_key_until_it_goes_on(fivrec: Fivrec, url: str) -> None:
    """fivrec changes nothing in it, so the former key must stay: the exit code is not 0."""
    old, new = fivrec.env["FIVREC_ENCRYPTION_KEY"], generate_key()
    assert fivrec.apply().code == 0
    before, both = without_audit(url), {"FIVREC_ENCRYPTION_KEY": f"{new},{old}"}
    fivrec.write(manifest() + "suspend: true\n")
    refused = fivrec.run("key", "rotate", "client.yaml", "-o", "json", **both)
    assert (refused.code, refused.one["outcome"], refused.one["error"]) == (3, "refused", {
        "code": "suspended_manifest",
        "message": "the manifest says suspend: true: fivrec changes nothing, and the former key is still needed",
        "hint": "take suspend: true out of it, and rotate again",
        "docs": "docs/errors.md#suspended_manifest",
    })  # fmt: skip
    assert without_audit(url) == before
    fivrec.write(manifest())
    assert fivrec.run("key", "rotate", "client.yaml", **both).code == 0
    fivrec.write(manifest() + "suspend: true\n")
    assert fivrec.run("key", "rotate", "client.yaml", **both).code == 0  # nothing is left under the former key


def test_two_rows_of_one_instance_are_both_rotated(fivrec: Fivrec, url: str) -> None:
    old, new = fivrec.env["FIVREC_ENCRYPTION_KEY"], generate_key()
    assert fivrec.apply().code == 0
    more = (
        "INSERT INTO instance_config (id, instance_id, instance_key, connect_api_url, created_at) "
        "SELECT 'more', instance_id, instance_key, connect_api_url, now() + interval '1 day' FROM instance_config"
    )
    run_sql(url, more)
    done = fivrec.run("key", "rotate", "client.yaml", "-o", "json", FIVREC_ENCRYPTION_KEY=f"{new},{old}")
    assert (done.code, done.one["outcome"]) == (0, "changed")
    assert done.one["notes"][0] == "1 more row of instance_config re-encrypted"
    stored = [envelope for (envelope,) in rows(url, "SELECT instance_key FROM instance_config")]
    assert [envelope.split(":")[2] for envelope in stored] == [key_id(new)] * 2
    again = fivrec.run("key", "rotate", "client.yaml", "-o", "json", FIVREC_ENCRYPTION_KEY=f"{new},{old}")
    assert (again.code, again.one["outcome"]) == (0, "in_sync")


def test_a_key_in_the_open_is_left_to_apply_and_a_note_says_so(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(url, f"UPDATE instance_config SET instance_key = '{fivrec.env['FIV_APP_API_KEY']}'")
    both = f"{generate_key()},{fivrec.env['FIVREC_ENCRYPTION_KEY']}"
    ended = fivrec.run("key", "rotate", "client.yaml", "-o", "json", FIVREC_ENCRYPTION_KEY=both)
    assert (ended.code, envelope(url)) == (0, fivrec.env["FIV_APP_API_KEY"])
    assert "the instance key is stored in plain text: fivrec apply encrypts it" in ended.one["notes"]
    assert fivrec.apply(FIVREC_ENCRYPTION_KEY=both).changes() == [("config", INSTANCE, "update", "drift")]
    assert envelope(url).startswith(f"fivenc:v1:{key_id(both.partition(',')[0])}:")


def test_rotation_needs_neither_connect_nor_the_password(fivrec: Fivrec, url: str) -> None:
    old, new = fivrec.env["FIVREC_ENCRYPTION_KEY"], generate_key()
    assert fivrec.apply().code == 0
    unset: dict[str, str | None] = {"FIV_ADMIN_PASSWORD": None, "FIV_APP_API_KEY": None, "FIV_APP_API_URL": None}
    ended = fivrec.run("key", "rotate", "client.yaml", "-o", "json", FIVREC_ENCRYPTION_KEY=f"{new},{old}", **unset)
    assert (ended.code, ended.one["outcome"]) == (0, "changed"), ended.stdout
    assert ended.one["notes"][0] == "1 fingerprint renewed"
    assert envelope(url).startswith(f"fivenc:v1:{key_id(new)}:")


@pytest.mark.parametrize("command", ["apply", "diff", "key rotate"])
def test_a_retired_key_is_named_and_nothing_is_written(command: str, fivrec: Fivrec, url: str) -> None:
    old, new = fivrec.env["FIVREC_ENCRYPTION_KEY"], generate_key()
    assert fivrec.apply().code == 0
    before = without_audit(url)
    ended = fivrec.run(*command.split(), "client.yaml", "-o", "json", FIVREC_ENCRYPTION_KEY=new)
    error = ended.one["error"]
    assert (ended.code, error["code"]) == (78, "key_retired")
    assert error["message"] == (
        f"instance_config.instance_key of {INSTANCE} is encrypted with key {key_id(old)}, "
        f"which is not given (given: {key_id(new)})"
    )
    assert without_audit(url) == before


def test_rotation_of_what_was_never_applied_makes_nothing(fivrec: Fivrec) -> None:
    ended = fivrec.run("key", "rotate", "client.yaml", "-o", "json")
    assert (ended.code, ended.one["outcome"]) == (0, "in_sync")
    assert ended.one["notes"] == ["never applied: there is nothing to rotate"]


def test_without_a_row_of_instance_config_the_audit_key_is_rotated(fivrec: Fivrec, url: str) -> None:
    """`setup` makes no such row. Never "there is nothing to rotate": the former key would be thrown away."""
    old, new = fivrec.env["FIVREC_ENCRYPTION_KEY"], generate_key()
    assert fivrec.apply().code == 0
    run_sql(url, "DELETE FROM instance_config")
    both = f"{new},{old}"
    ended = fivrec.run("key", "rotate", "client.yaml", "-o", "json", FIVREC_ENCRYPTION_KEY=both)
    assert (ended.code, ended.one["outcome"]) == (0, "changed"), ended.stdout
    assert rows(url, "SELECT sealed FROM fivrec.audit_key")[0][0].startswith(f"fivenc:v1:{key_id(new)}:")
    again = fivrec.run("key", "rotate", "client.yaml", "-o", "json", FIVREC_ENCRYPTION_KEY=both)
    assert (again.code, again.one["outcome"]) == (0, "in_sync")
    assert fivrec.run("history", "client.yaml", "--verify", FIVREC_ENCRYPTION_KEY=both).code == 0
    assert fivrec.apply(FIVREC_ENCRYPTION_KEY=new).code == 0
    run_sql(url, "DELETE FROM instance_config")
    fivrec.write(manifest("client-of-others"))
    for named_by in ("the records", "the audit key"):
        if named_by == "the audit key":
            run_sql(url, "DELETE FROM fivrec.applied WHERE kind = 'config'")
        wrong = fivrec.run("key", "rotate", "client.yaml", "-o", "json", FIVREC_ENCRYPTION_KEY=f"{old},{new}")
        assert (wrong.code, wrong.one["error"]["code"]) == (3, "wrong_instance"), named_by


def test_a_moved_ciphertext_does_not_decrypt(fivrec: Fivrec, url: str) -> None:
    """Neither from another instance's row nor from another column, with the same key."""
    ring = KeyRing.from_environ(fivrec.env)
    secret = Secret("another-key")
    assert fivrec.apply().code == 0
    moved = {
        "another instance": ring.encrypt(secret, "other-1", "instance_config", "instance_key"),
        "another column": ring.encrypt(secret, INSTANCE, "instance_config", "connect_api_url"),
        "another table": ring.encrypt(secret, INSTANCE, "settings", "instance_key"),
    }
    for text in moved.values():
        run_sql(url, f"UPDATE instance_config SET instance_key = '{text}'")
        before = without_audit(url)
        for words in (("apply",), ("diff",), ("key", "rotate")):
            ended = fivrec.run(*words, "client.yaml", "-o", "json")
            assert (ended.code, ended.one["error"]["code"]) == (78, "key_mismatch"), (moved, words)
            assert "another-key" not in ended.stdout + ended.stderr
        assert without_audit(url) == before


@pytest.fixture
async def fleet(bare: Fivrec, make_database: Callable[[], Secret]) -> tuple[list[str], list[Secret]]:
    """Five instances with databases of their own, applied under the first key."""
    bare.env["FIVREC_ENCRYPTION_KEY"] = generate_key()
    keys = KeyRing.from_environ(bare.env)
    names, urls = [f"client-{number}" for number in range(5)], [make_database() for _ in range(5)]
    for name, url in zip(names, urls, strict=True):
        report = await reconcile(desired_of(document(instance=name), url, connect=None), run_of(keys, bare.folder))
        assert report.outcome == "changed", report.error
    return names, urls


@pytest.mark.slow
def test_killed_anywhere_rows_are_readable_and_the_next_goes_on(
    bare: Fivrec, fleet: tuple[list[str], list[Secret]], record_property: Record
) -> None:
    """kill -9 at random moments of a slowed rotation: all rows decrypt with the ring [new, old]."""
    names, urls = fleet
    seed = int(os.environ.get("FIVREC_TEST_SEED", "20261123"))
    rng = random.Random(seed)
    split = 0
    with running_proxy(*server_of(urls[0])) as proxy:
        proxy.faults.delay_s = 0.01
        texts = []
        for name, url in zip(names, urls, strict=True):
            variable = f"URL_{name[-1]}"
            bare.env[variable] = through(url, proxy.port).reveal()
            texts.append(f"version: 1\ninstance: {name}\ndatabase: {{url: {{env: {variable}}}}}\n")
        bare.write("---\n".join(texts), "fleet.yaml")
        began = time.monotonic()
        assert bare.run("key", "rotate", "fleet.yaml", "--forks", "1").code == 0
        whole = 1.3 * (time.monotonic() - began)  # a rotation with work to do takes longer than one without
        for _ in range(ROUNDS):
            old, new = bare.env["FIVREC_ENCRYPTION_KEY"], generate_key()
            ring = {"FIVREC_ENCRYPTION_KEY": f"{new},{old}"}
            running = bare.start("key", "rotate", "fleet.yaml", "--forks", "1", **ring)
            time.sleep(rng.uniform(0.3, 1.0) * whole)
            running.kill()
            running.communicate()
            keys = KeyRing.from_environ(ring)
            stored = [envelope(url.reveal()) for url in urls]
            for name, text in zip(names, stored, strict=True):
                found = keys.decrypt(text, name, "instance_config", "instance_key")
                assert found == Secret("key-of-the-test"), seed
            split += 0 < sum(keys.is_current(text) for text in stored) < len(stored)
            ended = bare.run("key", "rotate", "fleet.yaml", **ring)
            until = time.monotonic() + 60
            while "[busy]" in ended.stdout and time.monotonic() < until:
                time.sleep(1)  # the slowed link has yet to tell the server that its client was killed
                ended = bare.run("key", "rotate", "fleet.yaml", **ring)
            assert ended.code == 0, (seed, ended.stdout, ended.stderr)
            assert all(keys.is_current(envelope(url.reveal())) for url in urls), seed
            bare.env["FIVREC_ENCRYPTION_KEY"] = new
        assert bare.run("history", "fleet.yaml", "--verify").code == 0, seed
    record_property("rotations killed", f"{ROUNDS}, {split} of them between instances, seed {seed}")
