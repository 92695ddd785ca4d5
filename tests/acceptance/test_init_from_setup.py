"""`init --from-setup`: the seed's command line becomes a manifest, without its secrets."""

from __future__ import annotations

import json

import pytest

from reconciler.cli.init import LOST
from tests.support.harness import PASSWORD, Fivrec, rows

SCRIPT = """\
#!/bin/sh
# made on a Friday
node setup-new-instance.js \\
  --database-url="postgresql://fiv:geheim@db.example.com:5432/fivapp_client-abc-123" \\
  --admin-email="admin@empresa.com" \\
  --admin-password="{password}" \\
  --company-name="Nome da Empresa {{{{ x }}}}"
"""


def test_the_seeds_command_line_becomes_a_manifest_that_applies(fivrec: Fivrec, url: str) -> None:
    fivrec.write(SCRIPT.format(password=PASSWORD), "provision.sh")
    made = fivrec.run("init", "made.yaml", "--from-setup", "provision.sh")
    assert made.code == 0, made.stderr
    text = (fivrec.folder / "made.yaml").read_text()
    assert "geheim" not in text + made.stdout + made.stderr
    assert PASSWORD not in text + made.stdout + made.stderr
    applied = fivrec.run("apply", "made.yaml", "-o", "json")
    assert (applied.code, applied.one["instance"]) == (0, "client-abc-123"), applied.stderr
    assert rows(url, "SELECT value FROM settings") == [("Nome da Empresa {{ x }}",)]
    assert rows(url, "SELECT name FROM queues ORDER BY name") == [("Sales",), ("Technical Support",)]


def test_the_second_clients_command_line_takes_variables_of_its_own(bare: Fivrec) -> None:
    for name in ("one", "two"):
        bare.write(SCRIPT.format(password=PASSWORD).replace("client-abc-123", name), f"{name}.sh")
        made = bare.run("init", f"clients/{name}.yaml", "--from-setup", f"{name}.sh")
        assert made.code == 0, made.stderr
    own = "DATABASE_URL_TWO, FIV_APP_API_KEY_TWO, FIV_ADMIN_PASSWORD_TWO"
    assert made.stderr.splitlines() == [
        f"another manifest there takes DATABASE_URL, so this one takes {own}",
        "set DATABASE_URL_TWO, FIV_APP_API_URL, FIV_APP_API_KEY_TWO and FIV_ADMIN_PASSWORD_TWO for it",
        LOST,
        "clients/two.yaml written, for the instance two; next: fivrec validate clients/two.yaml",
    ]
    rendered = json.loads(bare.run("render", "clients", "-o", "json").stdout)
    assert [
        (
            found["instance"],
            found["manifest"]["database"]["url"],
            found["manifest"]["config"]["instance_key"],
            found["manifest"]["admin"]["password"],
        )
        for found in rendered["instances"]
    ] == [
        ("one", {"env": "DATABASE_URL"}, {"env": "FIV_APP_API_KEY"}, {"env": "FIV_ADMIN_PASSWORD"}),
        ("two", {"env": "DATABASE_URL_TWO"}, {"env": "FIV_APP_API_KEY_TWO"}, {"env": "FIV_ADMIN_PASSWORD_TWO"}),
    ]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("node setup-new-instance.js --admin-email=a@b.c", "--company-name, --database-url"),
        ("node setup-new-instance.js --passwort=geheim", "--passwort is not an option"),
        ("node setup-new-instance.js --admin-email='a", "a quote is not closed"),
    ],
)
def test_from_setup_refuses_other_command_lines(bare: Fivrec, script: str, said: str) -> None:
    bare.write(script, "provision.sh")
    ended = bare.run("init", "made.yaml", "--from-setup", "provision.sh")
    assert ended.code == 64
    assert said in ended.stderr
    assert "geheim" not in ended.stderr
    assert not (bare.folder / "made.yaml").exists()
