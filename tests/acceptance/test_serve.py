"""`fivrec serve` and `report` as processes: the three curl commands, TLS, a proxy, refusals, ending by a signal."""

from __future__ import annotations

import html
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.model.secret import Secret
from reconciler.support.crypto.key_files import generate_key
from tests.support.connect_running import make_tls
from tests.support.harness import INSTANCE, PASSWORD, Fivrec, manifest, rows, run_sql
from tests.support.watching import another, receiving, until

MANIFEST = "client.yaml"
SLOW_S = 60
"""How long an answer may take on a busy machine: httpx itself gives up after 5 s."""


@contextmanager
def serving(fivrec: Fivrec, *words: str, **more: str | None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Yields the URL, once ready, and the process; ends it by SIGTERM, which waits for no open stream."""
    more.setdefault("FIVREC_JWT_KEY", generate_key())
    process = fivrec.start("serve", *words, "--listen", "127.0.0.1:0", **more)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if " on http" in line:
            break
    else:
        raise AssertionError("".join(lines))
    try:
        yield line.rpartition(" on ")[2].strip(), process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
        process.stderr.close()
        assert process.stdout is not None
        process.stdout.close()


def ask(method: str, url: str, **more: Any) -> httpx.Response:
    return httpx.request(method, url, timeout=SLOW_S, **more)


def log_in(url: str, **more: Any) -> str:
    body = {"email": "admin@empresa.com", "password": PASSWORD}
    token: str = ask("POST", f"{url}/api/auth/login", json=body, **more).raise_for_status().json()["token"]
    return token


def curl(*words: str) -> Any:
    done = subprocess.run(["curl", "-sS", *words], capture_output=True, text=True, timeout=SLOW_S, check=True)
    return json.loads(done.stdout)


def test_the_seeds_three_curl_commands_answer_as_the_seed_says(fivrec: Fivrec) -> None:
    """Comandos de Diagnóstico: status and plans at Connect, status-logs here."""
    applied = fivrec.run("apply", MANIFEST)
    assert applied.code == 0, applied.stderr
    connect, key, ca = fivrec.env["FIV_APP_API_URL"], fivrec.env["FIV_APP_API_KEY"], fivrec.env["SSL_CERT_FILE"]
    status = curl(
        "--cacert", ca, "-H", f"X-Instance-Key: {key}", "-H", f"Authorization: Bearer {key}",
        f"{connect}/api/v1/instances/status",
    )  # fmt: skip
    assert status == {
        "instanceId": INSTANCE, "status": "active", "billingStatus": "paid",
        "enabledFeatures": {"chat": True, "chatbot": True, "ai_agent": False},
    }  # fmt: skip
    plans = curl("--cacert", ca, "-H", f"X-Instance-Key: {key}", f"{connect}/api/v1/plans")
    assert {plan["id"] for plan in plans} == {"plan_starter", "plan_professional", "plan_enterprise"}
    with serving(fivrec, MANIFEST, "--no-checks") as (url, _):
        logs = curl("-H", f"Authorization: Bearer {log_in(url)}", f"{url}/api/instance/status-logs")
        assert [(row["checkType"], row["success"], row["statusReceived"]) for row in logs] == [
            ("manual", True, "active")
        ]
        bearer = {"Authorization": f"Bearer {log_in(url)}"}
        taken = ask("POST", f"{url}/api/fiv-connect/report-usage", headers=bearer)
        assert (taken.status_code, taken.json()["sent"]) == (200, 1)


def test_alerts_of_a_servers_own_checks_are_posted(fivrec: Fivrec, url: str) -> None:
    """Even an alert left by a manual check, each once; then it is marked."""
    fivrec.run("apply", MANIFEST)
    fivrec.connect_set("--billing", "overdue")
    fivrec.run("check", MANIFEST)
    fivrec.connect_set("--status", "suspended")
    with receiving() as receiver, serving(fivrec, MANIFEST, "--notify-url", receiver.url):
        until(lambda: sorted(receiver.alerts()) == [(INSTANCE, "overdue"), (INSTANCE, "suspended")])
        until(lambda: rows(url, "SELECT 1 FROM fivrec.alert_outbox WHERE sent_at IS NULL") == [])


def test_a_broken_manifest_is_one_alert_of_a_server(fivrec: Fivrec) -> None:
    """It concerns its responses and its checks alike; a manifest broken at the start is one alert too."""
    fivrec.run("apply", MANIFEST)
    fivrec.write("version: 1\ninstance: b\nqueuess: []\n", "m/b.yaml")
    fivrec.env["OTHER_URL"] = "postgresql://u@127.0.0.1:1/other"
    with receiving() as receiver, serving(fivrec, MANIFEST, "m/", "--notify-url", receiver.url):

        def told() -> list[str]:
            return [alert for instance, alert in receiver.alerts() if instance is None]

        for times in (1, 2):
            until(lambda: told()[-1:] == ["manifest_broken"])
            fivrec.write(manifest("b", url="DATABASE_URL|OTHER_URL"), "m/b.yaml")
            until(lambda: told()[-1:] == ["recovered"])
            assert told() == ["manifest_broken", "recovered"] * times
            fivrec.write("version: 1\ninstance: b\nqueuess: []\n", "m/b.yaml")


def test_one_that_lacks_a_secret_keeps_no_other_from_being_served(
    fivrec: Fivrec, make_database: Callable[[], Secret]
) -> None:
    path = fivrec.folder / another(fivrec, "poor", make_database().reveal())
    fivrec.write(path.read_text().replace("{env: FIV_ADMIN_PASSWORD}", "{file: secret}"), "poor/poor.yaml")
    fivrec.write(PASSWORD, "poor/secret")
    assert fivrec.run("apply", MANIFEST, "poor/").code == 0
    (fivrec.folder / "poor" / "secret").unlink()
    with serving(fivrec, MANIFEST, "poor/") as (url, _):
        asked = f"{url}/instances/poor/api/instance/config"
        assert ask("GET", f"{url}/api/instance/config").status_code == 401
        assert ask("GET", asked).status_code == 404
        fivrec.write(PASSWORD, "poor/secret")
        until(lambda: ask("GET", asked).status_code == 401)
    ended = fivrec.run("serve", "poor/", FIVREC_JWT_KEY=generate_key(), KEY_POOR=None)
    assert (ended.code, "KEY_POOR" in ended.stderr) == (78, True)


def test_https_by_a_certificate_of_its_own(fivrec: Fivrec, tmp_path: Path) -> None:
    fivrec.run("apply", MANIFEST)
    (tmp_path / "own").mkdir()
    files = make_tls(tmp_path / "own")
    with serving(fivrec, MANIFEST, "--tls-cert", str(files.cert), "--tls-key", str(files.key)) as (url, _):
        assert url.startswith("https://")
        import ssl

        trust = ssl.create_default_context(cafile=str(files.ca))
        answer = ask("GET", f"{url}/login", verify=trust)
        assert (answer.status_code, "max-age" in answer.headers["strict-transport-security"]) == (200, True)
        entered = ask("POST", f"{url}/login", data={"email": "admin@empresa.com", "password": PASSWORD}, verify=trust)
        assert entered.headers["set-cookie"].startswith("__Host-fivrec=")


def test_only_a_trusted_proxy_says_where_a_call_comes_from(fivrec: Fivrec) -> None:
    fivrec.run("apply", MANIFEST)
    forwarded = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    for words, address in (((), "127.0.0.1"), (("--trust-proxy", "127.0.0.1"), "203.0.113.7")):
        with serving(fivrec, MANIFEST, *words) as (url, _):
            log_in(url, headers=forwarded)
        newest = fivrec.run("history", MANIFEST, "-o", "json").json["instances"][0]
        assert f"(api, {address})" in json.dumps(newest)


@pytest.mark.parametrize(
    ("words", "more", "code"),
    [
        ((), {"FIVREC_JWT_KEY": None}, 78),
        ((), {"FIVREC_JWT_KEY": "short"}, 78),
        (("--listen", "0.0.0.0:0"), {}, 64),
        (("--listen", "127.0.0.1"), {}, 64),
        (("--tls-cert", "x.pem"), {}, 64),
    ],
)
def test_missing_or_unsafe_settings_are_refused_before_serving(
    fivrec: Fivrec, words: tuple[str, ...], more: dict[str, str | None], code: int
) -> None:
    ended = fivrec.run("serve", MANIFEST, *words, **{"FIVREC_JWT_KEY": generate_key(), **more})
    assert (ended.code, "Traceback" in ended.stderr) == (code, False)


def test_with_everything_embedded_a_key_is_created_and_announced(bare: Fivrec) -> None:
    from tests.support.harness import ROOT

    (bare.folder / MANIFEST).write_text((ROOT / "manifests" / "client.yaml").read_text())
    assert bare.run("apply", MANIFEST).code == 0
    for _ in range(2):
        with serving(bare, MANIFEST, FIVREC_JWT_KEY=None) as (url, _process):
            assert ask("GET", f"{url}/healthz").json() == {"status": "ok"}
    key = bare.folder / ".fivrec" / "jwt.key"
    assert (key.stat().st_mode & 0o777, len(key.read_text().strip())) == (0o600, 44)


def test_a_report_is_one_file_with_the_diff_and_no_secret(fivrec: Fivrec) -> None:
    assert fivrec.run("apply", MANIFEST).code == 0
    checks = fivrec.run("logs", MANIFEST, "-o", "json").json["instances"]
    ended = fivrec.run("report", MANIFEST, "--out", "report.html", "--language", "pt")
    assert ended.code == 0, ended.stderr
    text = (fivrec.folder / "report.html").read_text()
    assert INSTANCE in text
    assert "Cadeia verificada" in text
    assert "src=" not in text.replace("style-src", "").replace("script-src", "")
    for secret in (PASSWORD, fivrec.env["FIV_APP_API_KEY"]):
        assert secret not in text
    assert fivrec.run("logs", MANIFEST, "-o", "json").json["instances"] == checks
    for stdout in ("-", "/dev/stdout"):
        ended = fivrec.run("report", MANIFEST, "--out", stdout, "--language", "pt")
        assert (ended.code, ended.stdout[:15], INSTANCE in ended.stdout) == (0, "<!doctype html>", True)


def test_a_report_waits_for_the_timeout_and_names_the_unread(fivrec: Fivrec) -> None:
    """A database that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hole = f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/hole?connect_timeout=60"
        begun = time.monotonic()
        ended = fivrec.run("report", MANIFEST, "--out", "report.html", "--timeout", "1s", DATABASE_URL=hole)
        took = time.monotonic() - begun
    assert (ended.code, ended.stdout) == (1, "")
    assert f"{INSTANCE}: [" in ended.stderr
    assert "no answer within 1 s" in (fivrec.folder / "report.html").read_text()
    assert took < 20  # without the limit it takes that long even on an idle machine


def test_a_report_without_connect_is_not_wholly_green(fivrec: Fivrec) -> None:
    assert fivrec.run("apply", MANIFEST).code == 0
    fivrec.connect_set("--fail", "500")
    ended = fivrec.run("report", MANIFEST, "--out", "report.html")
    text = (fivrec.folder / "report.html").read_text()
    assert (ended.code, "In sync with the manifest." in text) == (5, False)
    assert "No difference in what could be compared." in text
    assert f"{INSTANCE}: [connect_http_error] Fi.V Connect API returned 500" in ended.stderr


def test_a_report_says_that_manifests_are_missing_from_it(fivrec: Fivrec) -> None:
    """The file's readers don't see how the command ended."""
    assert fivrec.run("apply", MANIFEST).code == 0
    (fivrec.folder / "broken.yaml").write_text("version: 1\ninstance: b\nquues: []\n")
    ended = fivrec.run("report", MANIFEST, "broken.yaml", "--out", "report.html")
    text = html.unescape((fivrec.folder / "report.html").read_text())
    assert (ended.code, INSTANCE in text) == (5, True)
    assert "Manifests are broken; what they declare is not shown here:" in text
    assert 'broken.yaml:3:1: b: unknown key "quues" (did you mean "queues"?)' in text


def test_serve_checks_at_its_start_and_follows_connect(fivrec: Fivrec, url: str) -> None:
    """Cronograma de Verificações: a recorded startup check, which locks a suspended instance."""
    assert fivrec.apply().code == 0
    run_sql(url, "UPDATE queues SET description = 'by hand'")
    fivrec.connect_set("--status", "suspended", "--billing", "overdue")
    with serving(fivrec, MANIFEST) as (served, _):
        until(lambda: rows(url, "SELECT is_locked FROM instance_config") == [(True,)])
        checks = "SELECT check_type, success, status_received FROM status_check_logs ORDER BY created_at"
        assert rows(url, checks) == [("manual", True, "active"), ("startup", True, "suspended")]
        logs = ask(
            "GET", f"{served}/api/instance/status-logs", headers={"Authorization": f"Bearer {log_in(served)}"}
        ).json()
        assert logs[0]["statusReceived"] == "suspended"
    assert rows(url, "SELECT DISTINCT description FROM queues") == [("by hand",)]  # nothing else is applied


def test_without_checks_nothing_is_recorded(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    with serving(fivrec, MANIFEST, "--no-checks") as (served, _):
        assert ask("GET", f"{served}/healthz").json() == {"status": "ok"}
        log_in(served)
    assert rows(url, "SELECT check_type FROM status_check_logs") == [("manual",)]


def test_a_changed_manifest_is_served_as_it_is_then(fivrec: Fivrec, url: str) -> None:
    (fivrec.folder / "manifests").mkdir()
    (fivrec.folder / MANIFEST).rename(fivrec.folder / "manifests" / MANIFEST)
    assert fivrec.run("apply", "manifests").code == 0
    second = url.rpartition("/")[0] + f"/{url.rpartition('/')[2]}_b"
    with serving(fivrec, "manifests", "--no-checks", URL_B=second) as (served, process):
        assert ask("GET", f"{served}/instances/b/api/instance/config").status_code == 404
        text = manifest("b", url="url: {env: DATABASE_URL}|url: {env: URL_B}")
        fivrec.write(text, "manifests/b.yaml")
        until(lambda: ask("GET", f"{served}/instances/b/api/instance/config").status_code == 401)
        assert ask("GET", f"{served}/api/instance/config").status_code == 404  # there are two instances now
        fivrec.write("version: 1\ninstance: [", "manifests/b.yaml")
        assert process.stderr is not None
        assert any("manifests/b.yaml" in line for line in process.stderr)
        assert ask("GET", f"{served}/instances/b/api/instance/config").status_code == 401
        (fivrec.folder / "manifests" / "b.yaml").unlink()
        until(lambda: ask("GET", f"{served}/api/instance/config").status_code == 401)


def test_a_login_that_may_not_write_serves_all_the_same(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    reader = f"reader_{url.rpartition('/')[2][-8:]}"
    run_sql(
        url,
        f"CREATE ROLE {reader} LOGIN PASSWORD 'x'",
        f"GRANT USAGE ON SCHEMA public, fivrec TO {reader}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public, fivrec TO {reader}",
    )
    key = {"FIVREC_JWT_KEY": generate_key(), "DATABASE_URL": f"postgresql://{reader}:x@{url.rpartition('@')[2]}"}
    process = fivrec.start("serve", MANIFEST, "--listen", "127.0.0.1:0", **key)
    try:
        assert process.stderr is not None
        said = ""
        while " on http" not in said or "permission denied" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        served = said.partition(" on http")[2].split()[0]
        assert ask("GET", f"http{served}/login").status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        run_sql(url, f"DROP OWNED BY {reader}", f"DROP ROLE {reader}")


def test_a_second_signal_ends_it_without_a_traceback(fivrec: Fivrec) -> None:
    """As with an impatient Ctrl-C, or a service manager that signals the whole group."""
    fivrec.apply()
    process = fivrec.start("serve", MANIFEST, "--no-checks", "--listen", "127.0.0.1:0", FIVREC_JWT_KEY=generate_key())
    assert process.stderr is not None
    assert any(" on http" in line for line in process.stderr)
    for number in (signal.SIGTERM, signal.SIGINT):  # two signals of one kind may merge into one
        process.send_signal(number)
    _, rest = process.communicate(timeout=60)
    assert (process.returncode in (130, 143), rest) == (True, "")
