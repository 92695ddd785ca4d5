"""Environments as a user meets them: NODE_ENV, a change of environment, purge."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.harness import Fivrec, fingerprint, manifest, rows, run_sql
from tests.support.isolated import ROWS, SHARED

BY_NODE_ENV = "environment: production|environment: {name: {env: NODE_ENV, default: development}}"
SECOND_EMAIL = 'email: admin@empresa.com|email: "admin@{{ environment }}.test"'


def counted(url: str) -> dict[str, dict[str, int]]:
    return {
        table: dict(rows(url, f"SELECT environment, count(*) FROM {table} GROUP BY 1 ORDER BY 1"))  # type: ignore[arg-type]
        for table in SHARED
    }


@pytest.mark.parametrize("value", ["production", "development"])
def test_node_env_names_the_environment(value: str, fivrec: Fivrec, url: str) -> None:
    fivrec.write(manifest(a=BY_NODE_ENV))
    ended = fivrec.apply(NODE_ENV=value)
    assert (ended.code, ended.one["environment"]) == (0, value), ended.stderr
    assert set(counted(url)["users"]) == {value}


@pytest.mark.parametrize("value", ["staging", "Production", "prod", "test", ""])
def test_another_node_env_is_an_error_and_nothing_is_made(value: str, fivrec: Fivrec, url: str) -> None:
    fivrec.write(manifest(a=BY_NODE_ENV))
    ended = fivrec.apply(NODE_ENV=value)
    assert ended.code in (65, 78)
    assert "NODE_ENV" in ended.stderr + ended.stdout
    assert (
        rows(url.rpartition("/")[0] + "/postgres", "SELECT FROM pg_database WHERE datname = %s", url.rpartition("/")[2])
        == []
    )


def test_a_change_of_environment_is_guarded_and_relabels_no_row(fivrec: Fivrec, url: str) -> None:
    fivrec.write(manifest(a=BY_NODE_ENV, b=SECOND_EMAIL))
    assert fivrec.apply(NODE_ENV="development").code == 0
    before = counted(url)
    refused = fivrec.apply(NODE_ENV="production")
    assert (refused.code, refused.one["outcome"]) == (3, "refused")
    assert "would change from development to production; of its rows only" in refused.one["error"]["message"]
    assert counted(url) == before
    found = re.search(r"--accept (\w+)", refused.one["error"]["message"])
    assert found is not None
    accepted = fivrec.apply("--accept", found[1], NODE_ENV="production")
    assert accepted.code == 0, accepted.stderr
    change = next(item for item in accepted.one["changes"] if item["kind"] == "environment")
    assert change["fields"] == [{"field": "name", "before": "development", "after": "production"}]
    assert counted(url)["queues"] == {"development": 2, "production": 2}
    assert counted(url)["users"] == {"development": 1, "production": 1}
    assert fivrec.apply(NODE_ENV="production").changes() == []


def test_purge_counts_asks_deletes_and_says_so(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(url, *(statement for name in ("production", "development") for statement in [ROWS.format(e=name)]))
    production = {table: {"production": found["production"]} for table, found in counted(url).items()}
    refused = fivrec.run("purge", "client.yaml")
    assert (refused.code, "is a production instance" in refused.stderr) == (3, True)
    unconfirmed = fivrec.run("purge", "client.yaml", "--environment", "development", "-o", "json")
    assert (unconfirmed.code, unconfirmed.one["outcome"]) == (3, "refused")
    assert unconfirmed.one["error"]["code"] == "purge_refused"
    assert "1 messages" in unconfirmed.stderr
    assert all(found.get("development") for found in counted(url).values())
    done = fivrec.run("purge", "client.yaml", "--environment", "development", "--yes", "-o", "json")
    assert (done.code, done.one["outcome"], done.json["command"]) == (0, "changed", "purge"), done.stderr
    assert [(item["name"], item["fields"]) for item in done.one["changes"]] == [
        (table, [{"field": "rows", "before": 1, "after": None}]) for table in sorted(SHARED)
    ]
    assert counted(url) == production
    again = fivrec.run("purge", "client.yaml", "--environment", "development", "--yes")
    assert again.code == 0
    assert "🧹 development rows in " in again.stderr
    assert ": none\n" in again.stderr
    assert fivrec.apply().changes() == []
    assert fivrec.run("history", "client.yaml", "--verify").code == 0


def test_purge_is_of_one_instance_and_of_one_that_was_applied(fivrec: Fivrec) -> None:
    fivrec.write(manifest("client-b", a="environment: production|environment: development"), "more/b.yaml")
    never = fivrec.run("purge", "more/b.yaml", "--yes", "-o", "json")
    assert never.code == 1
    assert json.loads(never.stdout)["error"]["code"] == "schema_missing"
    two = fivrec.run("purge", "client.yaml", "more/b.yaml", "--yes", DATABASE_URL="embedded:")
    assert two.code in (64, 65, 78)


def test_production_test_reports_each_check_and_leaves_no_row(fivrec: Fivrec, url: str) -> None:
    never = fivrec.run("production-test", "client.yaml", "-o", "json")
    assert (never.code, never.one["passed"], never.one["checks"][0]["name"]) == (1, False, "schema")
    assert fivrec.apply().code == 0
    before = fingerprint(url), rows(url, "SELECT * FROM status_check_logs ORDER BY id")
    passed = fivrec.run("production-test", "client.yaml", "-o", "json")
    assert passed.code == 0, passed.stdout
    assert {check["name"]: check["passed"] for check in passed.one["checks"]} == dict.fromkeys(
        ["schema", "isolation", "admin", "passwords", "queues", "plans", "key", "usage", "connect"], True
    )
    fivrec.connect_set("--status", "suspended")
    text = fivrec.run("production-test", "client.yaml")
    assert text.code == 1
    assert "❌ connect   suspended, paid: access is blocked" in text.stdout
    assert "client-abc-123 : passed=8 failed=1" in text.stdout
    assert (fingerprint(url), rows(url, "SELECT * FROM status_check_logs ORDER BY id")) == before
