"""Saved plans: applied as they are, or refused with what changed and nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.harness import INSTANCE, PASSWORD, Ended, Fivrec, fingerprint, manifest, rows, run_sql

DESCRIBED = "  - {name: Sales}|  - {name: Sales, description: Vendas}"


@pytest.fixture
def planned(fivrec: Fivrec, url: str) -> Fivrec:
    """An applied instance, and a saved plan that describes the queue Sales."""
    assert fivrec.apply().code == 0
    fivrec.write(manifest(described=DESCRIBED))
    ended = fivrec.diff("--out", "plan.json")
    assert ended.code == 2, ended.stderr
    assert "the plan is in plan.json" in ended.stderr
    return fivrec


def apply(fivrec: Fivrec, *words: str, **more: str | None) -> Ended:
    return fivrec.apply("--plan", "plan.json", *words, **more)


def written(url: str) -> Any:
    """Returns everything but the audit log, where the refusal is recorded."""
    found = fingerprint(url)
    del found["fivrec.audit_log"]
    return found, rows(url, "SELECT count(*) FROM status_check_logs")


def test_a_saved_plan_is_applied_as_it_is_and_once(planned: Fivrec, url: str) -> None:
    saved = json.loads((planned.folder / "plan.json").read_text())
    ended = apply(planned)
    assert (ended.code, ended.one["outcome"]) == (0, "changed"), ended.stdout
    (instance,) = saved["instances"]
    assert (ended.one["changes"], ended.one["digest"]) == (instance["changes"], instance["digest"])
    assert rows(url, "SELECT description FROM queues WHERE name = 'Sales'") == [("Vendas",)]
    again = apply(planned)
    assert (again.code, again.one["outcome"], again.one["error"]["code"]) == (3, "refused", "stale_plan")
    assert "queue/Sales: update was planned, there is nothing to do now" in again.one["error"]["message"]


def test_a_plan_that_needs_connect_says_that_connect_is_away(planned: Fivrec, url: str) -> None:
    """It does not say that there was nothing to do, as nobody knows."""
    planned.connect_set("--billing", "overdue")
    assert planned.diff("--out", "plan.json").code == 2
    planned.connect_set("--fail", "500")
    before = written(url)[0]
    ended = apply(planned)
    assert (ended.code, ended.one["error"]["code"]) == (3, "stale_plan")
    assert ended.one["error"]["message"] == (
        "the saved plan is stale: Fi.V Connect API returned 500, so what came from Connect can't be compared; "
        f"status/{INSTANCE}: update was planned, there is nothing to do now"
    )
    assert written(url)[0] == before


def test_a_plan_of_one_database_is_not_applied_to_a_copy_of_it(planned: Fivrec, url: str) -> None:
    copy = f"{url}_copy"
    name = url.rsplit("/", 1)[1]
    server = url.removesuffix(name) + "postgres"
    run_sql(server, f'CREATE DATABASE "{name}_copy" TEMPLATE "{name}"')
    try:
        before = written(copy)
        ended = apply(planned, DATABASE_URL=copy)
        assert (ended.code, ended.one["outcome"], ended.one["error"]["code"]) == (3, "refused", "stale_plan")
        assert ended.one["error"]["message"] == (
            "the saved plan is stale: the database is not the one that it was planned for"
        )
        assert written(copy) == before
    finally:
        run_sql(server, f'DROP DATABASE "{name}_copy" WITH (FORCE)')
    ended = apply(planned, DATABASE_URL=f"{url}?application_name=another")
    assert (ended.code, ended.one["outcome"]) == (0, "changed"), ended.stdout


@dataclass(frozen=True, slots=True)
class Case:
    """What changes after the plan was saved, by SQL, manifest, variables, Connect or in the file itself; how to undo
    it; and what the refusal must say."""

    says: str
    sql: tuple[str, str] | None = None
    manifest: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    connect: str | None = None
    edit: Callable[[dict[str, Any]], Any] | None = None


SALES = "UPDATE queues SET description = {} WHERE name = 'Sales'"
LOCALE = "UPDATE settings SET value = '\"{}\"' WHERE key = 'locale'"
CASES = (
    Case(
        'Sales/description: the database had null when planned, and has "x"',
        sql=(SALES.format("'x'"), SALES.format("NULL")),
    ),
    Case("setting/locale: update is needed now and was not", sql=(LOCALE.format("en"), LOCALE.format("pt-BR"))),
    Case(
        'the manifest said "Vendas" when planned, and "Outra" now',
        manifest=manifest(d=DESCRIBED.replace("Vendas", "Outra")),
    ),
    Case("the manifest changed since it was planned", manifest=manifest(d=DESCRIBED) + "expect: {status: active}\n"),
    Case("a declared secret changed since, or", variables={"FIV_ADMIN_PASSWORD": PASSWORD + "-new"}),
    Case("status/client-abc-123: update is needed now", connect="suspended"),
    Case(
        'the manifest said "Edited" when planned, and "Vendas" now',
        edit=lambda item: item["changes"][0]["fields"][0].update(after="Edited"),
    ),
    Case("queue/Sales: update is needed now and was not", edit=lambda item: item["changes"].clear()),
    Case("or the file was edited", edit=lambda item: item.update(digest="0" * 16)),
    Case("no plan was made for client-abc-123", edit=lambda item: item.update(instance="other")),
)


def change(case: Case, fivrec: Fivrec, url: str) -> None:
    if case.sql:
        run_sql(url, case.sql[0])
    if case.manifest:
        fivrec.write(case.manifest)
    if case.connect:
        fivrec.connect_set("--status", case.connect)
    if case.edit:
        document = json.loads((fivrec.folder / "plan.json").read_text())
        case.edit(document["instances"][0])
        fivrec.write(json.dumps(document), "plan.json")


def undo(case: Case, fivrec: Fivrec, url: str, plan: str) -> None:
    fivrec.write(plan, "plan.json")
    fivrec.write(manifest(d=DESCRIBED))
    if case.sql:
        run_sql(url, case.sql[1])
    if case.connect:
        fivrec.connect_set("--status", "active")


def test_a_stale_or_edited_plan_is_refused_and_writes_nothing(planned: Fivrec, url: str) -> None:
    """One plan through all cases: as a refusal writes nothing, the plan can still be applied at the end."""
    plan = (planned.folder / "plan.json").read_text()
    for case in CASES:
        change(case, planned, url)
        before = written(url)
        ended = apply(planned, **case.variables)
        assert ended.code == 3, (case, ended.stdout)
        found = ended.json["instances"][0]
        assert (found["outcome"], found["error"]["code"]) == ("refused", "stale_plan")
        assert case.says in found["error"]["message"]
        assert all(item["outcome"] == "refused" for item in ended.json["instances"])
        assert written(url) == before, case
        undo(case, planned, url, plan)
    recorded = rows(url, "SELECT count(*) FROM fivrec.audit_log WHERE kind = 'run' AND action = 'refused'")
    assert recorded == [(len(CASES),)]
    assert apply(planned).code == 0


def test_a_stale_plan_is_called_that_with_its_digest_too(planned: Fivrec, url: str) -> None:
    """As in a pipeline, which has both: the reviewed plan, and its digest for what a guard asks about."""
    document = json.loads((planned.folder / "plan.json").read_text())
    digest = document["instances"][0]["digest"]
    run_sql(url, SALES.format("'x'"))
    stale = apply(planned, "--accept", digest)
    assert (stale.code, stale.one["error"]["code"]) == (3, "stale_plan"), stale.stdout
    run_sql(url, SALES.format("NULL"))
    assert apply(planned, "--accept", "0" * 16).code == 64
    assert apply(planned, "--accept", digest).code == 0


def test_a_stale_plan_makes_no_database(fivrec: Fivrec, url: str) -> None:
    assert fivrec.diff("--out", "plan.json").code == 2
    fivrec.write(manifest(described=DESCRIBED))
    refused = apply(fivrec)
    assert (refused.code, refused.one["error"]["code"]) == (3, "stale_plan")
    maintenance = url.rsplit("/", 1)[0] + "/postgres"
    assert rows(maintenance, "SELECT count(*) FROM pg_database WHERE datname = %s", url.rsplit("/", 1)[1]) == [(0,)]
    fivrec.write(manifest())
    assert apply(fivrec).code == 0


def test_no_plan_is_saved_if_an_instance_was_not_compared(fivrec: Fivrec) -> None:
    ended = fivrec.diff("--out", "plan.json", DATABASE_URL="postgresql://nobody@127.0.0.1:1/app")
    assert ended.code == 1
    assert "no plan was saved: 1 instance could not be compared" in ended.stderr
    assert not (fivrec.folder / "plan.json").exists()


def test_a_plan_is_saved_in_a_file_and_not_on_stdout(fivrec: Fivrec) -> None:
    ended = fivrec.diff("--out", "-")
    assert (ended.code, ended.json["error"]["code"]) == (64, "usage")
    assert not (fivrec.folder / "-").exists()
