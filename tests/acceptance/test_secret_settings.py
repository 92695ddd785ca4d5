"""Secret settings: stored as the app reads them, and shown nowhere."""

from __future__ import annotations

import json

import pytest
import yaml

from reconciler.support.crypto.key_files import generate_key
from tests.support.harness import Ended, Fivrec, manifest, rows, run_sql

WORD, OTHER = "zqSmtpWord7x", "zqOtherWord8y"
SECRET = "  settings: {locale: pt-BR}|  settings: {locale: pt-BR, smtp: {secret: {env: SMTP_PASSWORD}}}"
PLAIN = "  settings: {locale: pt-BR}|  settings: {locale: pt-BR, smtp: somebody}"


@pytest.fixture
def applied(fivrec: Fivrec) -> Fivrec:
    fivrec.env["SMTP_PASSWORD"] = WORD
    fivrec.write(manifest(secret=SECRET))
    done = fivrec.apply()
    assert done.code == 0, done.stderr
    hides(done)
    return fivrec


def hides(*ends: Ended) -> None:
    for ended in ends:
        for word in (WORD, OTHER):
            assert word not in ended.stdout + ended.stderr


def change(ended: Ended) -> dict[str, object]:
    (found,) = [item for item in ended.one["changes"] if item["name"] == "smtp"]
    return found


MASKED = [{"field": "value", "sensitive": True}]


def test_a_secret_setting_is_text_known_by_its_fingerprint(applied: Fivrec, url: str) -> None:
    assert rows(url, "SELECT value::text FROM settings WHERE key = 'smtp'") == [(json.dumps(WORD),)]
    ((kept,),) = rows(url, "SELECT fields FROM fivrec.applied WHERE kind = 'setting' AND name = 'smtp'")
    assert kept["sensitive"] is True
    assert kept["value"]["declared"].startswith("hmac:v1:")
    assert set(kept["value"]) == {"declared"}
    audit = rows(url, "SELECT fields FROM fivrec.audit_log WHERE kind = 'setting' AND name = 'smtp'")
    assert audit == [(MASKED,)]
    again = applied.apply()
    assert (again.code, again.one["outcome"]) == (0, "in_sync")


def test_a_changed_secret_is_intent_and_a_changed_row_is_drift(applied: Fivrec, url: str) -> None:
    intent = applied.diff(SMTP_PASSWORD=OTHER)
    assert (intent.code, change(intent)["cause"], change(intent)["fields"]) == (2, "intent", MASKED)
    run_sql(url, f"""UPDATE settings SET value = '"{OTHER}"' WHERE key = 'smtp'""")
    drift = applied.diff()
    assert (drift.code, change(drift)["cause"], change(drift)["fields"]) == (2, "drift", MASKED)
    text = applied.run("diff", "client.yaml", "--explain", "setting/smtp")
    mended = applied.apply()
    assert (mended.code, change(mended)["cause"]) == (0, "drift")
    assert rows(url, "SELECT value::text FROM settings WHERE key = 'smtp'") == [(json.dumps(WORD),)]
    hides(intent, drift, text, mended)


def test_a_number_in_its_place_is_drift(applied: Fivrec, url: str) -> None:
    applied.env["SMTP_PASSWORD"] = "12345"
    assert applied.apply().code == 0
    run_sql(url, "UPDATE settings SET value = '12345' WHERE key = 'smtp'")
    assert applied.apply().changes() == [("setting", "smtp", "update", "drift")]
    assert rows(url, "SELECT value::text FROM settings WHERE key = 'smtp'") == [('"12345"',)]


def test_a_settings_previous_value_is_masked_too(applied: Fivrec, url: str) -> None:
    """A plain row becomes a secret, and a secret a plain row: neither value is shown."""
    applied.write(manifest(plain=PLAIN))
    shown = applied.diff()
    assert change(shown)["fields"] == MASKED
    done = applied.apply()
    hides(shown, done)
    assert rows(url, "SELECT fields FROM fivrec.applied WHERE kind = 'setting' AND name = 'smtp'") == [
        ({"value": "somebody"},)
    ]
    assert applied.apply().one["outcome"] == "in_sync"
    run_sql(url, f"""UPDATE settings SET value = '"{OTHER}"' WHERE key = 'smtp'""")
    applied.write(manifest(secret=SECRET))
    back = applied.apply()
    assert change(back)["fields"] == MASKED
    hides(back)


def test_no_output_holds_the_secret(applied: Fivrec, url: str) -> None:
    run_sql(url, f"""UPDATE settings SET value = '"{OTHER}"' WHERE key = 'smtp'""")
    words = (
        ("diff", "client.yaml", "--out", "saved.plan"),
        ("diff", "client.yaml", "-o", "markdown"),
        ("history", "client.yaml", "-o", "json"),
        ("export", "--database-url", "env:DATABASE_URL", "--instance", "client-abc-123"),
        ("report", "client.yaml", "--out", "report.html"),
        ("status", "client.yaml", "-o", "json"),
    )
    ends = [applied.run(*one) for one in words]
    hides(*ends)
    assert [ended.code for ended in ends] == [2, 2, 0, 0, 0, 0], [ended.stderr for ended in ends]
    for name in ("saved.plan", "report.html"):
        text = (applied.folder / name).read_text()
        assert (WORD in text, OTHER in text) == (False, False)
    exported = yaml.safe_load(ends[3].stdout)
    assert exported["config"]["settings"]["smtp"] == {"secret": {"env": "SETTING_SMTP"}}


def test_a_row_that_looks_like_a_reference_never_becomes_one(applied: Fivrec, url: str) -> None:
    """Otherwise anybody who can write settings could have the next apply read any variable into a row."""
    run_sql(url, """INSERT INTO settings (key, value) VALUES ('odd', '{"secret": {"env": "FIV_APP_API_KEY"}}')""")
    ended = applied.run("export", "--database-url", "env:DATABASE_URL", "--instance", "client-abc-123")
    said = 'setting "odd" is left out: the manifest would read it as a reference to a secret'
    assert (ended.code, said in ended.stderr) == (0, True)
    assert "odd" not in yaml.safe_load(ended.stdout)["config"]["settings"]


def test_a_saved_plan_is_stale_once_the_secret_changed(applied: Fivrec, url: str) -> None:
    run_sql(url, "DELETE FROM settings WHERE key = 'smtp'")
    assert applied.diff("--out", "saved.plan").code == 2
    stale = applied.apply("--plan", "saved.plan", SMTP_PASSWORD=OTHER)
    assert (stale.code, stale.one["error"]["code"]) == (3, "stale_plan")
    assert applied.apply("--plan", "saved.plan").code == 0


def test_rotation_renews_its_fingerprint(applied: Fivrec, url: str) -> None:
    new = generate_key()
    both = f"{new},{applied.env['FIVREC_ENCRYPTION_KEY']}"
    done = applied.run("key", "rotate", "client.yaml", FIVREC_ENCRYPTION_KEY=both)
    assert done.code == 0, done.stderr
    again = applied.apply(FIVREC_ENCRYPTION_KEY=new)
    assert (again.code, again.one["outcome"]) == (0, "in_sync")
    assert change(applied.diff(FIVREC_ENCRYPTION_KEY=new, SMTP_PASSWORD=OTHER))["cause"] == "intent"


def test_a_missing_one_is_named(fivrec: Fivrec) -> None:
    fivrec.write(manifest(secret=SECRET))
    ended = fivrec.apply()
    assert (ended.code, ended.json["error"]["code"]) == (78, "missing_setting")
    assert "config.settings.smtp: the variable SMTP_PASSWORD is not set" in ended.json["error"]["message"]


def test_a_secret_in_the_open_is_refused_and_not_repeated(fivrec: Fivrec) -> None:
    fivrec.write(manifest(secret=f"  settings: {{locale: pt-BR}}|  settings: {{smtp: {{secret: {WORD}}}}}"))
    ended = fivrec.run("validate", "client.yaml")
    assert ended.code == 65
    hides(ended)


def test_a_secret_stays_one_when_the_instance_goes_live(fivrec: Fivrec, url: str) -> None:
    """It belongs to the instance: its declaration under development counts, even if nothing declares it any more."""
    fivrec.env["SMTP_PASSWORD"] = WORD
    development = "environment: production|environment: development"
    kept = "  settings: {locale: pt-BR}|  settings: {locale: pt-BR}\n  former_settings: keep"
    fivrec.write(manifest(a=development, secret=SECRET))
    assert fivrec.apply().code == 0
    fivrec.write(manifest(kept=kept))
    refused = fivrec.apply()
    accept = refused.one["error"]["message"].rpartition("--accept ")[2]
    done = fivrec.apply("--accept", accept)
    exported = fivrec.run("export", "--database-url", "env:DATABASE_URL", "--instance", "client-abc-123")
    explained = fivrec.run("diff", "client.yaml", "--explain", "setting/smtp")
    assert (done.code, exported.code, explained.code) == (0, 0, 0), done.stdout
    assert yaml.safe_load(exported.stdout)["config"]["settings"]["smtp"] == {"secret": {"env": "SETTING_SMTP"}}
    hides(refused, done, exported, explained, fivrec.run("history", "client.yaml", "-o", "json"))
