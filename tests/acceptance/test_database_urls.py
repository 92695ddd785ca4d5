"""Database URLs as people write them: none is printed, and none is tried that libpq reads differently than it looks."""

from __future__ import annotations

import json

import pytest

from tests.support.harness import Ended, Fivrec, manifest

BROKEN = (
    "postgresql://fiv:Pa55@SEKRETtail@db.example:5432/x",
    "postgresql://fiv:Pa55/SEKRETtail@db.example:5432/x",
    "postgresql://fiv:SEKRETtail",
)
SETUP = ("--admin-email", "a@empresa.com", "--admin-password-env", "PW", "--company-name", "E")
COMMANDS = {
    "apply": ("apply", "fivrec.yaml"),
    "apply as JSON": ("apply", "fivrec.yaml", "-o", "json"),
    "diff as markdown": ("diff", "fivrec.yaml", "-o", "markdown"),
    "apply with a JSON log": ("apply", "fivrec.yaml", "--log-format", "json", "-vv"),
    "status": ("status", "fivrec.yaml"),
    "setup": ("setup", "--database-url", "env:DATABASE_URL", "--instance", "a", *SETUP),
    "setup without a name": ("setup", "--database-url", "env:DATABASE_URL", *SETUP),
    "export": ("export", "--database-url", "env:DATABASE_URL", "--instance", "a", "-o", "json"),
    "export --all-databases": ("export", "--database-url", "env:DATABASE_URL", "--all-databases"),
    "fleet status": ("fleet", "status", "--queue-url", "env:DATABASE_URL"),
    "fleet init": ("fleet", "init", "--queue-url", "env:DATABASE_URL"),
}


@pytest.fixture
def offline(bare: Fivrec) -> Fivrec:
    """A manifest whose Connect is never contacted."""
    bare.write(manifest(), "fivrec.yaml")
    bare.env |= {
        "FIVREC_ENCRYPTION_KEY": "A" * 43 + "=",
        "FIV_ADMIN_PASSWORD": "senha-segura",
        "FIV_APP_API_URL": "https://connect.invalid",
        "FIV_APP_API_KEY": "k",
        "PW": "senha-segura",
    }
    return bare


def shows(ended: Ended) -> list[str]:
    """Returns the parts of the broken URLs that appear on stdout or stderr."""
    return [part for part in ("Pa55", "SEKRET", "tail", "db.example") if part in ended.stdout + ended.stderr]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("url", BROKEN)
def test_a_misleading_url_is_refused_and_never_shown(name: str, url: str, offline: Fivrec) -> None:
    ended = offline.run(*COMMANDS[name], DATABASE_URL=url)
    assert (ended.code in (65, 78), shows(ended)) == (True, []), ended.stderr
    assert "the database URL has" in ended.stderr


def test_a_misleading_url_in_a_script_is_never_shown(bare: Fivrec) -> None:
    for url in BROKEN:
        options = f'--database-url="{url}" --admin-email=a@b.example --company-name=E'
        bare.write(f"node setup-new-instance.js {options}", "provision.sh")
        ended = bare.run("init", "-", "--from-setup", "provision.sh")
        assert (ended.code, shows(ended)) == (64, []), ended.stderr


@pytest.mark.parametrize("url", ["https://u:Pa55@SEKRETtail@x.example/h", "https://u:Pa55@x.example:SEKRETtail/h"])
def test_a_misleading_url_for_alerts_is_never_shown(url: str, offline: Fivrec) -> None:
    ended = offline.run("watch", "fivrec.yaml", "--notify-url", url, "-vv", DATABASE_URL="postgresql://u@127.0.0.1:1/a")
    assert (ended.code, shows(ended)) == (64, []), ended.stderr


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u@127.0.0.1:1/d?sslmode=on", 'sslmode "on", which is not one of disable'),
        ("postgresql://u@127.0.0.1:1/d?schema=app", "the parameter schema, which is another tool's"),
        ("postgresql://u@127.0.0.1:1/template1", 'the database "template1", which is PostgreSQL\'s own'),
        ("postgresql://postgres@127.0.0.1:1", 'the database "postgres", which is PostgreSQL\'s own'),
    ],
)
def test_what_no_connection_can_use_is_found_before_one(url: str, said: str, offline: Fivrec) -> None:
    applied = offline.run("apply", "fivrec.yaml", "-o", "json", DATABASE_URL=url)
    assert (applied.code, applied.json["instances"], said in applied.json["error"]["message"]) == (65, [], True)
    made = offline.run("setup", "--database-url", url, *SETUP)
    assert (made.code, said in made.stderr) == (78, True)
    offline.write(manifest().replace("{env: DATABASE_URL}", json.dumps(url)), "fivrec.yaml")
    validated = offline.run("validate", "fivrec.yaml")
    assert (validated.code, said in validated.stdout + validated.stderr) == (65, True)


def test_a_wrong_variable_of_libpq_is_78(offline: Fivrec) -> None:
    ended = offline.run("apply", "fivrec.yaml", DATABASE_URL="postgresql://u@127.0.0.1:1/d", PGSSLMODE="on")
    assert (ended.code, 'PGSSLMODE: sslmode "on", which is not one of' in ended.stderr) == (78, True)
    exported = offline.run("export", "--database-url", "postgresql:///d", "--instance", "a", PGPORT="99999")
    assert (exported.code, 'PGPORT: port "99999", which is not a port' in exported.stderr) == (78, True)


def test_two_urls_that_a_variable_makes_one_database_are_65(offline: Fivrec) -> None:
    for name, url in (("a", "postgresql://u@localhost/app"), ("b", "postgresql://u@/app")):
        text = manifest(name).replace("{env: DATABASE_URL}", json.dumps(url))
        offline.write(text, f"both/{name}.yaml")
    assert offline.run("validate", "both").code == 0
    ended = offline.run("validate", "both", PGHOST="localhost")
    assert (ended.code, "two instances have one database" in ended.stdout + ended.stderr) == (65, True)
    for name, reference in (("a", "A_URL"), ("b", "B_URL")):
        text = manifest(name).replace("{env: DATABASE_URL}", f"{{env: {reference}}}")
        offline.write(text, f"both/{name}.yaml")
    urls = {"A_URL": "postgresql://u@127.0.0.1:1/app", "B_URL": "host=::1 dbname=app"}
    ended = offline.run("diff", "both", PGPORT="1", **urls)
    assert (ended.code, "its database is also that of a" in ended.stderr) == (65, True)
