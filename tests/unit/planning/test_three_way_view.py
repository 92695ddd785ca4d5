"""explain: declared, applied and live values, with the origin of what is declared."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from reconciler.manifest.loader import load_manifests
from reconciler.model.kinds import KINDS
from reconciler.model.secret import Secret
from reconciler.model.types import Applied, ConnectView, Desired, Ignore, Key, Managed, Resource
from reconciler.planning.plan import build_plan
from reconciler.planning.three_way_view import Explained, ExplainedField, as_json, explain, find_origin
from tests.support.examples import NOON, connect_plan, desired, queue, snapshot

TODAY = date(2026, 10, 1)
SALES = queue("Sales", "Vendas")


def explained(key: Key, wanted: Desired, seen: Any, view: ConnectView | None = None) -> Explained:
    plan = build_plan(wanted, view or ConnectView(), seen, schema_version=1, today=TODAY)
    return explain(key, wanted, plan, seen)


def values(item: Explained) -> dict[str, tuple[Any, Any, Any, bool]]:
    return {field.field: (field.declared, field.applied, field.live, field.differs) for field in item.fields}


def test_a_drifted_row() -> None:
    found = explained(SALES.key, desired(SALES), snapshot(queue("Sales", "x"), last=[SALES]))
    assert (found.declared_by, found.live, found.action, found.cause) == ("manifest", True, "update", "drift")
    assert (found.applied_run, found.applied_at) == ("run-1", NOON)
    assert values(found) == {"description": ("Vendas", "Vendas", "x", True), "is_active": (True, True, True, False)}


def test_a_renamed_row_shows_the_row_that_it_was() -> None:
    renamed = queue("Vendas", "v", renamed_from="Sales")
    found = explained(renamed.key, desired(renamed), snapshot(queue("Sales", "v"), last=[queue("Sales", "v")]))
    assert (found.action, found.live, found.applied_run) == ("update", True, "run-1")
    assert values(found)["description"] == ("v", "v", "v", False)


def test_the_name_that_a_renamed_row_is_to_lose_is_not_left_alone() -> None:
    renamed = queue("Vendas", "v", renamed_from="Sales")
    found = explained(SALES.key, desired(renamed), snapshot(SALES, last=[SALES]))
    assert (found.declared_by, found.live, found.action, found.cause) == (None, True, "update", "intent")
    assert str(found.provenance).endswith("; queue/Vendas from now on")


def test_a_name_is_found_in_either_spelling() -> None:
    declared = queue("cafe\u0301", "c")
    found = explained(Key("queue", "caf\u00e9"), desired(declared), snapshot(queue("cafe\u0301", "x"), last=[declared]))
    assert (found.key, found.live, found.action, found.cause) == (declared.key, True, "update", "drift")


def test_accepted_drift_names_its_reason() -> None:
    wanted = desired(SALES, ignore=(Ignore("queue/Sales/description", "a campaign"),))
    found = explained(SALES.key, wanted, snapshot(queue("Sales", "x"), last=[SALES]))
    assert (found.action, found.accepted and found.accepted.reason) == (None, "a campaign")
    assert values(found)["description"][3] is True


def test_unmanaged_rows_have_no_declaration() -> None:
    found = explained(Key("queue", "Own"), desired(SALES), snapshot(SALES, queue("Own", "o")))
    assert (found.declared_by, found.live, found.action) == (None, True, None)
    assert values(found)["description"] == (None, None, "o", False)


def test_values_declared_by_connect_say_so() -> None:
    view = ConnectView(plans=(connect_plan("p1", price=2900),))
    found = explained(Key("plan", "p1"), desired(plans_from_connect=True), snapshot(), view)
    assert (found.declared_by, found.action) == ("connect", "create")
    assert {field.origin for field in found.fields} == {"Fi.V Connect: GET /api/v1/plans"}


def test_a_secret_is_never_shown() -> None:
    secret = "hunter2-the-secret"
    admin = Resource(Key("admin", "a@e.com"), {"name": "A", "password": Secret(secret), "role": "admin"})
    stored = replace(admin, fields={**admin.fields, "password": Secret("other")})
    found = explained(admin.key, desired(admin), snapshot(stored, last=[admin]))
    (password,) = (field for field in found.fields if field.field == "password")
    assert password == ExplainedField("password", None, None, None, ":0:1", differs=True, sensitive=True)
    assert secret not in json.dumps(as_json(found)) + repr(found)


def test_database_and_schema() -> None:
    wanted = desired()
    seen = replace(snapshot(), schema_version=None, database_exists=False)
    database, schema = explained(Key("database", "app"), wanted, seen), explained(Key("schema", "fivrec"), wanted, seen)
    assert (database.action, database.live, values(database)) == ("create", False, {"name": ("app", None, None, True)})
    assert (schema.action, values(schema)) == ("create", {"version": (1, None, None, True)})


FLEET = """\
version: 1
defaults:
  vars: {region: south}
  config:
    company_name: "{{ company }} {{ region }}"
    connect_api_url: {env: FIV_APP_API_URL, default: "embedded:"}
    settings: {"a/b": 1}
  queues: [{name: Sales, description: "{{ about }}"}]
  environment: "{{ where }}"
instances: {csv: clients.csv}
"""


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        ("config/company_name", "fleet.yaml:5:19 (variable company (clients.csv:2), variable region)"),
        ("config/connect_api_url", "fleet.yaml:6:22 (environment variable FIV_APP_API_URL)"),
        ("config/settings/a~1b", "fleet.yaml:7:23 (defaults)"),
        ("config/check_interval_minutes", "default"),
        ("queues/items/0/description", "fleet.yaml:8:39 (variable about (-e))"),
        ("queues/items/0/is_active", "default"),
        ("environment/name", "fleet.yaml:9:16 (variable where (-e))"),
    ],
)
def test_origins_in_a_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, origin: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fleet.yaml").write_text(FLEET)
    Path("clients.csv").write_text("instance,company\na,Empresa\n")
    (manifest,) = load_manifests(["fleet.yaml"], variables=["about=Vendas", "where=development"], environ={})
    assert find_origin(path, manifest.document, manifest.origin) == origin


def test_every_field_of_every_kind_of_a_manifest_has_a_place(tmp_path: Path) -> None:
    """Every kind can say where its values are declared: a kind that is added must do so too."""
    from tests.support.engine import document

    whole = document(plans={"source": "manifest", "unmanaged": "keep", "items": [{**PLAN_ITEM}]})
    for kind in KINDS:
        managed = kind.from_manifest(whole)
        for resource in managed.resources if managed else ():
            placed = kind.places(whole, resource.key.name)
            assert set(resource.fields) - set(placed) <= {"role"}, resource.key


PLAN_ITEM = {"id": "p1", "name": "P", "price": 1, "billing_interval": "monthly", "features": []}


NIGHT = queue("Night", "n")
ADOPTED = "adopted: it was there before fivrec, or somebody made it again; so it is not taken back"


@pytest.mark.parametrize(
    ("provenance", "tenure", "live", "former", "said"),
    [
        ("created", "declared", "n", "deactivate", "created by fivrec"),
        ("created", "former", "n", "keep", "created by fivrec; its section keeps what is former"),
        ("created", "former", "n", None, "created by fivrec; its section is not declared, so no policy applies"),
        ("created", "former", "x", "keep", "created by fivrec; changed by somebody since, so it is not taken back"),
        ("created", "retired", "n", "keep", "created by fivrec; taken back when nothing declared it any more"),
        ("adopted", "former", "n", "deactivate", ADOPTED),
    ],
)
def test_former_rows_say_why_they_stay(provenance: Any, tenure: Any, live: str, former: Any, said: str) -> None:
    wanted = desired(whole=True)
    wanted = replace(wanted, managed={"queue": Managed((SALES,), former=former)} if former else {})
    last = Applied(NIGHT.fields, "run-1", NOON, provenance, tenure)
    seen = replace(snapshot(SALES, queue("Night", live)), applied={NIGHT.key: last})
    assert explained(NIGHT.key, wanted, seen).provenance == said


def test_a_former_name_says_what_its_row_is_called_now() -> None:
    last = Applied(NIGHT.fields, "run-1", NOON, "adopted", "retired", before={"renamed_to": "Sales"})
    seen = replace(snapshot(SALES), applied={NIGHT.key: last})
    found = explained(NIGHT.key, desired(whole=True), seen)
    assert found.provenance == "renamed to queue/Sales"
