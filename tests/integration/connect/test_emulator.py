"""The emulator as users meet it: with curl's headers, through `fivrec connect`, from several processes at once."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.connect.emulator.state import Instance, state_from_json, state_to_json
from reconciler.connect.emulator.state_file import StateFile, issue_key
from reconciler.model.errors import MissingSetting
from reconciler.model.secret import Secret
from reconciler.support.json_schema.validate import is_valid
from tests.support.connect_running import ConnectServer, make_tls

pytest_plugins = ("tests.support.connect_fixture",)

ROOT = Path(__file__).resolve().parents[3]
INSTANCE = "client-abc-123"
REPORT = {
    "instanceId": INSTANCE,
    "totalUsers": 5,
    "totalConversations": 150,
    "totalClients": 75,
    "totalQueues": 3,
    "activeConversations": 12,
    "environment": "production",
    "lastActivity": "2025-08-29T20:50:00Z",
    "features": {"chat": True},
}


def ask(
    url: str, method: str, path: str, headers: dict[str, str], payload: Any = None, *, ca_file: str | None = None
) -> tuple[int, Any]:
    host = url.split("//")[1]
    if url.startswith("https"):
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, context=ssl.create_default_context(cafile=ca_file), timeout=60
        )
    else:
        connection = http.client.HTTPConnection(host, timeout=60)
    body = payload if payload is None or isinstance(payload, bytes) else json.dumps(payload).encode()
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if content else None


def both(key: str) -> dict[str, str]:
    return {"X-Instance-Key": key, "Authorization": f"Bearer {key}"}


@pytest.fixture
def keyed(connect_server: ConnectServer) -> tuple[ConnectServer, str]:
    return connect_server, connect_server.key(INSTANCE).reveal()


def get(server: ConnectServer, path: str, headers: dict[str, str]) -> tuple[int, Any]:
    return ask(server.url, "GET", path, headers, ca_file=server.ca_file)


STATUS, PLANS = "/api/v1/instances/status", "/api/v1/plans"
DATABASES, USAGE = f"/api/v1/instances/{INSTANCE}/databases", f"/api/v1/instances/{INSTANCE}/usage"
MISSING = (401, {"error": "Missing instance key"})


def test_the_seeds_curl_commands_answer(keyed: tuple[ConnectServer, str]) -> None:
    server, key = keyed
    assert get(server, STATUS, both(key)) == (
        200,
        {
            "instanceId": INSTANCE,
            "status": "active",
            "billingStatus": "paid",
            "enabledFeatures": {"chat": True, "chatbot": True, "ai_agent": False},
        },
    )
    status, plans = get(server, PLANS, {"X-Instance-Key": key})
    assert (status, plans[0]) == (
        200,
        {
            "id": "plan_starter",
            "name": "Starter",
            "description": "Basic plan for small businesses",
            "price": 2900,
            "currency": "BRL",
            "billingInterval": "monthly",
            "features": ["basic_chat", "email_support"],
            "maxUsers": 2,
            "maxConversations": 50,
            "storageLimit": 500,
            "isActive": True,
            "stripeProductId": "prod_starter",
            "stripePriceId": "price_starter",
        },
    )


def test_its_answers_fit_the_schemas(keyed: tuple[ConnectServer, str]) -> None:
    server, key = keyed
    for name, path in (("status", STATUS), ("plans", PLANS), ("databases", DATABASES)):
        status, answer = get(server, path, both(key))
        assert (status, is_valid(f"connect/{name}", answer)) == (200, True)


def test_requests_need_both_headers_of_their_own_instance(keyed: tuple[ConnectServer, str]) -> None:
    server, key = keyed
    other = server.key("other").reveal()
    for path in (STATUS, DATABASES):
        assert get(server, path, {}) == MISSING
        assert get(server, path, {"X-Instance-Key": key}) == MISSING
        assert get(server, path, {"Authorization": f"Bearer {key}"}) == MISSING
        assert get(server, path, {"X-Instance-Key": key, "Authorization": f"Bearer {other}"}) == MISSING
        assert get(server, path, both("wrong")) == MISSING
    assert get(server, PLANS, {}) == MISSING
    assert get(server, PLANS, {"X-Instance-Key": key, "Authorization": "Bearer wrong"}) == MISSING
    assert get(server, DATABASES, both(other))[0] == 403
    nobody = "/api/v1/instances/nobody/databases"
    assert get(server, nobody, both(key)) == (404, {"error": "Instance not configured"})
    assert get(server, "/api/v1/elsewhere", both(key))[0] == 404
    assert ask(server.url, "POST", STATUS, both(key), {}, ca_file=server.ca_file)[0] == 405


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"[" * 100_000,
        [],
        {},
        {**REPORT, "instanceId": "other"},
        {**REPORT, "totalUsers": -1},
        {**REPORT, "totalUsers": True},
        {**REPORT, "environment": "staging"},
        {**REPORT, "lastActivity": 5},
        {**REPORT, "features": {"chat": "yes"}},
        {name: REPORT[name] for name in REPORT if name != "totalQueues"},
    ],
)
def test_a_usage_report_that_is_not_the_seeds_is_refused(payload: Any, keyed: tuple[ConnectServer, str]) -> None:
    server, key = keyed
    assert ask(server.url, "POST", USAGE, both(key), payload, ca_file=server.ca_file)[0] == 400
    assert server.instance(INSTANCE).reports_counted == 0


def test_a_body_that_is_too_large_is_refused(keyed: tuple[ConnectServer, str]) -> None:
    server, key = keyed
    assert ask(server.url, "POST", USAGE, both(key), b" " * 1_100_000, ca_file=server.ca_file)[0] == 413


def test_reports_without_an_idempotency_key_all_count(keyed: tuple[ConnectServer, str]) -> None:
    server, key = keyed
    for _ in range(2):
        assert ask(server.url, "POST", USAGE, both(key), REPORT, ca_file=server.ca_file)[0] == 200
    assert server.instance(INSTANCE).reports_counted == 2


def fivrec(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reconciler", "connect", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def serving(*arguments: str, cwd: Path, **environ: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Yields the URL printed by `connect serve`, and the process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler", "connect", "serve", "--listen", "127.0.0.1:0", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stderr.readline()  # type: ignore[union-attr]
        assert line.startswith("Fi.V Connect emulator on http"), line
        yield line.split()[-1], process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_serve_follows_set_and_ends_on_sigterm_mid_answer(tmp_path: Path) -> None:
    with serving("--instance", INSTANCE, "--key-env", "KEY", cwd=tmp_path, KEY="k-1") as (url, process):
        assert ask(url, "GET", STATUS, both("k-1"))[1]["status"] == "active"
        done = fivrec(
            "set", INSTANCE, "--status", "suspended", "--billing", "overdue", "--feature", "chatbot=false", cwd=tmp_path
        )
        assert (done.returncode, done.stdout) == (
            0,
            "client-abc-123 : status=suspended billing=overdue ai_agent=off chat=on chatbot=off usage_reports=0\n",
        )
        assert ask(url, "GET", STATUS, both("k-1"))[1] == {
            "instanceId": INSTANCE,
            "status": "suspended",
            "billingStatus": "overdue",
            "enabledFeatures": {"chat": True, "chatbot": False, "ai_agent": False},
        }
        fivrec("set", INSTANCE, "--delay", "60s", "--no-plans", cwd=tmp_path)
        hanging = http.client.HTTPConnection(url.split("//")[1], timeout=10)
        hanging.request("GET", STATUS, headers=both("k-1"))
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143  # while the response would take 60 s
        hanging.close()


def test_serve_speaks_tls_with_a_given_certificate(tmp_path: Path) -> None:
    tls = make_tls(tmp_path)
    files = ("--tls-cert", str(tls.cert), "--tls-key", str(tls.key))
    with serving(*files, "--instance", INSTANCE, "--key-env", "KEY", cwd=tmp_path, KEY="k-1") as (url, _):
        assert url.startswith("https://127.0.0.1:")
        assert ask(url, "GET", STATUS, both("k-1"), ca_file=str(tls.ca))[0] == 200


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("serve", "--listen", "0.0.0.0:8443"), 64, "not loopback"),
        (("serve", "--listen", "8443"), 64, "is not HOST:PORT"),
        (("serve", "--listen", "127.0.0.1:0", "--key-env", "KEY"), 64, "--key-env needs --instance"),
        (("serve", "--listen", "127.0.0.1:0", "--instance", "a", "--key-env", "UNSET_"), 78, "UNSET_ holds no key"),
        (("set", "no/id", "--status", "active"), 64, "is not an instance id"),
        (("set", "a", "--fail", "200"), 64, '--fail "200" is not known'),
        (("set", "a", "--delay", "nan"), 64, "is not a time"),
        (("set", "a", "--feature", "chat"), 64, "NAME=true"),
    ],
)
def test_invalid_arguments_are_explained(arguments: tuple[str, ...], code: int, said: str, tmp_path: Path) -> None:
    done = fivrec(*arguments, cwd=tmp_path)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    with serving(cwd=tmp_path) as (url, _):
        done = fivrec("serve", "--listen", url.split("//")[1], cwd=tmp_path)
    assert (done.returncode, "can't listen on" in done.stderr) == (1, True)


def test_show_and_its_json_hold_no_key(tmp_path: Path) -> None:
    fivrec("set", INSTANCE, "--key-env", "KEY", "--fail", "500", "--delay", "500ms", cwd=tmp_path, KEY="canary-key")
    shown = fivrec("show", cwd=tmp_path).stdout
    assert shown == (
        "client-abc-123 : status=active billing=paid ai_agent=off chat=on chatbot=on usage_reports=0"
        "  fail=500  delay=0.5s\nplans: plan_starter, plan_professional, plan_enterprise\n"
    )
    document = json.loads(fivrec("show", "-o", "json", cwd=tmp_path).stdout)
    assert document["instances"][INSTANCE]["fail"] == "500"
    assert "canary" not in json.dumps(document)
    assert (tmp_path / ".fivrec" / "connect.json").stat().st_mode & 0o777 == 0o600


def test_reset_keeps_the_key_and_takes_the_rest_back(tmp_path: Path) -> None:
    fivrec("set", INSTANCE, "--key-env", "KEY", cwd=tmp_path, KEY="k-1")
    before = StateFile(tmp_path / ".fivrec" / "connect.json").read()
    fivrec("set", INSTANCE, "--status", "suspended", "--fail", "html", "--no-plans", cwd=tmp_path)
    fivrec("set", INSTANCE, "--reset", cwd=tmp_path)
    assert StateFile(tmp_path / ".fivrec" / "connect.json").read() == before


def test_plans_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "plans.json").write_text('[{"id": "plan_own"}]')
    (tmp_path / "bad.json").write_text("{}")
    assert fivrec("set", INSTANCE, "--plans-file", "plans.json", cwd=tmp_path).returncode == 0
    assert StateFile(tmp_path / ".fivrec" / "connect.json").read().current_plans() == [{"id": "plan_own"}]
    assert fivrec("set", INSTANCE, "--plans-file", "bad.json", cwd=tmp_path).returncode == 64


def test_a_key_of_another_instance_is_refused(tmp_path: Path) -> None:
    assert fivrec("set", "one", "--key-env", "KEY", cwd=tmp_path, KEY="k-1").returncode == 0
    done = fivrec("set", "two", "--key-env", "KEY", cwd=tmp_path, KEY="k-1")
    assert (done.returncode, "is that of instance one" in done.stderr) == (78, True)


def test_eight_processes_at_once_lose_no_instance(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from reconciler.connect.emulator.state_file import StateFile, issue_key\n"
        "for n in range(10): issue_key(StateFile(Path(sys.argv[1])), f'i-{sys.argv[2]}-{n}')\n"
    )
    path = tmp_path / "connect.json"
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(path), str(number)], cwd=ROOT) for number in range(8)
    ]
    assert [process.wait(60) for process in started] == [0] * 8
    assert len(StateFile(path).read().instances) == 80


def test_the_newest_100_reports_are_kept_and_all_counted() -> None:
    instance = Instance(Secret("k"))
    for number in range(1200):
        instance = instance.count_report(f"r-{number}", {"n": number})
    assert (instance.reports_counted, len(instance.reports)) == (1200, 100)
    assert instance.count_report("r-1199", {}) is instance


def test_a_report_neither_indents_the_state_nor_reads_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """60 instances that report each minute kept the panel busy for 3 seconds per report."""
    file, named = StateFile(tmp_path / "connect.json"), ("a", 'b"é')
    for name in named:
        file.update(lambda state, name=name: state.with_instance(name, Instance(Secret(f"key of {name}"))))
    monkeypatch.setattr(StateFile, "_load", None)
    for number in range(3):
        file.update(
            lambda state, n=number: state.with_instance("a", state.instances["a"].count_report(str(n), {"n": n}))
        )
    monkeypatch.undo()
    assert len(file.path.read_text("utf-8").splitlines()) == len(named) + 2
    assert StateFile(file.path).read() == file.read()
    assert list(file.read().instances["a"].reports) == ["0", "1", "2"]


def test_the_state_outlives_its_file(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "connect.json")
    issue_key(file, INSTANCE)
    assert state_from_json(json.loads(json.dumps(state_to_json(file.read())))) == file.read()


@pytest.mark.parametrize("text", ["", "[]", '{"canary": 1}', '{"plans": null, "instances": {"a": "canary"}}'])
def test_a_file_that_is_no_state_is_78_and_not_quoted(text: str, tmp_path: Path) -> None:
    path = tmp_path / "connect.json"
    path.write_text(text)
    with pytest.raises(MissingSetting) as caught:
        StateFile(path).read()
    assert "canary" not in repr((caught.value.message, caught.value.__cause__))


def test_a_lost_working_directory_is_no_empty_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its embedded Connect said that its folder was not writable, and a served one that each key was missing."""
    (gone := tmp_path / "release").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(MissingSetting) as raised:
        issue_key(StateFile(Path(".fivrec/connect.json")), INSTANCE)
    said = "the working directory is gone, and with it the Connect emulator's state .fivrec/connect.json"
    assert (raised.value.code, raised.value.message) == ("emulator_state", said)
    assert issue_key(StateFile(tmp_path / "connect.json"), INSTANCE).reveal()


def test_a_state_that_can_not_be_read_is_no_answer_of_connects(keyed: tuple[ConnectServer, str]) -> None:
    server, key = keyed
    server.file.path.write_text("no JSON")
    said = f"{server.file.path} is not the state of a Connect emulator"
    assert get(server, PLANS, both(key)) == (503, {"error": said})


def test_a_state_file_that_cannot_be_one_is_named_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    places = {name: tmp_path / name for name in ("link to a pipe", "link to itself", "too deep")}
    places["link to a pipe"].symlink_to(pipe)
    places["link to itself"].symlink_to(places["link to itself"])
    places["too deep"].write_text("[" * 100_000)
    for path in places.values():
        with pytest.raises(MissingSetting) as raised:
            StateFile(path, dry=True).read()
        assert raised.value.code == "emulator_state"
