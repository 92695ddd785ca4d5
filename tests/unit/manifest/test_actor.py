"""The name of the person who runs fivrec, for the audit log."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.manifest.actor import find_actor
from tests.support.company import git


@pytest.mark.parametrize(
    ("given", "environ", "name"),
    [
        ("Zé", {"GITHUB_ACTOR": "octo"}, "Zé"),
        (None, {"GITHUB_ACTOR": "", "GITLAB_USER_LOGIN": "ana"}, "ana"),
        (None, {"GITHUB_ACTOR": "octo"}, "octo"),
        ("Z\udce9", {}, r"Z\udce9"),
        (None, {"BUILD_REQUESTEDFOR": "Z\udce9"}, r"Z\udce9"),
    ],
)
def test_the_actor_is_named_in_text_that_can_be_stored(given: str | None, environ: dict[str, str], name: str) -> None:
    assert find_actor(given, ("-",), environ).name == name


def commit_of(folder: Path) -> str | None:
    return find_actor("Zé", (str(folder),), {}).git_commit


def test_the_commit_is_the_one_checked_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a branch, detached, by a ref to a ref, packed, in a separate work tree, in a hook of another repository."""
    top, other = tmp_path / "top", tmp_path / "other"
    for folder in (other, top):
        git(tmp_path, "init", "-q", "-b", "main", str(folder))
        assert commit_of(folder) is None
        git(folder, "commit", "-q", "--allow-empty", "-m", folder.name)
    head = git(top, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert commit_of(top) == head
    monkeypatch.delenv("GIT_DIR")
    git(top, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    git(top, "symbolic-ref", "HEAD", "refs/heads/alias")
    git(top, "worktree", "add", "-q", "--detach", str(tmp_path / "beside"))
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert (commit_of(top), commit_of(tmp_path / "beside")) == (head, head)
    monkeypatch.delenv("GIT_DIR")
    git(top, "symbolic-ref", "HEAD", "refs/heads/main")
    git(top, "pack-refs", "--all")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert commit_of(top) == head


def test_a_commit_that_differs_from_the_manifests_is_marked(tmp_path: Path) -> None:
    """By what is at the paths alone: a report or a plan that a pipeline writes beside them is no manifest."""
    git(tmp_path, "init", "-q", "-b", "main", ".")
    manifests, other = tmp_path / "manifests", tmp_path / "README.md"
    manifests.mkdir()
    one = manifests / "a.yaml"
    for file in (one, other):
        file.write_text("a: 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "One")
    head, ran = git(tmp_path, "rev-parse", "HEAD"), tmp_path / "ran"

    def found() -> str | None:
        return find_actor("Zé", ("-", str(manifests), "/elsewhere"), {}, recorded=True).git_commit

    assert found() == head
    other.write_text("another\n")
    (manifests / "plan.json").write_text("{}")
    assert found() == head
    for change in (lambda: one.write_text("a: 2\n"), one.unlink, lambda: (manifests / "b.yaml").write_text("b: 1\n")):
        git(tmp_path, "checkout", "-q", "manifests")
        change()
        assert (found(), commit_of(manifests)) == (f"{head}-dirty", head)
    git(tmp_path, "config", "core.fsmonitor", f"touch {ran}; true")
    assert (found(), ran.exists()) == (f"{head}-dirty", False)


@pytest.mark.parametrize("content", ["a-key-of-43-characters-in-base64-or-the-like", "ab" * 32])
@pytest.mark.parametrize("how", ["ref", "absolute", "link", "head"])
def test_no_other_file_is_recorded_as_a_commit(content: str, how: str, tmp_path: Path) -> None:
    """A parent folder may be writable for others, as /tmp is: anybody could create a .git there with any content."""
    secret, made = tmp_path / "key", tmp_path / "shared/.git"
    secret.write_text(content)
    (made / "refs/heads").mkdir(parents=True)
    (made.parent / "work").mkdir()
    said = {"ref": "ref: ../../key", "absolute": f"ref: {secret}"}.get(how, "ref: refs/heads/main")
    (made / "HEAD").write_text(said)
    if how == "link":
        (made / "refs/heads/main").symlink_to(secret)
    if how == "head":
        (made / "HEAD").unlink()
        (made / "HEAD").symlink_to(secret)
    assert commit_of(made.parent / "work") is None


def test_a_head_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    os.mkfifo(tmp_path / ".git/HEAD")
    assert commit_of(tmp_path) is None
