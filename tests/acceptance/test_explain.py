"""diff --explain: where each value was declared, what was last applied and by which run, the current value."""

from __future__ import annotations

from typing import Any

from tests.support.harness import Fivrec, manifest, run_sql

DESCRIBED = "  - {name: Sales}|  - {name: Sales, description: Vendas}"


def explained(fivrec: Fivrec, key: str) -> dict[str, Any]:
    ended = fivrec.diff("--explain", key)
    assert ended.code in (0, 2), ended.stderr
    found: dict[str, Any] = ended.one["explained"]
    return found


def test_the_three_way_view_of_a_drifted_queue(fivrec: Fivrec, url: str) -> None:
    text = manifest(described=DESCRIBED)
    fivrec.write(text)
    applied = fivrec.apply()
    assert applied.code == 0
    run_sql(url, "UPDATE queues SET description = 'x' WHERE name = 'Sales'")
    line = text[: text.index("Vendas")].count("\n") + 1
    column = text.splitlines()[line - 1].index("Vendas") + 1
    found = explained(fivrec, "queue/Sales")
    at = found["applied"].pop("at")
    assert at.endswith("Z")
    assert found == {
        "kind": "queue",
        "name": "Sales",
        "declared_by": "manifest",
        "applied": {"run_id": applied.json["run_id"]},
        "live": True,
        "action": "update",
        "cause": "drift",
        "accepted": None,
        "fields": [
            {
                "field": "description",
                "declared": "Vendas",
                "applied": "Vendas",
                "live": "x",
                "origin": f"client.yaml:{line}:{column}",
                "differs": True,
            },
            {
                "field": "is_active",
                "declared": True,
                "applied": True,
                "live": True,
                "origin": "default",
                "differs": False,
            },
        ],
    }
    shown = fivrec.run("diff", "client.yaml", "--explain", "queue/Sales")
    assert shown.code == 2
    assert shown.stdout == (
        "client-abc-123 (production)\n"
        "  queue/Sales: update (drift)\n"
        f"    last applied {at} by run {applied.json['run_id']}\n"
        "    description\n"
        f'      declared  "Vendas"  client.yaml:{line}:{column}\n'
        '      applied   "Vendas"\n'
        '      live      "x"  ← differs\n'
        "    is_active\n"
        "      declared  true  default\n"
        "      applied   true\n"
        "      live      true\n"
    )


def test_origins_of_variables_references_and_connect(fivrec: Fivrec) -> None:
    assert fivrec.apply().code == 0
    (company,) = explained(fivrec, "setting/company_name")["fields"]
    assert (company["declared"], company["origin"]) == ("Nome da Empresa", "client.yaml:12:17 (variable company)")
    assert explained(fivrec, "plan/plan_starter")["fields"][0]["origin"] == "Fi.V Connect: GET /api/v1/plans"
    admin = {field["field"]: field for field in explained(fivrec, "admin/admin@empresa.com")["fields"]}
    assert admin["password"] == {
        "field": "password",
        "origin": "client.yaml:17:13 (environment variable FIV_ADMIN_PASSWORD)",
        "differs": False,
        "sensitive": True,
    }
    assert admin["role"]["origin"] == "fivrec itself"


def test_explain_says_that_undeclared_rows_are_left_alone(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(url, "INSERT INTO queues (name, environment) VALUES ('Own', 'production')")
    own = fivrec.run("diff", "client.yaml", "--explain", "queue/Own")
    assert own.code == 0
    assert "  queue/Own: not declared, left alone\n    never applied\n" in own.stdout
    none = fivrec.run("diff", "client.yaml", "--explain", "queue/None")
    assert "  queue/None: not declared, not there" in none.stdout


def test_before_the_first_apply_nothing_is_live(fivrec: Fivrec) -> None:
    found = explained(fivrec, "queue/Sales")
    assert (found["live"], found["applied"], found["action"], found["cause"]) == (False, None, "create", "new")
    assert [field["origin"] for field in found["fields"]] == ["default", "default"]
    name = fivrec.env["DATABASE_URL"].rsplit("/", 1)[1]
    (database,) = explained(fivrec, f"database/{name}")["fields"]
    assert database["origin"] == "client.yaml:5:8 (environment variable DATABASE_URL)"


def test_explaining_an_invalid_resource_is_a_usage_error(bare: Fivrec) -> None:
    bare.write("version: 1\ninstance: a\n")
    for words in (["queu/Sales"], ["queue"], ["queue/"], ["queue/Sales", "-o", "markdown"]):
        assert bare.run("diff", "client.yaml", "--explain", *words).code == 64
