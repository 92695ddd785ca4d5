"""--changed-since as a command: what changed is applied, what was removed is listed and never touched."""

from __future__ import annotations

from tests.support.company import git
from tests.support.harness import Fivrec, fingerprint, manifest

COMPANY = "Nome da Empresa|Outro Nome"


def commit(fivrec: Fivrec) -> str:
    git(fivrec.folder, "add", "client.yaml", *(["other.yaml"] if (fivrec.folder / "other.yaml").exists() else []))
    git(fivrec.folder, "commit", "-q", "-am", "a change")
    return git(fivrec.folder, "rev-parse", "HEAD")


def test_changed_ones_are_applied_and_gone_ones_left_alone(fivrec: Fivrec, url: str) -> None:
    git(fivrec.folder, "init", "-q", "-b", "main")
    first = commit(fivrec)
    assert fivrec.apply().code == 0
    same = fivrec.apply("--changed-since", first)
    assert (same.code, same.json["instances"]) == (0, [])
    assert f"🔎 0 of 1 instances changed since {first[:12]}" in same.stderr

    fivrec.write(manifest(company=COMPANY))
    second = commit(fivrec)
    changed = fivrec.apply("--changed-since", first)
    assert (changed.code, changed.one["outcome"]) == (0, "changed")

    fivrec.write(manifest("other"), "other.yaml")
    (fivrec.folder / "client.yaml").unlink()
    key = {"FIV_APP_API_KEY": "key-of-the-other-0123456789"}
    words = ("connect", "set", "other", "--state", "connect.json", "--key-env", "FIV_APP_API_KEY")
    assert fivrec.run(*words, **key).code == 0
    before = fingerprint(url)
    gone = fivrec.run("diff", ".", "-o", "json", "--changed-since", second, DATABASE_URL=url + "_other", **key)
    found = {item["instance"]: item for item in gone.json["instances"]}
    assert gone.code == 2, gone.stderr
    assert (found["other"]["outcome"], found["client-abc-123"]["outcome"]) == ("changed", "skipped")
    (note,) = found["client-abc-123"]["notes"]
    declared = f"a manifest of {second[:12]} declared it, none does now"
    assert note == f"no longer managed: {declared}; nothing in it was touched"
    assert fingerprint(url) == before


def test_an_invalid_commit_is_a_usage_error(fivrec: Fivrec) -> None:
    git(fivrec.folder, "init", "-q", "-b", "main")
    commit(fivrec)
    ended = fivrec.apply("--changed-since", "nowhere")
    assert (ended.code, ended.json["error"]["code"]) == (64, "usage")
    assert "name a commit, branch or tag" in ended.stderr
