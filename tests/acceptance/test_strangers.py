"""Strangers' manifests through the command: what they may reach, and that a dry run creates nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.harness import ROOT, Fivrec

CLIENT = (ROOT / "manifests" / "client.yaml").read_text(encoding="utf-8")
REAL = "postgresql://u@127.0.0.1:1/d"


@pytest.mark.parametrize("command", [("diff",), ("apply", "--check"), ("plans",), ("status",)])
def test_a_dry_run_makes_nothing(command: Sequence[str], bare: Fivrec) -> None:
    bare.write(CLIENT)
    bare.run(*command, "client.yaml")
    assert [path.name for path in bare.folder.iterdir()] == ["client.yaml"]


def test_a_plan_of_a_dry_run_that_made_nothing_can_be_applied(bare: Fivrec) -> None:
    bare.write(CLIENT)
    assert bare.run("diff", "client.yaml", "--out", "plan.json").code == 2
    ended = bare.run("apply", "client.yaml", "--plan", "plan.json", "-o", "json")
    assert (ended.code, ended.one["outcome"]) == (0, "changed")


BOUNDS = {
    "--allow-env": ("OTHER_*", "the variable DATABASE_URL is not one that --allow-env names"),
    "--allow-database": ("db.example", "the database's host is not one that --allow-database names"),
    "--allow-connect": ("panel.example", "Connect's host is not one that --allow-connect names"),
}


@pytest.mark.parametrize("option", BOUNDS)
def test_bounds_hold_before_anything_is_connected(option: str, bare: Fivrec) -> None:
    bare.write(CLIENT)
    bare.env |= {"NODE_ENV": "development", "DATABASE_URL": REAL, "FIV_APP_API_URL": "https://127.0.0.1:1"}
    bare.env |= {"FIV_APP_API_KEY": "key-of-the-instance", "FIVREC_ENCRYPTION_KEY": "A" * 43}
    allowed, words = BOUNDS[option]
    variable = "FIV" + option.removeprefix("-").replace("-", "_").upper().replace("_ALLOW", "REC_ALLOW")
    for by in ({"words": (option, "x", option, allowed)}, {"env": {variable: f"x,{allowed}"}}):
        ended = bare.run("diff", "client.yaml", "-o", "json", *by.get("words", ()), **by.get("env", {}))  # type: ignore[arg-type]
        assert (ended.code, ended.json["instances"]) == (65, [])
        assert words in ended.json["error"]["message"]
    for empty in (bare.run("diff", "client.yaml", option, ""), bare.run("diff", "client.yaml", **{variable: ""})):
        assert (empty.code, "is empty" in empty.stderr) == (64, True)


SECRETS = """\
version: 1
instance: a
environment: development
database: {url: {vault: "secret/fivapp/a#url"}}
config: {connect_api_url: {env: FIV_URL}, instance_key: {vault: "secret/other/../fivapp/a#key"}}
admin: {email: a@empresa.com, password: {plugin: [sops, "x.yaml#p"]}}
"""


@pytest.mark.parametrize("command", ["validate", "render", "diff", "status"])
@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (
            {"FIVREC_ALLOW_ENV": "FIV_*"},
            ["vault:secret/fivapp/a#url", "vault:secret/other/../fivapp/a#key", "sops:x.yaml#p"],
        ),
        ({"FIVREC_ALLOW_SECRET": "vault:secret/*,sops:*"}, ["vault:secret/other/../fivapp/a#key"]),
        (
            {"FIVREC_ALLOW_SECRET": "vault:*#url", "FIVREC_ALLOW_ENV": "*"},
            ["vault:secret/other/../fivapp/a#key", "sops:x.yaml#p"],
        ),
    ],
)
def test_secrets_of_vault_and_packages_are_bounded(
    command: str, given: dict[str, str], refused: list[str], bare: Fivrec
) -> None:
    """Vault is never contacted: VAULT_ADDR is not set, which would end in 78."""
    bare.write(SECRETS)
    ended = bare.run(command, "client.yaml", **given)
    assert ended.code == 65
    said = ended.stdout + ended.stderr
    assert [name for name in refused if f"{name} is not one that --allow-secret names" in said] == refused
    assert said.count("--allow-secret names") == len(refused)


@pytest.mark.parametrize(
    "more", ["hostaddr=10.0.0.1", "host=other.example", "oauth_issuer=https://x&oauth_client_id=x"]
)
def test_every_host_that_a_database_url_leads_to_is_bounded(more: str, bare: Fivrec) -> None:
    bare.write(CLIENT)
    bare.env |= {"NODE_ENV": "development", "DATABASE_URL": f"postgresql://u@db.example/x?{more}"}
    ended = bare.run("diff", "client.yaml", "-o", "json", "--allow-database", "db.example")
    assert (ended.code, ended.json["instances"]) == (65, [])


def test_validate_checks_what_is_written_against_the_bounds(bare: Fivrec) -> None:
    bare.write(CLIENT + "ignore: []\n")
    ended = bare.run("validate", "client.yaml", "--allow-env", "FIV_*", "--allow-env", "DATABASE_URL")
    assert ended.code == 65
    assert ended.stdout.splitlines() == [
        (
            "client.yaml:15:14: client-abc-123: the variable NODE_ENV is not one that --allow-env names "
            "(allowed: FIV_*, DATABASE_URL)"
        )
    ]


def test_a_file_with_a_problem_is_not_reported_as_ok(bare: Fivrec) -> None:
    ended = bare.run("validate", "client.yaml", "--allow-database", "db.example")
    assert (ended.code, ": ok" in ended.stdout) == (65, False)


@pytest.mark.parametrize("command", ["apply", "diff", "check", "status", "logs", "history", "usage", "plans"])
def test_a_default_environment_is_not_for_real_databases(command: str, bare: Fivrec) -> None:
    bare.write(CLIENT)
    ended = bare.run(command, "client.yaml", DATABASE_URL=REAL, FIVREC_ENCRYPTION_KEY="A" * 43)
    assert (ended.code, "environment_unsaid" in ended.stderr) == (78, True)


@pytest.mark.parametrize("command", ["diff", "report"])
def test_no_output_overwrites_a_manifest(command: str, bare: Fivrec) -> None:
    """As `--out *.yaml` would, which the shell makes `--out client.yaml …`."""
    bare.write(CLIENT)
    ended = bare.run(command, "client.yaml", "--out", "client.yaml")
    assert (ended.code, "--out client.yaml would overwrite a manifest" in ended.stderr) == (64, True)
    assert (bare.folder / "client.yaml").read_text(encoding="utf-8") == CLIENT


def test_a_plan_may_be_called_yaml(bare: Fivrec) -> None:
    bare.write(CLIENT)
    codes = [bare.run("diff", "client.yaml", "--out", "plan.yaml", NODE_ENV="development").code for _ in range(2)]
    assert codes == [2, 2]
