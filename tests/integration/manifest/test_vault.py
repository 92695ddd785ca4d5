"""{vault: …} against a server that speaks Vault's documented API over TLS: KV 2, AppRole, namespaces."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from reconciler.manifest.loader import load_manifests
from reconciler.manifest.references import Resolution, asks_others, resolve
from reconciler.model.errors import ManifestError, MissingSetting
from reconciler.model.secret import Secret
from reconciler.model.types import Desired
from tests.support.connect_running import make_tls

TOKEN, ISSUED, KEY = "hvs.the-token", "hvs.issued-by-approle", "zqKeyOutOfVault7x"
URL = "postgresql://fivapp:zqPassOutOfVault@127.0.0.1/x"


@dataclass
class Server:
    """`calls` are the requests received, as (method, path, token, namespace). `status` is the response to reads."""

    env: dict[str, str]
    secrets: dict[str, object] = field(default_factory=dict)
    calls: list[tuple[str, str, str, str]] = field(default_factory=list)
    status: int = 200
    body: bytes | None = None

    def answer(self, method: str, path: str, token: str, sent: dict[str, str]) -> tuple[int, object]:
        if (method, path) == ("POST", "/v1/auth/approle/login"):
            if sent == {"role_id": "the-role", "secret_id": "the-secret-id"}:
                return 200, {"auth": {"client_token": ISSUED, "lease_duration": 60}}
            return 400, {"errors": ["invalid role or secret ID"]}
        if path == "/v1/auth/token/revoke-self":
            return 204, None
        if token not in (TOKEN, ISSUED):
            return 403, {"errors": ["permission denied", KEY]}
        name = path.removeprefix("/v1/secret/data/")
        if self.status != 200 or name not in self.secrets:
            return (404, {"errors": []}) if self.status == 200 else (self.status, {"errors": [f"told {KEY}"]})
        return 200, {"data": {"data": self.secrets[name], "metadata": {"version": 3}}}


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Server]:
    files = make_tls(tmp_path)
    server = Server({"VAULT_CACERT": str(files.ca), "VAULT_TOKEN": TOKEN})
    server.secrets["fivapp/a"] = {"key": KEY, "url": URL, "count": 5, "empty": ""}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
            token, space = (self.headers.get(f"X-Vault-{name}") or "" for name in ("Token", "Namespace"))
            server.calls.append((self.command, self.path, token, space))
            status, found = server.answer(self.command, self.path.partition("?")[0], token, sent)
            body = server.body or (b"" if found is None else json.dumps(found).encode())
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 (http.server names it so)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's signature)
            """Stay silent."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    server.env["VAULT_ADDR"] = f"https://127.0.0.1:{httpd.server_port}"
    yield server
    httpd.shutdown()
    httpd.server_close()


MANIFEST = """\
version: 1
instance: {name}
database: {{url: {{vault: "secret/fivapp/a#url"}}}}
environment: development
config:
  connect_api_url: https://connect.example
  instance_key: {{vault: "secret/fivapp/a#key"}}
  settings: {{smtp: {{secret: {{vault: "secret/fivapp/a#{field}"}}}}}}
"""
Run = Callable[..., tuple[Desired, ...]]


@pytest.fixture
def run(vault: Server, tmp_path: Path) -> Run:
    def resolved(*names: str, field: str = "key", **env: str | None) -> tuple[Desired, ...]:
        path = tmp_path / "manifest.yaml"
        path.write_text("---\n".join(MANIFEST.format(name=name, field=field) for name in names or ("a",)))
        environ = {name: value for name, value in {**vault.env, **env}.items() if value is not None}
        needs = frozenset({"database", "connect", "admin"})
        manifests = load_manifests([str(path)], environ=environ)
        return resolve(manifests, needs=needs, environ=environ, resolution=Resolution())

    return resolved


def lines(run: Run, *names: str, **more: str | None) -> list[str]:
    with pytest.raises(MissingSetting) as caught:
        run(*names, **more)
    assert "zq" not in caught.value.message + caught.value.hint
    return caught.value.message.splitlines()


def reads(vault: Server) -> list[str]:
    return [path for method, path, *_ in vault.calls if method == "GET"]


def test_secrets_come_out_of_vault_and_a_path_is_read_once(vault: Server, run: Run) -> None:
    (desired,) = run("a")
    assert desired.database.url == Secret(URL)
    assert desired.connect is not None
    assert desired.connect.instance_key == Secret(KEY)
    (smtp,) = [one for one in desired.managed["setting"].resources if one.key.name == "smtp"]
    assert smtp.fields["value"] == Secret(KEY)
    assert [call[0:1] + call[2:] for call in vault.calls] == [("GET", TOKEN, "")]
    assert desired.document["config"]["instance_key"] == {"vault": "secret/fivapp/a#key"}


def test_the_namespace_is_sent(vault: Server, run: Run) -> None:
    run("a", VAULT_NAMESPACE="team-a")
    assert {call[3] for call in vault.calls} == {"team-a"}


def test_approle_logs_in_once_and_gives_its_token_back(vault: Server, run: Run) -> None:
    run("a", VAULT_TOKEN=None, VAULT_ROLE_ID="the-role", VAULT_SECRET_ID="the-secret-id")
    assert [(method, path.partition("?")[0], token) for method, path, token, _ in vault.calls] == [
        ("POST", "/v1/auth/approle/login", ""),
        ("GET", "/v1/secret/data/fivapp/a", ISSUED),
        ("POST", "/v1/auth/token/revoke-self", ISSUED),
    ]


def test_a_given_token_is_not_revoked(vault: Server, run: Run) -> None:
    run("a")
    assert not [path for _, path, *_ in vault.calls if "revoke" in path]


def test_the_token_file_of_vaults_own_tools_counts(vault: Server, run: Run, tmp_path: Path) -> None:
    (tmp_path / ".vault-token").write_text(TOKEN + "\n")
    (desired,) = run("a", VAULT_TOKEN=None, HOME=str(tmp_path))
    assert desired.database.url == Secret(URL)


def test_openbaos_own_variables_count(vault: Server, run: Run) -> None:
    address, ca = vault.env["VAULT_ADDR"], vault.env["VAULT_CACERT"]
    unset = {"VAULT_ADDR": None, "VAULT_TOKEN": None, "VAULT_CACERT": None}
    (desired,) = run("a", **unset, BAO_ADDR=address, BAO_TOKEN=TOKEN, BAO_CACERT=ca)
    assert desired.database.url == Secret(URL)


def test_all_missing_secrets_are_named_at_once(vault: Server, run: Run) -> None:
    vault.secrets["fivapp/a"] = {"url": URL}
    assert lines(run) == [
        "a: config.instance_key: secret/fivapp/a#key is not in Vault, or empty",
        "a: config.settings.smtp: secret/fivapp/a#key is not in Vault, or empty",
    ]
    vault.secrets.clear()
    assert lines(run)[0] == "a: database.url: secret/fivapp/a#url is not in Vault, or empty"


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"VAULT_TOKEN": "hvs.other"}, "secret/fivapp/a in Vault can't be read: permission denied"),
        ({"VAULT_TOKEN": None}, "there is no token for Vault"),
        ({"VAULT_ADDR": None}, "VAULT_ADDR is not set"),
        ({"VAULT_ADDR": "http://vault.example"}, "VAULT_ADDR uses http:// to another machine; use https://"),
        ({"VAULT_CACERT": None}, "its certificate is not trusted (VAULT_CACERT)"),
        ({"VAULT_ADDR": "https://127.0.0.1:1"}, "secret/fivapp/a in Vault can't be read: no connection"),
        (
            {"VAULT_TOKEN": None, "VAULT_ROLE_ID": "the-role", "VAULT_SECRET_ID": "zq-wrong"},
            "Vault refuses the AppRole's role id or secret id",
        ),
    ],
)
def test_refusals_by_vault_are_explained(env: dict[str, str | None], words: str, run: Run) -> None:
    assert words in lines(run, **env)[0]


@pytest.mark.parametrize(("status", "words"), [(503, "Vault is sealed, or down"), (500, "InternalServerError")])
def test_a_vault_that_is_down_is_asked_once(vault: Server, run: Run, status: int, words: str) -> None:
    vault.status = status
    assert all(words in line for line in lines(run, "a", "b", "c"))
    assert len(reads(vault)) == 1


def test_an_invalid_answer_is_reported(vault: Server, run: Run) -> None:
    vault.body = b'{"data": {"key": "zqKeyOutOfVault7x"}}'
    assert "the answer is not that of a KV 2 engine" in lines(run)[0]


def test_a_number_is_no_secret(run: Run) -> None:
    assert lines(run, field="count") == [
        "a: config.settings.smtp: the field count of secret/fivapp/a in Vault is not text"
    ]
    assert lines(run, field="empty") == ["a: config.settings.smtp: secret/fivapp/a#empty is not in Vault, or empty"]


def test_a_redirect_is_not_followed(vault: Server, run: Run) -> None:
    vault.status = 307
    assert "secret/fivapp/a in Vault can't be read" in lines(run)[0]
    assert len(reads(vault)) == 1


@pytest.mark.parametrize("reference", ["secret#key", "secret/a", "/a#key", "secret/a#"])
def test_a_reference_of_another_form_is_refused(reference: str, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(MANIFEST.format(name="a", field="key").replace("secret/fivapp/a#url", reference))
    with pytest.raises(ManifestError):
        load_manifests([str(path)], environ={})


def test_what_waits_for_a_server_is_resolved_beside_the_loop(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    bare = "version: 1\ninstance: a\ndatabase: {url: {env: X}}\nconfig: {settings: {x: SETTING}}\n"
    waits = []
    for setting in ("plain", "{secret: {env: Y}}", '{secret: {vault: "secret/a#b"}}', "{secret: {command: [pass]}}"):
        path.write_text(bare.replace("SETTING", setting))
        (manifest,) = load_manifests([str(path)], environ={})
        waits.append(asks_others(manifest))
    assert waits == [False, False, True, True]
