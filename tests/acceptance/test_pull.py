"""pull: what somebody changed in the database becomes what the manifest declares, and the diff is empty again."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.harness import INSTANCE, Fivrec, manifest, rows, run_sql

STYLED = """\
# Our first client
version: 1
instance: client-abc-123
vars: {company: Nome da Empresa}   # shown on invoices
database:
    url: {env: DATABASE_URL}
environment: production
config:
    connect_api_url: {env: FIV_APP_API_URL}
    instance_key: {env: FIV_APP_API_KEY}
    company_name: "{{ company }}"
    settings:
        locale:   pt-BR   # the language
        opens: '08:30'
admin:
    name: Administrador
    email: admin@empresa.com
    password: {env: FIV_ADMIN_PASSWORD}
queues:
    # first line
    - {name: Technical Support, description: Suporte técnico}
    - name: Sales      # the most important one
    # night shift
    - name: Night
      description: >-
        from ten
        to six
plans:
    source: connect
"""

DRIFT = (
    "UPDATE settings SET value = '\"no\"' WHERE key = 'locale'",
    "UPDATE settings SET value = '\"09:00\"' WHERE key = 'opens'",
    "UPDATE settings SET value = '\"A & {{ b }}\"' WHERE key = 'company_name'",
    "UPDATE users SET name = 'Maria', role = 'agent', password = 'x' WHERE email = 'admin@empresa.com'",
    "UPDATE queues SET description = '0800' WHERE name = 'Technical Support'",
    "UPDATE queues SET is_active = false, description = 'a\u0085b' WHERE name = 'Sales'",
    "DELETE FROM queues WHERE name = 'Night'",
    "UPDATE instance_config SET check_interval_minutes = 15",
    "UPDATE plans SET price = 1 WHERE id = 'plan_starter'",
)

PULLED = """\
--- client.yaml
+++ client.yaml
@@ -8,22 +8,21 @@
 config:
     connect_api_url: {env: FIV_APP_API_URL}
     instance_key: {env: FIV_APP_API_KEY}
-    company_name: "{{ company }}"
+    company_name: "{{ 'A & {' ~ '{ b }' ~ '}' }}"
     settings:
-        locale:   pt-BR   # the language
-        opens: '08:30'
+        locale:   "no"   # the language
+        opens: '09:00'
+    check_interval_minutes: 15
 admin:
-    name: Administrador
+    name: Maria
     email: admin@empresa.com
     password: {env: FIV_ADMIN_PASSWORD}
 queues:
     # first line
-    - {name: Technical Support, description: Suporte técnico}
+    - {name: Technical Support, description: "0800"}
     - name: Sales      # the most important one
+      description: "a\\u0085b"
+      is_active: false
     # night shift
-    - name: Night
-      description: >-
-        from ten
-        to six
 plans:
     source: connect
"""


def test_pull_writes_drift_where_it_is_declared(fivrec: Fivrec, url: str) -> None:
    path = fivrec.write(STYLED)
    assert fivrec.apply().code == 0
    run_sql(url, *DRIFT)
    shown = fivrec.run("pull", "client.yaml")
    assert (shown.code, path.read_text()) == (0, STYLED), shown.stderr
    assert shown.stdout == PULLED + (
        f"! {INSTANCE}: admin/admin@empresa.com/role is left: no key of the manifest declares it\n"
        f"! {INSTANCE}: plan/plan_starter is left: Fi.V Connect declares it, not the manifest\n"
    )
    written = fivrec.run("pull", "client.yaml", "--write")
    assert (written.code, written.stdout) == (0, shown.stdout), written.stderr
    changes = fivrec.diff().one["changes"]
    assert [(one["kind"], one["name"], [field["field"] for field in one["fields"]]) for one in changes] == [
        ("admin", "admin@empresa.com", ["role"]),
        ("plan", "plan_starter", ["price"]),
    ]
    again = fivrec.run("pull", "client.yaml", "--write")
    assert (again.code, again.stdout) == (0, "".join(shown.stdout.splitlines(keepends=True)[-2:]))


def test_what_pull_shows_is_a_patch(fivrec: Fivrec, url: str) -> None:
    path = fivrec.write(STYLED)
    assert fivrec.apply().code == 0
    run_sql(url, *DRIFT)
    shown = fivrec.run("pull", "client.yaml")
    subprocess.run(["patch", "-p0"], cwd=fivrec.folder, input=shown.stdout, text=True, check=True, capture_output=True)
    by_patch = path.read_text()
    path.write_text(STYLED)
    assert fivrec.run("pull", "client.yaml", "--write").code == 0
    assert path.read_text() == by_patch


def test_one_resource_is_chosen_and_the_rest_is_left(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(url, "UPDATE queues SET description = 'x'", "UPDATE users SET name = 'Maria'")
    pulled = fivrec.run("pull", "client.yaml", "--write", "--resource", "queue/Sales", "-o", "json")
    assert pulled.json["pulled"] == [
        {
            "instance": INSTANCE,
            "kind": "queue",
            "name": "Sales",
            "field": "description",
            "action": "set",
            "value": "x",
        }
    ]
    changes = fivrec.diff().changes()
    assert [(kind, name) for kind, name, _, _ in changes] == [
        ("admin", "admin@empresa.com"),
        ("queue", "Technical Support"),
    ]
    assert fivrec.run("pull", "client.yaml", "--resource", "queue").code == 64
    none = fivrec.run("pull", "client.yaml", "--resource", "queue/Slaes")
    assert (none.code, none.stderr) == (0, "⚠️ queue/Slaes: no drift of it was found\n🔎 nothing to pull\n")
    assert fivrec.run("pull", "-", stdin=manifest()).code == 64


def test_another_spelling_of_the_name_is_left_with_its_reason(fivrec: Fivrec, url: str) -> None:
    path = fivrec.write(manifest())
    assert fivrec.apply().code == 0
    run_sql(url, "UPDATE users SET email = 'Admin@empresa.com', name = 'Maria'")
    drift = fivrec.run("drift", "client.yaml", "-o", "json")
    assert [field["field"] for one in drift.one["changes"] for field in one["fields"]] == ["email", "name"]
    pulled = fivrec.run("pull", "client.yaml", "--write")
    assert path.read_text() == manifest(name="name: Administrador|name: Maria")
    said = "it is what the row is known by: write it by hand, or apply to undo it"
    assert pulled.stdout.splitlines()[-1] == f"! {INSTANCE}: admin/admin@empresa.com/email is left: {said}"
    left = fivrec.diff()
    assert left.changes() == [("admin", "admin@empresa.com", "update", "drift")]
    assert [field["field"] for field in left.one["changes"][0]["fields"]] == ["email"]
    assert fivrec.apply().changes() == [("admin", "admin@empresa.com", "update", "drift")]


def test_manifest_changes_not_applied_yet_are_not_drift(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    changed = manifest(name="name: Administrador|name: Chefe", sales="- {name: Sales}|- {name: Vendas}")
    path = fivrec.write(changed)
    run_sql(url, "UPDATE users SET name = 'Maria'", "UPDATE settings SET value = '\"en\"' WHERE key = 'locale'")
    pulled = fivrec.run("pull", "client.yaml", "--write")
    assert (pulled.code, path.read_text()) == (0, changed.replace("locale: pt-BR", "locale: en")), pulled.stderr


def test_a_secret_is_never_pulled(fivrec: Fivrec, url: str) -> None:
    text = manifest().replace("{env: FIV_ADMIN_PASSWORD}", "{env: FIV_ADMIN_PASSWORD}\n  update_password: always")
    path = fivrec.write(text)
    assert fivrec.apply().code == 0
    run_sql(url, "UPDATE users SET password = 'canary-9f2c'", "UPDATE instance_config SET instance_key = 'canary-9f2c'")
    pulled = fivrec.run("pull", "client.yaml", "--write")
    assert (pulled.code, path.read_text()) == (0, text)
    assert "canary-9f2c" not in pulled.stdout + pulled.stderr
    assert pulled.stdout == (
        f"! {INSTANCE}: config/{INSTANCE}/instance_key is left: it is a secret: secrets are never pulled\n"
        f"! {INSTANCE}: admin/admin@empresa.com/password is left: it is a secret: secrets are never pulled\n"
    )


@pytest.mark.parametrize("value", ["[" * 120 + "]" * 120, '{"a": 1, "a": 2}', "1e999"])
def test_json_that_no_manifest_can_hold_is_left(fivrec: Fivrec, url: str, value: str) -> None:
    """Written as text it would be another value: the next apply would replace the app's."""
    path = fivrec.write(manifest())
    assert fivrec.apply().code == 0
    run_sql(url, f"UPDATE settings SET value = '{value}' WHERE key = 'locale'")
    pulled = fivrec.run("pull", "client.yaml", "--write")
    assert (pulled.code, path.read_text()) == (0, manifest())
    assert f"! {INSTANCE}: setting/locale/value is left: it is JSON that no manifest can hold: " in pulled.stdout


def test_a_row_never_becomes_a_reference(fivrec: Fivrec, url: str) -> None:
    """The next apply would write the variable's value into the table, where the app's role reads it."""
    path = fivrec.write(manifest())
    assert fivrec.apply().code == 0
    value = '{"secret": {"env": "FIVREC_ENCRYPTION_KEY"}}'
    run_sql(url, f"UPDATE settings SET value = '{value}' WHERE key = 'locale'")
    pulled = fivrec.run("pull", "client.yaml", "--write")
    assert (pulled.code, path.read_text()) == (0, manifest())
    left = f"! {INSTANCE}: setting/locale/value is left: the manifest would read it as a reference to a secret\n"
    assert pulled.stdout == left


def test_an_unreadable_instance_is_reported(fivrec: Fivrec, url: str) -> None:
    fivrec.apply()
    failed = fivrec.run("pull", "client.yaml", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert (failed.code, failed.stdout) == (1, "")
    assert f"{INSTANCE}: ❌ its drift is not known: database none on 127.0.0.1:1: " in failed.stderr
    assert "nothing to pull" not in failed.stderr


def test_an_instance_never_applied_is_told_what_to_do(fivrec: Fivrec) -> None:
    hint = 'run "fivrec apply" if the instance is new; if not, its data is gone, or database.url points elsewhere'
    pulled = fivrec.run("pull", "client.yaml")
    assert (pulled.code, f"so what others changed can't be told ({hint})" in pulled.stderr) == (1, True)
    (failed,) = fivrec.run("pull", "client.yaml", "-o", "json").json["failed"]
    assert (failed["instance"], failed["code"], failed["hint"]) == (INSTANCE, "database_missing", hint)


@pytest.mark.usefixtures("direct")
def test_a_database_that_is_gone_is_not_without_drift(fivrec: Fivrec, url: str, postgres_url: str) -> None:
    """An instance never applied has no drift; a dropped database must not be reported like that."""
    assert fivrec.apply().code == 0
    name = url.rpartition("/")[2].partition("?")[0]
    run_sql(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)')
    gone = fivrec.run("drift", "client.yaml", "-o", "json")
    assert (gone.code, gone.one["outcome"], gone.one["error"]["code"]) == (1, "failed", "database_missing")
    run_sql(postgres_url, f'CREATE DATABASE "{name}"')
    empty = fivrec.run("drift", "client.yaml", "-o", "json")
    assert (empty.code, empty.one["error"]["code"]) == (1, "instance_not_configured")
    assert empty.one["error"]["message"] == f"nothing was ever applied to {name}, so what others changed can't be told"
    pulled = fivrec.run("pull", "client.yaml")
    assert (pulled.code, "nothing was ever applied" in pulled.stderr) == (1, True)


def test_a_value_that_reads_an_environment_from_a_file_is_pulled(fivrec: Fivrec, url: str) -> None:
    words = "{name: Sales}|{name: Sales, description: 'in {{ environment }}'}"
    fivrec.write(manifest(e="environment: production|environment: {file: environment.txt}", q=words))
    fivrec.write("production\n", "environment.txt")
    assert fivrec.apply().code == 0
    assert rows(url, "SELECT description FROM queues WHERE name = 'Sales'") == [("in production",)]
    run_sql(url, "UPDATE queues SET description = 'by hand' WHERE name = 'Sales'")
    assert fivrec.run("pull", "client.yaml", "--write").code == 0
    assert "{name: Sales, description: 'by hand'}" in (fivrec.folder / "client.yaml").read_text()
    assert fivrec.diff().code == 0
