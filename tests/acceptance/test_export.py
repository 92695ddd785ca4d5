"""Adoption: a whole server becomes manifests, and applying them changes nothing."""

from __future__ import annotations

from pathlib import Path

from reconciler.core.secret import Secret
from tests.acceptance.harness import INSTANCE, Fivrec, manifest


def test_a_whole_server_is_exported_as_a_fleet_and_as_files(
    fivrec: Fivrec, url: str, absent_database: Secret, tmp_path: Path
) -> None:
    assert fivrec.apply().code == 0
    words = ("export", "--database-url", "env:DATABASE_URL", "--all-databases")
    fleet = fivrec.run(*words)
    assert fleet.code == 0, fleet.stderr
    assert f"instance: {INSTANCE}" in fleet.stdout
    fivrec.write(fleet.stdout, "fleet.yaml")
    named = {
        "DATABASE_URL_CLIENT_ABC_123": url,
        "FIV_APP_API_KEY_CLIENT_ABC_123": fivrec.env["FIV_APP_API_KEY"],
    }
    again = fivrec.run("apply", "fleet.yaml", "-o", "json", "-l", INSTANCE, **named)
    assert (again.code, again.one["changes"]) == (0, []), again.stderr
    files = fivrec.run(*words, "--out", "exported")
    assert f"exported/{INSTANCE}.yaml" in files.stdout.split()
    once_more = fivrec.run("diff", f"exported/{INSTANCE}.yaml", "-o", "json", **named)
    assert (once_more.code, once_more.one["changes"]) == (0, [])
    assert fivrec.run(*words, "--out", "exported").code == 3


def test_one_or_all_must_be_said(bare: Fivrec) -> None:
    assert bare.run("export", "--database-url", "embedded:").code == 64


def test_text_that_looks_like_a_template_survives(fivrec: Fivrec) -> None:
    odd = "\"a {{ '{{' }} b {{ '{%' }}\""
    fivrec.write(manifest(queue=f"{{name: Sales}}|{{name: Sales, description: {odd}}}"))
    assert fivrec.apply().code == 0
    exported = fivrec.run("export", "--database-url", "env:DATABASE_URL", "--instance", INSTANCE)
    fivrec.write(exported.stdout)
    again = fivrec.diff()
    assert (again.code, again.one["changes"]) == (0, []), exported.stdout
