"""From development to production in one apply: test data are deleted, the administrator moves, the rest is created."""

from __future__ import annotations

import re

from tests.support.harness import INSTANCE, ROOT, Ended, Fivrec, connect_over_tls, manifest, rows, run_sql
from tests.support.isolated import ROWS

BEFORE = manifest(a="environment: production|environment: development")
PURGING = "environment: {name: production, purge_development_data: true}"
AFTER = manifest(a=f"environment: production|{PURGING}")
EMAIL = "admin@empresa.com"
CHANGES = (
    f"environment/{INSTANCE} would change from development to production; "
    "of its rows only the declared administrator's moves along"
)
COMING_ALONG = [("environment", "development", "production")]


def fields(ended: Ended) -> dict[str, list[tuple[str, object, object]]]:
    return {
        f"{change['kind']}/{change['name']} {change['action']}": [
            (item["field"], item.get("before"), item.get("after")) for item in change["fields"]
        ]
        for change in ended.one["changes"]
    }


def accept_of(ended: Ended) -> str:
    found = re.search(r"--accept (\w+)", ended.one["error"]["message"])
    assert found is not None
    return found[1]


def test_going_live_in_one_apply_moves_the_administrator_alone(fivrec: Fivrec, url: str) -> None:
    fivrec.write(BEFORE)
    assert fivrec.apply().code == 0
    run_sql(url, ROWS.format(e="development"))
    before = rows(url, "SELECT id, password, created_at FROM users WHERE email = %s", EMAIL)
    fivrec.write(AFTER)
    assert fivrec.run("production-test", "client.yaml").code == 0
    shown = fields(fivrec.diff())
    assert shown[f"environment/{INSTANCE} update"] == [("name", "development", "production")]
    assert shown[f"admin/{EMAIL} update"] == COMING_ALONG
    assert shown["test_data/users remove"] == [("rows", 1, None)]
    assert [key for key in shown if key.startswith("queue")] == ["queue/Sales create", "queue/Technical Support create"]
    refused = fivrec.apply()
    assert (refused.code, refused.one["error"]["message"]) == (
        3,
        f"{CHANGES}; if this is meant: --accept {accept_of(refused)}",
    )
    done = fivrec.apply("--accept", accept_of(refused))
    assert (done.code, fields(done)) == (0, shown)
    assert rows(url, "SELECT id, password, created_at FROM users WHERE email = %s", EMAIL) == before
    for table in ("users", "queues", "clients", "conversations", "messages"):
        assert rows(url, f"SELECT DISTINCT environment FROM {table}") in ([("production",)], [])
    assert (fivrec.diff().code, fivrec.apply().changes()) == (0, [])
    assert fivrec.run("production-test", "client.yaml").code == 0
    assert fivrec.run("history", "client.yaml", "--verify").code == 0


def test_applied_state_still_counts_after_going_live(fivrec: Fivrec, url: str) -> None:
    """Settings, config and plans belong to the instance: drift stays drift, and what the new manifest omits is
    removed."""
    two = "settings: {locale: pt-BR}|settings: {locale: pt-BR, opens: '08:30'}"
    fivrec.write(manifest(a="environment: production|environment: development", b=two))
    assert fivrec.apply().code == 0
    run_sql(url, "UPDATE settings SET value = '\"en\"' WHERE key = 'locale'", ROWS.format(e="development"))
    fivrec.write(AFTER)
    drift = fivrec.run("drift", "client.yaml", "-o", "json")
    assert (drift.code, drift.changes()) == (2, [("setting", "locale", "update", "drift")])
    done = fivrec.apply("--accept", accept_of(fivrec.apply()))
    found = {(kind, name): (action, cause) for kind, name, action, cause in done.changes()}
    assert {key: cause for key, (_, cause) in found.items() if cause != "new"} == {
        ("environment", INSTANCE): "intent",
        ("setting", "locale"): "drift",
        ("setting", "opens"): "intent",
        ("admin", EMAIL): "intent",
        **{("test_data", table): "intent" for table in ("clients", "conversations", "messages", "queues", "users")},
    }
    assert found["setting", "opens"][0] == "remove"
    run_sql(url, ROWS.format(e="development"))
    assert {cause for _, _, _, cause in fivrec.diff().changes()} == {"drift"}


def test_an_administrator_who_moved_along_can_be_replaced(fivrec: Fivrec, url: str) -> None:
    fivrec.write(BEFORE)
    assert fivrec.apply().code == 0
    fivrec.write(AFTER)
    assert fivrec.apply("--accept", accept_of(fivrec.apply())).code == 0
    fivrec.write(AFTER.replace(EMAIL, "nova@empresa.com"))
    assert ("admin", EMAIL, "update", "intent") in fivrec.apply().changes()
    roles = [(EMAIL, "agent"), ("nova@empresa.com", "admin")]
    assert rows(url, "SELECT email, role FROM users ORDER BY email") == roles
    assert (fivrec.diff("--strict").code, fivrec.diff().changes()) == (0, [])


def test_test_data_that_come_later_go_without_asking(fivrec: Fivrec, url: str) -> None:
    fivrec.write(AFTER)
    assert fivrec.apply().code == 0
    run_sql(url, ROWS.format(e="development"))
    cleaned = fivrec.apply()
    assert (cleaned.code, {kind for kind, _, _, _ in cleaned.changes()}) == (0, {"test_data"})
    assert rows(url, "SELECT count(*) FROM messages WHERE environment = 'development'") == [(0,)]


def test_test_rows_that_refer_to_the_administrator_refuse_it(fivrec: Fivrec, url: str) -> None:
    fivrec.write(BEFORE)
    assert fivrec.apply().code == 0
    run_sql(
        url,
        f"INSERT INTO conversations (user_id, environment) SELECT id, 'development' FROM users WHERE email = '{EMAIL}'",
    )
    fivrec.write(manifest())
    for command in (fivrec.diff, fivrec.apply):
        refused = command()
        assert (refused.code, refused.one["error"]["code"]) == (3, "admin_in_use"), refused.stdout
        assert "purge_development_data: true" in refused.one["error"]["hint"]
    fivrec.write(AFTER)
    accepted = fivrec.apply("--accept", accept_of(fivrec.apply()))
    assert (accepted.code, fivrec.diff().code) == (0, 0)


def test_the_administrator_comes_along_under_another_spelling(fivrec: Fivrec, url: str) -> None:
    fivrec.write(BEFORE.replace(EMAIL, "Admin@Empresa.com"))
    assert fivrec.apply().code == 0
    fivrec.write(AFTER)
    done = fivrec.apply("--accept", accept_of(fivrec.apply()))
    moved = [("email", "Admin@Empresa.com", EMAIL), *COMING_ALONG]
    assert (done.code, fields(done)[f"admin/{EMAIL} update"]) == (0, moved), done.stdout
    assert rows(url, "SELECT email, role, environment FROM users") == [(EMAIL, "admin", "production")]
    assert (fivrec.diff("--strict").code, fivrec.diff().changes()) == (0, [])


def test_the_administrator_is_renamed_on_the_way(fivrec: Fivrec, url: str) -> None:
    fivrec.write(BEFORE)
    assert fivrec.apply().code == 0
    fivrec.write(AFTER.replace(f"email: {EMAIL}", f"email: nova@empresa.com\n  renamed_from: {EMAIL}"))
    done = fivrec.apply("--accept", accept_of(fivrec.apply()))
    moved = [("email", EMAIL, "nova@empresa.com"), *COMING_ALONG]
    assert (done.code, fields(done)["admin/nova@empresa.com update"]) == (0, moved), done.stdout
    assert rows(url, "SELECT email, role, environment FROM users") == [("nova@empresa.com", "admin", "production")]
    assert (fivrec.diff("--strict").code, fivrec.diff().changes()) == (0, [])


def test_an_email_of_the_other_environment_is_still_taken(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(url, f"UPDATE users SET environment = 'development' WHERE email = '{EMAIL}'")
    refused = fivrec.apply()
    assert (refused.code, refused.one["error"]["code"]) == (1, "admin_email_taken")


def test_status_and_report_say_what_the_rows_are(fivrec: Fivrec, url: str) -> None:
    """Somebody made it a production instance, and the manifest still says development: it is not shown as a test."""
    assert fivrec.apply().code == 0
    same = fivrec.run("status", "client.yaml", "-o", "json").one
    assert (same["environment"], same["declared_environment"]) == ("production", "production")
    fivrec.write(BEFORE)
    said = fivrec.run("status", "client.yaml", "-o", "json", "--problems").one
    assert (said["environment"], said["declared_environment"]) == ("production", "development")
    assert "  production (the manifest says development)  " in fivrec.run("status", "client.yaml").stdout
    assert fivrec.run("report", "client.yaml", "--out", "report.html").code == 0
    page = (fivrec.folder / "report.html").read_text(encoding="utf-8")
    assert '<span class="tag">production</span><span class="tag differs">the manifest says development</span>' in page
    assert rows(url, "SELECT environment FROM fivrec.applied WHERE kind = 'environment'") == [("production",)]


def test_a_refusals_digest_holds_though_connects_word_was_followed(fivrec: Fivrec, url: str) -> None:
    """The refused run locks, as Connect says; the plan that it asked about is still the same."""
    fivrec.write(BEFORE)
    assert fivrec.apply().code == 0
    fivrec.connect_set("--status", "suspended", "--billing", "overdue")
    fivrec.write(AFTER)
    shown, refused = fivrec.diff(), fivrec.apply()
    assert ("status", INSTANCE, "update", "intent") in refused.changes()
    assert rows(url, "SELECT status, is_locked FROM instance_config") == [("suspended", True)]
    assert shown.one["digest"] == accept_of(refused)
    done = fivrec.apply("--accept", accept_of(refused))
    assert (done.code, ("status", INSTANCE, "update", "intent") in done.changes()) == (0, False)
    assert rows(url, "SELECT DISTINCT environment FROM users") == [("production",)]


def test_going_back_moves_the_administrator_too(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    fivrec.write(BEFORE)
    done = fivrec.apply("--accept", accept_of(fivrec.apply()))
    assert (done.code, fields(done)[f"admin/{EMAIL} update"]) == (0, [("environment", "production", "development")])
    assert rows(url, "SELECT environment, count(*) FROM queues GROUP BY 1 ORDER BY 1") == [
        ("development", 2),
        ("production", 2),
    ]


def test_the_quick_starts_manifest_is_ready_for_production(bare: Fivrec) -> None:
    """With its own database and a real Connect, the test rehearses what an apply as production would do."""
    bare.write((ROOT / "manifests" / "client.yaml").read_text())
    with connect_over_tls(bare):
        assert bare.run("apply", "client.yaml").code == 0
        tested = bare.run("production-test", "client.yaml", "-o", "json")
        assert {check["name"]: check["message"] for check in tested.one["checks"] if not check["passed"]} == {}
        assert tested.code == 0


def test_check_and_production_test_compare_connects_database(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    note = f"Connect does not list the database {url.rpartition('/')[2]}; it lists fivapp_{INSTANCE}"
    checked = fivrec.run("check", "client.yaml", "-o", "json")
    assert (checked.code, checked.one["notes"]) == (0, [note])
    tested = fivrec.run("production-test", "client.yaml", "-o", "json")
    (connect,) = (check for check in tested.one["checks"] if check["name"] == "connect")
    assert (tested.code, connect["passed"], connect["message"].partition("; ")[2]) == (0, True, note)
