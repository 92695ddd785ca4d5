"""The main job, on a real PostgreSQL over TCP and a Connect over TLS with its own CA."""

from __future__ import annotations

import json

import bcrypt
import psycopg
import pytest

from reconciler.model.secret import Secret
from tests.support.harness import INSTANCE, PASSWORD, Fivrec, fingerprint, manifest, rows, run_sql
from tests.support.watching import another

PLANS = ["plan_enterprise", "plan_professional", "plan_starter"]


def test_first_apply_makes_the_database_and_all_rows(fivrec: Fivrec, url: str) -> None:
    ended = fivrec.apply()
    assert ended.code == 0, ended.stderr
    assert ended.one["outcome"] == "changed"
    assert rows(url, "SELECT name, role, environment FROM users") == [("Administrador", "admin", "production")]
    assert rows(url, "SELECT name, description FROM queues ORDER BY name") == [
        ("Sales", None),
        ("Technical Support", "Suporte técnico"),
    ]
    assert [row[0] for row in rows(url, "SELECT id FROM plans ORDER BY id")] == PLANS
    assert rows(url, "SELECT key, value FROM settings ORDER BY key") == [
        ("company_name", "Nome da Empresa"),
        ("locale", "pt-BR"),
    ]
    assert rows(url, "SELECT instance_id, status, billing_status, is_locked FROM instance_config") == [
        (INSTANCE, "active", "paid", False)
    ]
    assert rows(url, "SELECT check_type, success, status_received FROM status_check_logs") == [
        ("manual", True, "active")
    ]


def test_secrets_are_stored_sealed(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    (hashed,) = rows(url, "SELECT password FROM users")[0]
    assert hashed.startswith("$2b$12$")
    assert bcrypt.checkpw(PASSWORD.encode(), hashed.encode())
    (key,) = rows(url, "SELECT instance_key FROM instance_config")[0]
    assert key.startswith("fivenc:v1:")
    assert fivrec.env["FIV_APP_API_KEY"] not in key


def test_second_apply_rewrites_no_row(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    before = fingerprint(url)
    ended = fivrec.apply()
    assert (ended.code, ended.one["outcome"], ended.one["changes"]) == (0, "in_sync", [])
    assert fingerprint(url) == before
    assert rows(url, "SELECT count(*) FROM status_check_logs") == [(2,)]


def test_diff_exits_2_before_and_0_after(fivrec: Fivrec, url: str) -> None:
    before = fivrec.diff()
    assert before.code == 2, before.stderr
    assert before.changes()[0][:3] == ("database", url.rsplit("/", 1)[1], "create")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        rows(url, "SELECT 1")
    assert fivrec.apply().code == 0
    after = fivrec.diff()
    assert (after.code, after.one["changes"]) == (0, [])


def test_diff_plans_what_apply_does(fivrec: Fivrec) -> None:
    planned = fivrec.diff().one
    done = fivrec.apply().one
    assert done["changes"] == planned["changes"]
    assert done["digest"] == planned["digest"]


def test_diff_writes_nothing(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(url, "UPDATE queues SET description = 'x'")
    before = fingerprint(url), rows(url, "SELECT count(*) FROM status_check_logs")
    assert fivrec.diff().code == 2
    assert (fingerprint(url), rows(url, "SELECT count(*) FROM status_check_logs")) == before


DRIFT = {
    "setting": (
        "UPDATE settings SET value = '\"other\"' WHERE key = 'locale'",
        ("setting", "locale", "update"),
        "value",
    ),
    "setting gone": ("DELETE FROM settings WHERE key = 'locale'", ("setting", "locale", "create"), "value"),
    "config": (
        "UPDATE instance_config SET check_interval_minutes = 5",
        ("config", INSTANCE, "update"),
        "check_interval_minutes",
    ),
    "instance key": (
        "UPDATE instance_config SET instance_key = 'plain'",
        ("config", INSTANCE, "update"),
        "instance_key",
    ),
    "admin": ("UPDATE users SET name = 'Mallory'", ("admin", "admin@empresa.com", "update"), "name"),
    "admin's role": ("UPDATE users SET role = 'agent'", ("admin", "admin@empresa.com", "update"), "role"),
    "admin gone": ("DELETE FROM users", ("admin", "admin@empresa.com", "create"), "name"),
    "queue": ("UPDATE queues SET description = 'x' WHERE name = 'Sales'", ("queue", "Sales", "update"), "description"),
    "queue off": (
        "UPDATE queues SET is_active = false WHERE name = 'Sales'",
        ("queue", "Sales", "update"),
        "is_active",
    ),
    "queue gone": ("DELETE FROM queues WHERE name = 'Sales'", ("queue", "Sales", "create"), "is_active"),
    "plan": ("UPDATE plans SET price = 1 WHERE id = 'plan_starter'", ("plan", "plan_starter", "update"), "price"),
    "status": ("UPDATE instance_config SET status = 'suspended'", ("status", INSTANCE, "update"), "status"),
    "lock": ("UPDATE instance_config SET is_locked = true", ("status", INSTANCE, "update"), "is_locked"),
}


def test_drift_in_each_table_is_named_and_repaired(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    for statement, identity, field in DRIFT.values():
        run_sql(url, statement)
        found = fivrec.diff()
        assert found.code == 2, statement
        assert found.changes() == [(*identity, "drift")], statement
        assert field in [item["field"] for item in found.one["changes"][0]["fields"]], statement
        repaired = fivrec.apply()
        assert (repaired.code, repaired.changes()) == (0, found.changes()), statement
        assert fivrec.diff().code == 0, statement


def test_a_changed_manifest_is_intent(fivrec: Fivrec) -> None:
    assert fivrec.apply().code == 0
    fivrec.write(manifest(queue="{name: Sales}|{name: Sales, description: Vendas}", more="minutes: 60|minutes: 30"))
    ended = fivrec.apply()
    assert ended.changes() == [("config", INSTANCE, "update", "intent"), ("queue", "Sales", "update", "intent")]
    assert fivrec.diff().code == 0


def test_a_plan_of_another_id_on_the_same_row_is_intent(fivrec: Fivrec) -> None:
    """The row is found by its product and keeps its id; nobody but fivrec wrote to it."""
    ours = "{id: plan_x, name: Outro, price: 1, billing_interval: monthly, stripe_product_id: prod_professional}"
    declared = f"source: connect|source: manifest\n  unmanaged: keep\n  items: [{ours}]"
    assert fivrec.apply().code == 0
    for _ in range(2):
        fivrec.write(manifest(plans=declared))
        assert fivrec.apply().changes() == [("plan", "plan_x", "update", "intent")]
        fivrec.write(manifest())
        assert fivrec.apply().changes() == [("plan", "plan_professional", "update", "intent")]
    assert fivrec.apply().changes() == []


def test_suspended_locks_and_active_unlocks(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    fivrec.connect_set("--status", "suspended")
    ended = fivrec.apply()
    assert (ended.code, ended.changes()) == (0, [("status", INSTANCE, "update", "intent")])
    assert rows(url, "SELECT status, is_locked FROM instance_config") == [("suspended", True)]
    assert "suspended" in ended.stderr
    fivrec.connect_set("--status", "active")
    assert fivrec.apply().code == 0
    assert rows(url, "SELECT status, is_locked FROM instance_config") == [("active", False)]


@pytest.mark.parametrize("status", ["pending_payment"])
def test_payment_notifies_and_never_locks(fivrec: Fivrec, url: str, status: str) -> None:
    fivrec.connect_set("--status", status, "--billing", "overdue")
    ended = fivrec.apply()
    assert ended.code == 0, ended.stderr
    assert "💰" in ended.stderr
    assert rows(url, "SELECT status, billing_status, is_locked FROM instance_config") == [(status, "overdue", False)]


FAULTS = [
    (("--fail", "500"), 5, "connect_http_error"),
    (("--fail", "html"), 5, "connect_invalid_answer"),
    (("--fail", "list"), 5, "connect_invalid_answer"),
    (("--fail", "redirect"), 5, "connect_redirect"),
    (("--status", "exploded"), 5, "connect_unknown_status"),
    (("--fail", "other-instance"), 1, "connect_wrong_instance"),
    (("--no-plans",), 3, "guard"),
]


def test_connects_mistakes_change_nothing_that_came_from_it(fivrec: Fivrec, url: str) -> None:
    """Down, 500, HTML, a list, a redirect, an unknown status, another instance, an empty plan list."""
    fivrec.connect_set("--status", "suspended")
    assert fivrec.apply().code == 0
    untouched = "SELECT status, billing_status, is_locked, enabled_features::text FROM instance_config"
    before = rows(url, untouched), rows(url, "SELECT id, is_active FROM plans ORDER BY id")
    for number, (fault, code, error) in enumerate(FAULTS):
        fivrec.connect_set("--reset")
        fivrec.connect_set("--status", "suspended")
        fivrec.connect_set(*fault)
        fivrec.write(manifest(company=f"Nome da Empresa|Empresa {number}"))
        ended = fivrec.apply()
        assert (ended.code, ended.one["error"]["code"]) == (code, error), (fault, ended.stderr)
        assert (rows(url, untouched), rows(url, "SELECT id, is_active FROM plans ORDER BY id")) == before, fault
        written = rows(url, "SELECT value FROM settings WHERE key = 'company_name'") == [(f"Empresa {number}",)]
        assert written == (code == 5), fault  # only Connect's part is missing, the manifest's is done
        (last,) = rows(url, "SELECT success FROM status_check_logs ORDER BY created_at DESC LIMIT 1")[0]
        assert last is False or code == 3, fault  # a refused run writes only failed checks


def test_connect_down_is_degraded_and_its_failed_check_recorded(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    ended = fivrec.apply(FIV_APP_API_URL="https://127.0.0.1:9")
    assert (ended.code, ended.one["outcome"], ended.one["error"]["code"]) == (5, "degraded", "connect_unreachable")
    checks = rows(url, "SELECT success, error_message FROM status_check_logs ORDER BY created_at DESC LIMIT 1")
    assert checks[0][0] is False
    assert checks[0][1].startswith("connect_unreachable: ")
    for suspended in ("", "suspend: true\n"):
        fivrec.write(manifest() + suspended)
        checked = fivrec.run("check", "client.yaml", "-o", "json", FIV_APP_API_URL="https://127.0.0.1:9")
        assert (checked.code, checked.one["outcome"], checked.one["error"]["code"]) == (
            1,
            "failed",
            "connect_unreachable",
        )


def test_export_applied_again_changes_nothing(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    exported = fivrec.run("export", "--database-url", "env:DATABASE_URL", "--instance", INSTANCE)
    assert exported.code == 0, exported.stderr
    fivrec.write(exported.stdout)
    before = fingerprint(url)
    again = fivrec.apply()
    assert (again.code, again.one["changes"]) == (0, []), exported.stdout
    assert {name: found for name, found in fingerprint(url).items() if name != "fivrec.applied"} == {
        name: found for name, found in before.items() if name != "fivrec.applied"
    }


def test_export_is_of_what_was_declared(fivrec: Fivrec, url: str) -> None:
    """Leaves out another administrator of the app, and the app's plans that no manifest named."""
    fivrec.write(manifest().partition("plans:")[0])
    assert fivrec.apply().code == 0
    run_sql(url, "INSERT INTO users (name, email, password, role) VALUES ('A', 'a@empresa.com', 'x', 'admin')")
    run_sql(
        url,
        "INSERT INTO plans (id, name, price, billing_interval, features) VALUES ('own', 'Own', 1, 'monthly', '[]')",
    )
    exported = fivrec.run("export", "--database-url", "env:DATABASE_URL", "--instance", INSTANCE)
    assert ("email: admin@empresa.com" in exported.stdout, "source: manifest" in exported.stdout) == (True, True)
    fivrec.write(exported.stdout)
    again = fivrec.diff()
    assert (again.code, again.one["changes"]) == (0, []), exported.stdout


def test_expectations_are_conflicts_and_never_fixed(fivrec: Fivrec) -> None:
    fivrec.write(manifest() + "expect: {billing_status: overdue, enabled_features: {chat: false}}\n")
    ended = fivrec.apply()
    assert ended.code == 0
    assert [(item["field"], item["expected"], item["observed"]) for item in ended.one["conflicts"]] == [
        ("billing_status", "overdue", "paid"),
        ("enabled_features.chat", False, True),
    ]
    assert fivrec.apply("--strict").code == 1


def test_accepted_drift_is_left_alone_until_it_expires(fivrec: Fivrec, url: str) -> None:
    entry = "ignore: [{{field: queue/Sales/description, until: {until}, reason: campaign}}]\n"
    fivrec.write(manifest() + entry.format(until="2999-12-31"))
    assert fivrec.apply().code == 0
    run_sql(url, "UPDATE queues SET description = 'x' WHERE name = 'Sales'")
    assert fivrec.diff().code == 0
    fivrec.write(manifest() + entry.format(until="2020-01-01"))
    assert fivrec.diff().changes() == [("queue", "Sales", "update", "drift")]


def test_accepted_drift_is_shown_with_its_end(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(url, "UPDATE queues SET description = 'x' WHERE name = 'Sales'")
    known = {"kind": "queue", "name": "Sales", "field": "description", "reason": "campaign"}
    for until, words, page, more in (
        (", until: 2999-12-31", " until 2999-12-31", "until 2999-12-31", {"until": "2999-12-31"}),
        ("", ", no end", "no end", {}),
    ):
        fivrec.write(manifest() + f"ignore: [{{field: queue/Sales/description{until}, reason: campaign}}]\n")
        said = f"queue/Sales/description: accepted drift{words}: campaign"
        assert f"  ≈ {said}\n" in fivrec.run("diff", "client.yaml").stdout
        assert f"\n# {said}\n" in fivrec.run("diff", "client.yaml", "-o", "markdown").stdout
        assert (
            f"queue/Sales: accepted drift{words}: campaign"
            in fivrec.run("diff", "client.yaml", "--explain", "queue/Sales").stdout
        )
        assert fivrec.diff().one["accepted"] == [known | more]
        assert (
            f'<span class="muted">{page}</span> campaign'
            in fivrec.run("report", "client.yaml", "--out", "-", "--language", "en").stdout
        )


def test_suspend_watches_but_changes_nothing(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(url, "UPDATE queues SET description = 'x' WHERE name = 'Sales'")
    fivrec.write(manifest() + "suspend: true\n")
    before = fingerprint(url)
    ended = fivrec.apply()
    assert (ended.code, ended.one["outcome"]) == (0, "skipped")
    said = "suspend: true in the manifest: nothing is changed"
    assert ended.one["notes"] == fivrec.diff().one["notes"] == [said]
    shown = fivrec.run("apply", "--check", "client.yaml").stdout.splitlines()
    (since,) = rows(url, "SELECT open_drift -> 0 ->> 'since' FROM fivrec.last_run")[0]
    assert shown[:3] == [
        "client-abc-123 (production) skipped",
        f"  ~ queue/Sales (drift) since {since.replace('+00:00', 'Z')}",
        '      description: "x" → null',
    ]
    assert f"  {said}" in shown
    assert fingerprint(url) == before
    assert rows(url, "SELECT count(*) FROM status_check_logs") == [(2,)]


def test_suspend_makes_no_database(fivrec: Fivrec, url: str) -> None:
    fivrec.write(manifest() + "suspend: true\n")
    ended = fivrec.apply()
    assert (ended.code, ended.one["outcome"]) == (0, "skipped")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        rows(url, "SELECT 1")


@pytest.mark.parametrize("row", ["kept", "gone"])
def test_reading_another_instances_database_is_refused(fivrec: Fivrec, url: str, database: Secret, row: str) -> None:
    """Its own instance, read in the same run from another database, is shown all the same."""
    assert fivrec.apply().code == 0
    fine = another(fivrec, "client-def-456", database.reveal())
    assert fivrec.run("apply", fine).code == 0
    if row == "gone":
        run_sql(url, "DELETE FROM instance_config")
    fivrec.write(manifest("other-1"), "other.yaml")
    for command in ("status", "logs", "history", "history --verify"):
        ended = fivrec.run(*command.split(), "other.yaml", "-o", "json")
        assert (ended.code, ended.one["error"]["code"]) == (3, "wrong_instance"), command
    text = fivrec.run("status", "other.yaml", fine)
    said = f'other-1: [wrong_instance] the database belongs to instance "{INSTANCE}", not to "other-1"'
    assert (text.code, said in text.stderr, "client-def-456" in text.stdout) == (5, True, True)


def test_another_instances_database_is_refused_unless_adopted(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    other = fivrec.write(manifest("other-1"), "other.yaml")
    other_key = {"FIV_APP_API_KEY": "another-key-of-this-test"}
    fivrec.run("connect", "set", "other-1", "--key-env", "FIV_APP_API_KEY", "--state", "connect.json", **other_key)
    before = fingerprint(url)
    refused = fivrec.run("apply", str(other), "-o", "json", **other_key)
    assert (refused.code, refused.one["error"]["code"]) == (3, "wrong_instance")
    words = ("--database-url", "env:DATABASE_URL", "--instance", "other-1")
    assert fivrec.run("export", *words).code == 3
    account = ("--admin-email", "a@empresa.com", "--admin-password-env", "FIV_ADMIN_PASSWORD", "--company-name", "X")
    another = fivrec.run("setup", *words, *account)
    assert (another.code, f"if {INSTANCE} is meant: --instance {INSTANCE}" in another.stderr) == (3, True)
    assert fingerprint(url) == before
    adopted = fivrec.run("apply", str(other), "-o", "json", "--adopt", **other_key)
    assert adopted.code == 0, adopted.stdout
    assert rows(url, "SELECT instance_id FROM instance_config") == [("other-1",)]
    assert fivrec.run("diff", str(other), **other_key).code == 0


def test_busy_names_the_holder(fivrec: Fivrec, url: str) -> None:
    from reconciler.database.transaction import lock_key

    assert fivrec.apply().code == 0
    with psycopg.connect(url, application_name="the other run") as conn:
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (lock_key(INSTANCE),))
        ended = fivrec.apply()
    assert (ended.code, ended.one["outcome"]) == (4, "busy")
    assert "the other run" in ended.one["error"]["message"]


def test_text_output_names_changes_and_closes_with_a_recap(fivrec: Fivrec) -> None:
    first = fivrec.run("apply", "client.yaml")
    assert first.code == 0
    assert "  + queue/Sales (new)" in first.stdout
    recap = first.stdout.strip().splitlines()[-1]
    assert recap.startswith(f"{INSTANCE} : ok=")
    assert "conflicts=0 failed=0  status=active billing=paid" in recap
    second = fivrec.run("apply", "client.yaml")
    assert " changed=0 " in second.stdout.splitlines()[-1]


def test_v_says_the_steps_with_their_times(fivrec: Fivrec) -> None:
    assert "🔎" not in fivrec.apply().stderr
    ended = fivrec.run("apply", "client.yaml", "-v", "--log-format", "json")
    steps = [event for event in map(json.loads, ended.stderr.splitlines()) if event["level"] == "debug"]
    assert [step["message"][2:].partition(" (")[0] for step in steps] == [
        "Connect and the database were asked",
        "locked and read; 0 changes planned",
        "written and committed",
    ]
    times = [step["duration_ms"] for step in steps]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("queues", "action"),
    [
        ("[{name: Technical Support}, {name: A, is_active: false}]", "update"),
        ("{unmanaged: deactivate, items: [{name: Technical Support}]}", "deactivate"),
        ("{unmanaged: remove, items: [{name: Technical Support}]}", "deactivate"),
    ],
)
def test_queues_of_one_name_go_inactive_together_not_removed(
    fivrec: Fivrec, url: str, queues: str, action: str
) -> None:
    first = manifest().partition("queues:")[0]
    fivrec.write(first + "queues: [{name: Technical Support}]\n")
    assert fivrec.apply().code == 0
    inactive = "INSERT INTO queues (name, description, is_active, created_at) VALUES ('A', 'old', false, '2020-01-01')"
    run_sql(url, inactive, "INSERT INTO queues (name, description) SELECT 'A', 'd' || i FROM generate_series(1, 3) i")
    fivrec.write(first + f"queues: {queues}\n")
    ended = fivrec.apply()
    assert (ended.code, [change[1:3] for change in ended.changes()]) == (0, [("A", action)]), ended.stdout
    assert fivrec.apply().changes() == []
    assert rows(url, "SELECT count(*) FROM queues WHERE name = 'A' AND NOT is_active") == [(4,)]
