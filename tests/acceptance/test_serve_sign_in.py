"""`fivrec serve --oidc-issuer` as a process, with oidc-provider-mock as its provider; when it refuses to start."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.cli.serve_sign_in import repository_root
from reconciler.model.secret import Secret
from tests.acceptance.test_serve import MANIFEST, SLOW_S, serving
from tests.support.harness import INSTANCE, PASSWORD, Fivrec, manifest
from tests.support.watching import another, until

mock = pytest.importorskip("oidc_provider_mock", reason="NOT TESTED: no oidc-provider-mock")
SECRET = "a-client-secret-that-nobody-prints"


def test_a_person_of_a_group_sees_the_fleet(fivrec: Fivrec) -> None:
    assert fivrec.run("apply", MANIFEST).code == 0
    people = [mock.User(sub="ana", claims={"name": "Ana", "teams": ["ops"]})]
    with mock.run_server_in_thread(user_claims=people) as server:
        issuer = f"http://localhost:{server.server_port}"
        options = (
            "--oidc-issuer", issuer, "--oidc-client-id", "fivrec", "--role", "operator=ops",
            "--oidc-groups-claim", "teams", "--source-url", "https://git.example/acme/blob/main", "--no-checks",
        )  # fmt: skip
        with (
            serving(fivrec, MANIFEST, *options, FIVREC_OIDC_CLIENT_SECRET=SECRET) as (url, _),
            httpx.Client(timeout=SLOW_S) as browser,
        ):
            away = browser.get(f"{url}/sso/login").headers["location"]
            assert away.startswith(f"{issuer}/oauth2/authorize?response_type=code&client_id=fivrec&redirect_uri=")
            back = browser.post(away, data={"sub": "ana"}).headers["location"]
            assert back.startswith(f"{url}/sso/callback?code=")
            assert browser.get(back).status_code == 200

            def found() -> Any:
                return browser.get(f"{url}/fleet/instances").json()

            until(lambda: [(row["instance"], row["read"]) for row in found()] == [(INSTANCE, "readable")])
            assert found()[0]["source"] == f"https://git.example/acme/blob/main/{MANIFEST}#L1"
            assert browser.get(back).status_code == 403


def test_the_page_names_those_that_cannot_be_served(fivrec: Fivrec, make_database: Callable[[], Secret]) -> None:
    """One lacks a secret, one is broken, each with the reason; they are served as soon as possible. The first one's
    database is shown all the same."""
    text = (fivrec.folder / another(fivrec, "lacking", make_database().reveal())).read_text()
    fivrec.write(text.replace("{env: FIV_ADMIN_PASSWORD}", "{file: secret}"), "m/lacking.yaml")
    fivrec.write(PASSWORD, "m/secret")
    assert fivrec.run("apply", MANIFEST, "m/lacking.yaml").code == 0
    (fivrec.folder / "m" / "secret").unlink()
    fivrec.write(manifest("broken", minutes="minutes: 60|minutes: 0"), "m/broken.yaml")
    people = [mock.User(sub="ana", claims={"name": "Ana", "groups": ["ops"]})]
    with mock.run_server_in_thread(user_claims=people) as server:
        issuer = f"http://localhost:{server.server_port}"
        options = (
            "--oidc-issuer", issuer, "--oidc-client-id", "fivrec", "--role", "operator=ops",
            "--source-url", "https://git.example/acme", "--no-checks",
        )  # fmt: skip
        more = {
            "FIVREC_OIDC_CLIENT_SECRET": SECRET,
            "THIRD_URL": "postgresql://u@127.0.0.1:1/third",
        }
        with serving(fivrec, MANIFEST, "m/", *options, **more) as (url, _), httpx.Client(timeout=SLOW_S) as browser:
            away = browser.get(f"{url}/sso/login").headers["location"]
            browser.get(browser.post(away, data={"sub": "ana"}).headers["location"])

            def found() -> dict[str, tuple[Any, ...]]:
                rows = browser.get(f"{url}/fleet/instances?needs=yes").raise_for_status().json()
                named = ((row, row["error"]["code"]) for row in rows)
                return {row["instance"]: (row["read"], row["status"], code, row["source"]) for row, code in named}

            until(lambda: found()["lacking"][0] == "readable")
            assert found() == {
                "broken": ("unreadable", "unknown", "manifest_invalid", "https://git.example/acme/m/broken.yaml#L11"),
                "lacking": ("readable", "active", "missing_setting", "https://git.example/acme/m/lacking.yaml#L1"),
            }
            page = browser.get(url).text
            assert page.count("Not served") == 2
            assert ("must be at least 1: 0" in page, 'action="/instances/lacking/check"' in page) == (True, False)
            fivrec.write(f"{PASSWORD}\n", "m/secret")
            fivrec.write(manifest("broken", url="DATABASE_URL|THIRD_URL"), "m/broken.yaml")
            until(lambda: {name: row[2] for name, row in found().items()} == {"broken": "database_unreachable"})


def test_links_lead_into_the_repository_that_holds_the_manifests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the working directory: a service's is hardly the repository."""
    (tmp_path / "fleet" / ".git").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    manifests = str(tmp_path / "fleet" / "clients")
    assert (repository_root((manifests,)), repository_root(("-",))) == (str(tmp_path / "fleet"), os.getcwd())  # noqa: PTH109


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--oidc-issuer", "http://id.example", "--oidc-client-id", "x", "--role", "viewer=a"), "is not an https URL"),
        (("--oidc-issuer", "https://id.example"), "needs --oidc-client-id and one --role at least"),
        (("--role", "viewer=a"), "--role needs --oidc-issuer"),
        (("--oidc-client-id", "x"), "--oidc-client-id needs --oidc-issuer"),
        (("--source-url", "https://git.example"), "--source-url needs --oidc-issuer"),
        (
            ("--oidc-issuer", "https://id.example", "--oidc-client-id", "x", "--role", "owner=a"),
            "is not viewer=GROUP or operator=GROUP",
        ),
        (
            ("--oidc-issuer", "https://id.example", "--oidc-client-id", "x", "--role", "viewer="),
            "is not viewer=GROUP or operator=GROUP",
        ),
    ],
)
def test_conflicting_options_are_usage_errors(fivrec: Fivrec, options: tuple[str, ...], words: str) -> None:
    done = fivrec.run("serve", MANIFEST, *options, FIVREC_OIDC_CLIENT_SECRET=SECRET)
    assert (done.code, words in done.stderr, SECRET in done.stderr + done.stdout) == (64, True, False)
