"""References of installed packages: the example of docs/secrets.md, installed exactly as written."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.support.harness import ROOT, Fivrec, manifest, rows

PAGE = ROOT / "docs" / "secrets.md"
WORD = "zqOutOfSops7x"
SOPS = """#!/bin/sh
echo "$@" >> "$0.calls"
case "$*" in
*missing*) exit 128 ;;
esac
printf '%s' '{word}'
"""
SETTING = "settings: {locale: pt-BR}|settings: {locale: pt-BR, smtp: {secret: {sops: secrets.enc.yaml#smtp/password}}}"


def install(folder: Path, source: str, points: dict[str, str]) -> None:
    """Install a package as pip would: a module, and the metadata that names its entry points."""
    (folder / "fivrec_sops.py").write_text(source)
    metadata = folder / "fivrec_sops-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fivrec-sops\nVersion: 1\n")
    lines = [f"{name} = {target}" for name, target in points.items()]
    (metadata / "entry_points.txt").write_text("[fivrec.secrets]\n" + "\n".join(lines) + "\n")


@pytest.fixture
def example(fivrec: Fivrec) -> Fivrec:
    text = PAGE.read_text(encoding="utf-8")
    (source,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (table,) = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(source.splitlines()) <= 12
    packages, programs = fivrec.folder / "packages", fivrec.folder / "bin"
    for folder in (packages, programs):
        folder.mkdir()
    install(packages, source, tomllib.loads(table)["project"]["entry-points"]["fivrec.secrets"])
    (programs / "sops").write_text(SOPS.replace("{word}", WORD))
    (programs / "sops").chmod(0o755)
    base = fivrec.environment({})
    fivrec.env |= {"PYTHONPATH": f"{packages}:{base['PYTHONPATH']}", "PATH": f"{programs}:{base['PATH']}"}
    return fivrec


def test_the_documented_example_reads_a_secret(example: Fivrec, url: str) -> None:
    example.write(manifest(s=SETTING))
    done = example.apply()
    assert done.code == 0, done.stderr + done.stdout
    assert rows(url, "SELECT value::text FROM settings WHERE key = 'smtp'") == [(json.dumps(WORD),)]
    called = (example.folder / "bin" / "sops.calls").read_text().splitlines()
    assert called == ['decrypt --extract ["smtp"]["password"] secrets.enc.yaml']
    assert WORD not in done.stdout + done.stderr


def test_a_plugins_own_error_message_is_shown(example: Fivrec) -> None:
    example.write(manifest(s=SETTING.replace("secrets.enc.yaml", "missing.yaml")))
    error = example.apply().json["error"]
    assert error["code"] == "missing_setting"
    assert "config.settings.smtp: sops can't read missing.yaml#smtp/password: sops ended with 128" in error["message"]


def test_another_exceptions_words_are_not_repeated(example: Fivrec) -> None:
    source = f"def fetch(value, folder):\n    raise ValueError('{WORD}')\n"
    (example.folder / "packages" / "fivrec_sops.py").write_text(source)
    example.write(manifest(s=SETTING))
    ended = example.apply()
    assert "sops can't read secrets.enc.yaml#smtp/password: ValueError" in ended.json["error"]["message"]
    assert WORD not in ended.stdout + ended.stderr


def test_a_name_that_no_package_has_is_an_unknown_key(fivrec: Fivrec) -> None:
    fivrec.write(manifest(s=SETTING))
    ended = fivrec.run("validate", "client.yaml")
    assert ended.code == 65
    assert 'unknown key "sops"' in ended.stdout


def test_every_place_of_a_secret_takes_it(example: Fivrec) -> None:
    reference = "{sops: secrets.enc.yaml#x}"
    places = ("{env: DATABASE_URL}", "{env: FIV_APP_API_URL}", "{env: FIV_APP_API_KEY}", "{env: FIV_ADMIN_PASSWORD}")
    example.write(manifest(**{f"p{number}": f"{place}|{reference}" for number, place in enumerate(places)}))
    ended = example.run("validate", "client.yaml")
    assert ended.code == 0, ended.stderr


def test_all_instances_of_a_fleet_take_it_from_the_defaults(example: Fivrec) -> None:
    example.write(
        "version: 1\n"
        "defaults: {config: {instance_key: {sops: secrets.enc.yaml#key}, settings: {smtp: {secret: {sops: a#b}}}}}\n"
        "instances: [{instance: a, database: {url: {env: A}}}, {instance: b, database: {url: {env: B}}}]\n",
        "fleet.yaml",
    )
    ended = example.run("validate", "fleet.yaml")
    assert ended.code == 0, ended.stderr


def test_an_environment_takes_it_in_either_form(example: Fivrec, url: str) -> None:
    sops = example.folder / "bin" / "sops"
    sops.write_text(SOPS.replace("{word}", "production"))
    for form in ("{sops: secrets.enc.yaml#environment}", "{name: {sops: secrets.enc.yaml#environment}}"):
        example.write(manifest(s=f"environment: production|environment: {form}"))
        assert example.run("validate", "client.yaml").code == 0
        assert (example.apply().code, rows(url, "SELECT DISTINCT environment FROM queues")) == (0, [("production",)])
    sops.write_text(SOPS.replace("{word}", "hunter2"))
    ended = example.apply()
    message = ended.json["error"]["message"]
    assert (ended.code, "secrets.enc.yaml#environment of sops names no environment" in message) == (65, True)
    assert "hunter2" not in ended.stdout + ended.stderr
