"""What a plan depends on: the destinations count, but not the login used or the port of a local server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.engine.secrets import build_bound, write_generated_password
from reconciler.model.changes import Create, FieldChange
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectTarget, DatabaseSpec, Desired, Key, Resource
from reconciler.planning.plan import Plan
from tests.support.examples import desired

CONNECT = ConnectTarget("https://connect.fiv-app.com", Secret("key"))


def at(url: str, embedded: str = "", connect: ConnectTarget | None = CONNECT) -> Desired:
    return replace(desired(), database=DatabaseSpec(Secret(url), embedded=embedded), connect=connect)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("postgresql://u:p@h/a", "postgresql://u:p@h/b", False),
        ("postgresql://u:p@h/a", "postgresql://u:p@i/a", False),
        ("postgresql://u:p@h/a", "postgresql://u:p@h:5433/a", False),
        ("postgresql://u:p@h/a", "postgresql://v:rotated@H:5432/a?application_name=x", True),
        ("postgresql://u:p@h/a", "host=h dbname=a user=w", True),
        ("embedded:", "embedded:other", False),
    ],
)
def test_a_database_is_named_by_host_port_and_name(one: str, other: str, *, is_same: bool) -> None:
    assert (build_bound(at(one)) == build_bound(at(other))) is is_same


def test_an_embedded_server_is_the_same_on_any_port() -> None:
    urls = ("embedded:", "postgresql://fivrec@127.0.0.1:40001/a", "postgresql://fivrec@127.0.0.1:40002/a")
    assert len({build_bound(at(url, "embedded:")) for url in urls}) == 1
    assert build_bound(at(urls[1], "embedded:")) != build_bound(at(urls[1], "embedded:other"))


def test_connect_is_named_by_its_address() -> None:
    url = "postgresql://h/a"
    slash, other = replace(CONNECT, api_url=f"{CONNECT.api_url}/"), replace(CONNECT, api_url="https://other.example")
    assert build_bound(at(url)) == build_bound(at(url, connect=slash))
    assert build_bound(at(url)) != build_bound(at(url, connect=other))
    assert build_bound(at(url)).database == build_bound(at(url, connect=None)).database


def test_nothing_of_the_url_is_in_the_names() -> None:
    shown = repr(build_bound(at("postgresql://user:hunter2@host-of-theirs/name-of-it")))
    assert not any(word in shown for word in ("user", "hunter2", "host-of-theirs", "name-of-it"))


@pytest.mark.parametrize("kind", ["admin", "config"])
def test_secrets_generated_at_each_run_do_not_count_as_changed(kind: str) -> None:
    """Such as a password that is not stored yet, or a key that the embedded Connect has yet to issue."""

    def of(word: str, *, new: bool) -> Desired:
        field = "password" if kind == "admin" else "instance_key"
        wanted = desired(Resource(Key(kind, "a"), {field: Secret(word)}))
        if kind == "admin":
            return replace(wanted, generated_new=new)
        return replace(wanted, connect=ConnectTarget("embedded:", Secret(word)), issued_new=new)

    assert build_bound(of("one", new=True)) == build_bound(of("other", new=True))
    assert build_bound(of("one", new=False)) != build_bound(of("other", new=False))


@pytest.mark.parametrize(("new", "stored", "kept"), [(True, True, True), (False, True, False), (True, False, False)])
def test_a_generated_password_is_kept_when_it_is_first_stored(
    new: bool, stored: bool, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Desired] = []
    monkeypatch.setattr("reconciler.manifest.references.write_generated", written.append)
    wanted = replace(desired(), generated="a-file", generated_new=new)
    fields = (FieldChange("password", sensitive=True) if stored else FieldChange("name", None, "Ana"),)
    ana = Resource(Key("admin", "ana@e.com"), {})
    plan = Plan("a", "production", (Create(ana.key, fields, "manifest", "new", ana),))
    note = write_generated_password(plan, wanted)
    assert (written == [wanted], note is not None) == (kept, kept)
