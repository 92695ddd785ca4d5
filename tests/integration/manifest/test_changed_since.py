"""--changed-since on real git repositories: which rendered manifests differ; the work tree is left untouched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from reconciler.manifest.changed_since import Changed, Inputs, changed_since
from reconciler.manifest.loader import load_manifests
from reconciler.manifest.selection import select
from reconciler.model.errors import FivrecError, UsageError
from tests.support.company import git


class Repository:
    """A git repository with manifests in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *words: str) -> str:
        return git(self.folder, *words)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "a change")
        return self.git("rev-parse", "HEAD")

    def changed(
        self, since: str, *paths: str, variables: Sequence[str] = (), limit: Sequence[str] = ()
    ) -> tuple[Changed, list[str], list[str]]:
        named = [str(self.folder / path) for path in paths or ("manifests",)]
        now = select(load_manifests(named, variables=variables, environ={}), limit)
        found = changed_since(since, now, Inputs(named, variables, {}, limit))
        return found, [item.instance for item in found.manifests], [item.instance for item in found.gone]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def manifest(name: str, company: str = "Empresa", more: str = "") -> str:
    return f"version: 1\ninstance: {name}\nconfig: {{company_name: {company}}}\n{more}"


def three(repository: Repository) -> str:
    for name in ("a", "b", "c"):
        repository.write(f"manifests/{name}.yaml", manifest(name))
    return repository.commit()


def test_only_what_differs_is_named(repository: Repository) -> None:
    first = three(repository)
    assert repository.changed(first)[1:] == ([], [])
    repository.write("manifests/b.yaml", manifest("b", "Outra"))
    repository.write("manifests/d.yaml", manifest("d"))
    (repository.folder / "manifests/c.yaml").unlink()
    assert repository.changed(first)[1:] == (["b", "d"], ["c"])
    second = repository.commit()
    assert repository.changed(second)[1:] == ([], [])
    assert repository.changed("HEAD~1")[1:] == (["b", "d"], ["c"])
    assert repository.changed("HEAD~1")[0].commit == first


def test_what_renders_the_same_is_unchanged(repository: Repository) -> None:
    first = three(repository)
    repository.write("manifests/a.yaml", "# moved and said otherwise\n" + manifest("a", '"Empresa"'))
    (repository.folder / "manifests/b.yaml").rename(repository.folder / "manifests/renamed.yml")
    assert repository.changed(first)[1:] == ([], [])


def test_a_default_of_a_fleet_changes_those_that_take_it(repository: Repository) -> None:
    fleet = "version: 1\ndefaults: {{config: {{company_name: {}}}}}\ninstances:\n"
    own = "  - {instance: a}\n  - {instance: b, config: {company_name: Own}}\n"
    repository.write("manifests/fleet.yaml", fleet.format("Empresa") + own)
    first = repository.commit()
    repository.write("manifests/fleet.yaml", fleet.format("Outra") + own)
    assert repository.changed(first)[1:] == (["a"], [])


def test_a_row_of_a_csv_changes_its_instance(repository: Repository) -> None:
    fleet = 'version: 1\ndefaults: {config: {company_name: "{{ company }}"}}\ninstances: {csv: data/clients.csv}\n'
    repository.write("fleet.yaml", fleet)
    repository.write("data/clients.csv", "instance,company\na,A\nb,B\nc,C\n")
    first = repository.commit()
    repository.write("data/clients.csv", "instance,company\na,A\nb,Other\nd,D\n")
    assert repository.changed(first, "fleet.yaml")[1:] == (["b", "d"], ["c"])


def test_files_of_variables_are_read_as_they_were(repository: Repository) -> None:
    repository.write("manifests/a.yaml", manifest("a", '"{{ company }}"'))
    variables = repository.write("vars.yaml", "company: Empresa\n")
    first = repository.commit()
    assert repository.changed(first, variables=[f"@{variables}"])[1:] == ([], [])
    repository.write("vars.yaml", "company: Outra\n")
    assert repository.changed(first, variables=[f"@{variables}"])[1:] == (["a"], [])
    assert repository.changed(first, variables=["company=Other"])[1:] == ([], [])


def test_a_limit_applies_to_removed_instances_too(repository: Repository) -> None:
    first = three(repository)
    repository.write("manifests/a.yaml", manifest("a", "Outra"))
    repository.write("manifests/b.yaml", manifest("b", "Outra"))
    (repository.folder / "manifests/c.yaml").unlink()
    assert repository.changed(first, limit=["a"])[1:] == (["a"], [])
    assert repository.changed(first, limit=["!a"])[1:] == (["b"], ["c"])
    repository.write("manifests/d.yaml", manifest("d", "Nova"))
    assert repository.changed(first, limit=["d"])[1:] == (["d"], [])  # no manifest of that time matches


def test_the_work_tree_and_the_index_stay_as_they_are(repository: Repository) -> None:
    first = three(repository)
    repository.write("manifests/a.yaml", manifest("a", "Outra"))
    repository.commit()
    repository.write("manifests/b.yaml", manifest("b", "Staged"))
    repository.git("add", "-A")
    repository.write("manifests/c.yaml", manifest("c", "Unstaged"))
    status, index = repository.git("status", "--porcelain"), repository.folder / ".git/index"
    before = index.stat().st_mtime_ns, index.read_bytes()
    assert repository.changed(first)[1:] == (["a", "b", "c"], [])
    assert (index.stat().st_mtime_ns, index.read_bytes()) == before
    assert repository.git("status", "--porcelain") == status
    assert repository.git("worktree", "list").count("\n") == 0


def test_if_earlier_manifests_were_invalid_all_are_changed(repository: Repository) -> None:
    three(repository)
    repository.write("manifests/b.yaml", "version: 1\ninstance: b\nqeues: []\n")
    broken = repository.commit()
    repository.write("manifests/b.yaml", manifest("b"))
    found, names, gone = repository.changed(broken)
    assert (names, gone) == (["a", "b", "c"], [])
    assert found.unreadable is not None
    assert found.unreadable.startswith("manifests/b.yaml:3:1: ")


def test_a_folder_that_was_not_there_yet_is_all_new(repository: Repository) -> None:
    repository.write("README", "none yet")
    first = repository.commit()
    three(repository)
    assert repository.changed(first)[1:] == (["a", "b", "c"], [])


def test_a_file_can_be_named(repository: Repository) -> None:
    first = three(repository)
    repository.write("manifests/a.yaml", manifest("a", "Outra"))
    repository.write("manifests/b.yaml", manifest("b", "Outra"))
    assert repository.changed(first, "manifests/a.yaml", "manifests/c.yaml")[1:] == (["a"], [])


def test_two_repositories_are_compared_each_with_its_own(tmp_path: Path) -> None:
    one, other = Repository(tmp_path / "one"), Repository(tmp_path / "other")
    for repository, name in ((one, "a"), (other, "b")):
        repository.write("manifests/x.yaml", manifest(name))
        repository.commit()
        repository.git("tag", "deployed")
    other.write("manifests/x.yaml", manifest("b", "Outra"))
    assert one.changed("deployed", "manifests", "../other/manifests")[1:] == (["b"], [])


def test_links_are_followed_within_the_commit_only(repository: Repository, tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text(manifest("a"))
    (repository.folder / "manifests").mkdir()
    (repository.folder / "manifests/a.yaml").symlink_to(outside)
    (repository.folder / "manifests/b.yaml").symlink_to(".shared/b.yaml")
    (repository.folder / "manifests/c.yaml").symlink_to("deep/up/../../../../../../outside.yaml")
    (repository.folder / "manifests/deep").mkdir()
    (repository.folder / "manifests/deep/up").symlink_to("../..")
    repository.write("manifests/.shared/b.yaml", manifest("b"))
    first = repository.commit()
    for link in ("a.yaml", "c.yaml", "deep/up"):  # no current command accepts them
        (repository.folder / "manifests" / link).unlink()
    repository.write("manifests/a.yaml", manifest("a"))
    found, names, gone = repository.changed(first)
    assert found.unreadable is None
    assert (names, gone) == (["a"], [])  # what was outside is unknown: it counts as changed


def hostile_commit(repository: Repository, *entries: tuple[str, str, str]) -> str:
    """Make a commit whose folder `manifests` has entries that git itself would not add, but clones accept."""

    def tree(*entries: tuple[str, str, str]) -> str:
        written = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(found) for mode, name, found in entries)
        words = ["git", "hash-object", "-w", "-t", "tree", "--stdin", "--literally"]
        return (
            subprocess.run(words, input=written, cwd=repository.folder, capture_output=True, check=True)
            .stdout.decode()
            .strip()
        )

    made = tree(("40000", "manifests", tree(*entries)))
    return repository.git("commit-tree", made, "-p", "HEAD", "-m", "hostile")


def test_no_name_of_a_commit_leads_out_of_the_temporary_folder(repository: Repository, tmp_path: Path) -> None:
    three(repository)
    blob = repository.git("rev-parse", "HEAD:manifests/a.yaml")
    outside = tmp_path / "outside"
    outside.mkdir()
    up = "../" * 20
    evil = [("100644", f"{lead}{outside}/{name}.yaml", blob) for lead, name in (("", "x"), (up, "y"), (f"d/{up}", "z"))]
    found = hostile_commit(repository, *evil, ("100644", "a.yaml", blob))
    for path in ("manifests", "", "manifests/a.yaml"):
        assert repository.changed(found, path)[1] == (["b", "c"] if path != "manifests/a.yaml" else [])
    assert list(outside.iterdir()) == []


def test_a_commit_that_no_folder_can_hold_is_named(repository: Repository) -> None:
    three(repository)
    blob = repository.git("rev-parse", "HEAD:manifests/a.yaml")
    folder = repository.git("rev-parse", "HEAD:manifests")
    for entries in (
        (("100644", f"{'x' * 300}.yaml", blob),),
        (("100644", "a.yaml", blob), ("40000", "a.yaml", folder)),
    ):
        with pytest.raises(FivrecError, match="could not be written to a temporary folder"):
            repository.changed(hostile_commit(repository, *entries))


@pytest.mark.parametrize("path", ["current", "current/a.yaml", "a.yaml", "r2/../current"])
def test_a_given_link_is_followed_to_where_it_led_then(path: str, repository: Repository) -> None:
    for release in ("r1", "r2"):
        repository.write(f"{release}/a.yaml", manifest("a", release))
    links = {"current": "r1", "a.yaml": "r1/a.yaml"}
    for name, target in links.items():
        (repository.folder / name).symlink_to(target)
    first = repository.commit()
    for name, target in links.items():
        (repository.folder / name).unlink()
        (repository.folder / name).symlink_to(target.replace("1", "2"))
    second = repository.commit()
    assert repository.changed(first, path)[1:] == (["a"], [])
    assert repository.changed(second, path)[1:] == ([], [])


def test_a_variables_link_is_followed_to_its_target_at_that_time(repository: Repository) -> None:
    repository.write("manifests/a.yaml", manifest("a", '"{{ company }}"'))
    for name in ("one", "two"):
        repository.write(f"{name}.yaml", f"company: {name}\n")
    link = repository.folder / "vars.yaml"
    link.symlink_to("one.yaml")
    first = repository.commit()
    link.unlink()
    link.symlink_to("two.yaml")
    assert repository.changed(first, variables=[f"@{link}"])[1] == ["a"]


def test_a_link_outside_of_the_repository_leads_to_the_same_place(repository: Repository, tmp_path: Path) -> None:
    first = three(repository)
    repository.write("manifests/b.yaml", manifest("b", "Outra"))
    (tmp_path / "link").symlink_to(repository.folder)
    assert repository.changed(first, str(tmp_path / "link/manifests"))[1:] == (["b"], [])


def test_many_files_by_name_are_read_at_once(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [repository.write(f"manifests/m{number}.yaml", manifest(f"m{number}")) for number in range(60)]
    first = repository.commit()
    started = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda words, **more: started.append(words) or run(words, **more))
    names = [str(path.relative_to(repository.folder)) for path in paths]
    assert repository.changed(first, *names)[1:] == ([], [])
    assert len(started) <= 5 + 1


def test_files_are_read_a_bounded_part_at_a_time(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that no loader would read is not read at all."""
    for number in range(9):
        repository.write(f"manifests/m{number}.yaml", manifest(f"m{number}"))
    (repository.folder / "manifests/link.yaml").symlink_to("other.txt")
    repository.write("manifests/other.txt", manifest("linked"))
    first = repository.commit()
    repository.write("manifests/m8.yaml", manifest("m8", "Outra"))
    each = (repository.folder / "manifests/m0.yaml").stat().st_size
    monkeypatch.setattr("reconciler.manifest.git._AT_ONCE", 2 * each)
    read: list[int] = []
    run = subprocess.run

    def noted(words: Sequence[str], **more: Any) -> Any:
        answer = run(words, **more)
        if "--batch" in words:
            read.append(len(answer.stdout))
        return answer

    monkeypatch.setattr(subprocess, "run", noted)
    assert repository.changed(first)[1:] == (["m8"], [])
    assert max(read) < 2 * (each + 60)

    with (repository.folder / "manifests/huge.csv").open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    second = repository.commit()
    (repository.folder / "manifests/huge.csv").unlink()
    read.clear()
    assert repository.changed(second)[1:] == ([], [])
    assert max(read) < 2 * (each + 60)


def test_a_submodule_is_compared_with_its_commit_at_that_time(repository: Repository, tmp_path: Path) -> None:
    three(repository)
    shared = Repository(tmp_path / "shared")
    for name in ("x", "y"):
        shared.write(f"{name}.yaml", manifest(name))
    shared.commit()
    repository.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(shared.folder), "manifests/shared")
    first = repository.commit()
    assert repository.changed(first)[1:] == ([], [])
    inner = Repository(repository.folder / "manifests/shared")
    inner.write("x.yaml", manifest("x", "Outra"))
    inner.commit()
    repository.commit()
    assert repository.changed(first)[1:] == (["x"], [])
    assert repository.changed("HEAD")[1:] == ([], [])


def test_a_named_file_may_have_any_ending(repository: Repository) -> None:
    repository.write("client.txt", manifest("a"))
    first = repository.commit()
    assert repository.changed(first, "client.txt")[1:] == ([], [])


def test_the_environment_of_a_hook_sends_git_nowhere_else(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = three(repository)
    other = Repository(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other.folder / ".git"))
    assert repository.changed(first)[1:] == ([], [])


@pytest.mark.parametrize("older_git", [False, True])
def test_a_folder_that_git_takes_for_a_repository_runs_nothing(
    older_git: bool, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull request can add a repository's files to the manifests, with a configuration that names programs."""
    first, ran = three(repository), tmp_path / "ran"
    repository.write("manifests/HEAD", "ref: refs/heads/other\n")
    repository.write("manifests/objects/kept", "")
    repository.write("manifests/refs/heads/base", "1" * 40)
    repository.write(
        "manifests/config",
        f"[core]\nrepositoryformatversion = 1\nbare = false\nworktree = .\nsshCommand = touch {ran}; false\n"
        '[extensions]\npartialClone = origin\n[remote "origin"]\nurl = ssh://host/path\npromisor = true\n',
    )
    if older_git:  # before 2.38 it does not know the setting
        monkeypatch.setattr("reconciler.manifest.git.NO_BARE", ())
    for revision in ("base", first):
        with pytest.raises(UsageError, match="bare repository") as caught:
            repository.changed(revision)
        assert caught.value.hint == "remove HEAD, objects and refs from it, or choose another folder"
    assert not ran.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_repository_of_somebody_else_says_what_to_do(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    first = three(repository)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(repository.folder))
    for path in (repository.folder, repository.folder / ".git"):
        os.chown(path, 12345, 12345)
    with pytest.raises(UsageError, match="dubious ownership") as caught:
        repository.changed(first)
    assert caught.value.hint == f"git config --global --add safe.directory {repository.folder}"


@pytest.mark.parametrize("revision", ["nothing", "--all", "", "HEAD~99", "HEAD:manifests"])
def test_what_names_no_commit_is_a_usage_error(repository: Repository, revision: str) -> None:
    three(repository)
    with pytest.raises(UsageError, match="names no commit") as caught:
        repository.changed(revision)
    assert caught.value.hint == "name a commit, branch or tag"


def test_a_shallow_clone_says_so(repository: Repository, tmp_path: Path) -> None:
    first = three(repository)
    repository.commit()
    clone = Repository(tmp_path / "clone")
    clone.git("fetch", "-q", "--depth", "1", f"file://{repository.folder}", "main")
    clone.git("checkout", "-q", "FETCH_HEAD")
    with pytest.raises(UsageError) as caught:
        clone.changed(first)
    assert caught.value.hint == "the clone is shallow: fetch more of its history"


def test_outside_of_git_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(manifest("a"))
    now = load_manifests([str(tmp_path)], environ={})
    with pytest.raises(UsageError, match="is in no git repository"):
        changed_since("HEAD", now, Inputs([str(tmp_path)], (), {}))
    with pytest.raises(UsageError, match="which - is not"):
        changed_since("HEAD", now, Inputs(["-"], (), {}))


@pytest.mark.parametrize("digits", [40, 64])
def test_before_a_first_push_all_count_as_changed(repository: Repository, digits: int) -> None:
    three(repository)
    found, changed, gone = repository.changed("0" * digits)
    assert (changed, gone) == (["a", "b", "c"], [])
    assert found.unreadable == "all zeros stand for no commit, as before a branch's first push"
    with pytest.raises(UsageError):
        repository.changed("0" * 12)
