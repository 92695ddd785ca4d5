"""The recipes' pipelines: every shell step runs in a real repository; `gh` and `glab` record their calls."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.company import Company, company, readable, register
from tests.support.github_host import GitHub
from tests.support.gitlab_host import GitLab
from tests.support.pipeline_host import SECRETS, Host, Ran

pytestmark = pytest.mark.skipif(shutil.which("jq") is None, reason="SKIPPED: no jq on this machine")

CLIENT = """\
version: 1
instance: {name}
environment: {{env: NODE_ENV, default: development}}
database: {{url: "{url}"}}
config:
  connect_api_url: {{env: FIV_APP_API_URL}}
  instance_key: {{file: "{keys}/{{{{ instance }}}}"}}
  company_name: {company}
admin:
  email: admin@{name}.com
  password: {{env: FIV_ADMIN_PASSWORD}}
queues:
  - {{name: Sales, description: Vendas}}
plans: {{source: connect}}
"""
NAME = "SELECT value FROM settings WHERE key = 'company_name'"
SALES = "UPDATE queues SET description = 'x' WHERE name = 'Sales' RETURNING description"


@pytest.fixture
def firm(tmp_path: Path, postgres_url: str, fresh_name: Callable[[], str]) -> Iterator[Company]:
    with company(tmp_path, postgres_url, fresh_name()) as made:
        register(made, "alfa", "beta")
        write(made, "alfa", "Antes")
        write(made, "beta", "Antes")
        made.desk.push("main", "Two clients")
        made.pipeline.checkout("main")
        first = made.pipeline.fivrec.run("apply", "manifests/", NODE_ENV="production")
        assert first.code == 0, first.stderr
        yield made


@pytest.fixture(params=[GitHub, GitLab], ids=["github", "gitlab"])
def host(request: pytest.FixtureRequest, firm: Company, tmp_path: Path) -> Host:
    made: Host = request.param(firm, tmp_path / "host")
    return made


def write(firm: Company, name: str, company_name: str) -> None:
    text = CLIENT.format(name=name, url=firm.database_url(), keys=firm.keys, company=company_name)
    firm.desk.write(f"manifests/{name}.yaml", text)


def propose(firm: Company, branch: str, **companies: str) -> str:
    """Push a pull request's branch that starts from main. Returns its head."""
    firm.desk.start()
    for name, company_name in companies.items():
        write(firm, name, company_name)
    firm.desk.push(branch, f"Branch {branch}")
    return firm.desk.git("rev-parse", "HEAD")


def names(host: Host) -> list[object]:
    return [host.company.rows(instance, NAME)[0][0] for instance in ("alfa", "beta")]


def comment(host: Host) -> str:
    """Returns the only comment of all pull requests."""
    (found,) = host.state["comments"]
    return readable(found["body"])


def jobs(host: Host, github: str, gitlab: str) -> dict[str, int]:
    """Parses `review apply=5`: the expected jobs with their exit codes."""
    words = (github if isinstance(host, GitHub) else gitlab).split()
    return {name: int(code or 0) for name, _, code in (word.partition("=") for word in words)}


def test_the_plan_that_was_reviewed_is_applied(host: Host) -> None:
    head = propose(host.company, "rename", alfa="Depois")
    reviewed = host.pull("rename", number=1)
    assert reviewed.ends == jobs(host, "validate review", "validate review comment"), reviewed.output
    assert comment(host).startswith("<!-- fivrec diff -->\n### 📝 fivrec diff: 1 change; 2 instances\n")
    assert comment(host).endswith(f"For commit {head}.\n")
    assert names(host) == ["Antes", "Antes"]
    merged = host.merge("rename")
    assert merged.ends == jobs(host, "apply", "fetch apply"), merged.output
    assert names(host) == ["Depois", "Antes"]
    assert "alfa : ok=11 changed=1 " in merged.output
    assert "alfa : ok=11 changed=0 " in merged.output  # the full apply after it


def test_a_comment_is_replaced_in_each_case(host: Host) -> None:
    propose(host.company, "work", alfa="Depois")
    assert set(host.pull("work", number=1).ends.values()) == {0}
    assert "📝 fivrec diff: 1 change" in comment(host)

    host.company.desk.write("manifests/alfa.yaml", "version: 1\ninstance: alfa\nqeues: []\n")
    host.company.desk.push("work", "A typing error")
    assert host.pull("work", number=1).ends == jobs(host, "validate=65 review=65", "validate=65 review=65 comment")
    assert "❌ fivrec diff: failed, no instance was tried" in comment(host)
    assert 'did you mean "queues"' in comment(host)

    host.company.desk.start()
    host.company.desk.write("NOTES.md", "No manifest is changed any more.\n")
    host.company.desk.push("work", "Taken back")
    head = host.company.desk.git("rev-parse", "HEAD")
    assert set(host.pull("work", number=1).ends.values()) == {0}
    assert "✅ fivrec diff: in sync; 2 instances" in comment(host)
    assert comment(host).endswith(f"For commit {head}.\n")

    host.secrets["FIV_ADMIN_PASSWORD"] = ""
    assert 78 in host.pull("work", number=1).ends.values()
    assert "the variable FIV_ADMIN_PASSWORD is not set" in comment(host)

    host.break_install(broken=True)
    assert 1 in host.pull("work", number=1).ends.values()
    said = "### ❌ fivrec could not run\n\nThe log of the job `review` says why."
    assert comment(host) == f"<!-- fivrec diff -->\n{said}\n\n\nFor commit {head}.\n"


def test_a_merge_queue_gets_the_check_that_it_waits_for(firm: Company, tmp_path: Path) -> None:
    host = GitHub(firm, tmp_path / "host")
    head = propose(firm, "one", alfa="Um")
    firm.pipeline.checkout("one")
    assert "merge_group" in host.document[True]
    assert host.run("queue", head, 1).ends == {"validate": 0}
    group = host.document["jobs"]["validate"]["concurrency"]["group"]
    assert "github.event.pull_request.number || github.ref" in group


def test_a_removed_manifest_is_named_in_the_comment(firm: Company, tmp_path: Path) -> None:
    host = GitHub(firm, tmp_path / "host")
    firm.desk.start()
    firm.desk.git("rm", "--quiet", "manifests/beta.yaml")
    firm.desk.push("leave", "Beta leaves")
    head = firm.desk.git("rev-parse", "HEAD")
    firm.pipeline.checkout("leave")
    assert host.run("pull", head, 1).ends == {"validate": 0, "review": 0}
    assert "`beta` is no longer managed; nothing in it is touched." in comment(host)
    assert "alfa` is no longer" not in comment(host)


def test_changes_without_review_are_not_applied(host: Host) -> None:
    propose(host.company, "unseen", alfa="Depois")
    merged = host.merge("unseen")
    assert 1 in merged.ends.values()
    assert "No reviewed plan for" in merged.output
    assert names(host) == ["Antes", "Antes"]
    planned = host.on_main("hand")
    assert planned.ends == jobs(host, "plan apply", "review apply"), planned.output
    assert names(host) == ["Depois", "Antes"]


def test_a_stale_plan_stops_says_what_moved_and_is_made_again(host: Host) -> None:
    propose(host.company, "rename", alfa="Depois")
    assert set(host.pull("rename", number=1).ends.values()) == {0}
    host.company.rows("beta", SALES)
    merged = host.merge("rename")
    assert merged.ends["apply"] in (3, 5), merged.output
    assert "queue/Sales: update is needed now and was not planned" in merged.output
    assert "for a new plan;" in merged.output
    assert host.company.rows("beta", "SELECT description FROM queues") == [("x",)]
    planned = host.on_main("hand")
    assert set(planned.ends.values()) == {0}, planned.output
    assert (names(host), host.company.rows("beta", "SELECT description FROM queues")) == (
        ["Depois", "Antes"],
        [("Vendas",)],
    )


def test_a_run_by_hand_that_is_repeated_later_takes_nothing_back(firm: Company, tmp_path: Path) -> None:
    """GitHub re-runs the old commit; GitLab itself prevents outdated deployments, by the settings named in the
    recipe."""
    host = GitHub(firm, tmp_path / "host")
    old = firm.desk.git("rev-parse", "origin/main")
    assert set(host.on_main("hand").ends.values()) == {0}
    propose(firm, "rename", alfa="Depois")
    host.pull("rename", number=1)
    assert set(host.merge("rename").ends.values()) == {0}
    firm.pipeline.clone.git("checkout", "-q", "--detach", old)
    repeated = host.run("hand", old, 0, attempt=2)
    assert repeated.ends == {"plan": 0, "apply": 1}, repeated.output
    assert "main has moved on since" in repeated.output
    assert names(host) == ["Depois", "Antes"]


def test_a_failed_merge_run_again_brings_back_nothing_reverted(firm: Company, tmp_path: Path) -> None:
    """The plan still fits: the databases are as they were when it was made."""
    host = GitHub(firm, tmp_path / "host")
    propose(firm, "rename", alfa="Depois")
    host.pull("rename", number=1)
    firm.let_in("alfa", allowed=False)
    failed = host.merge("rename")
    assert failed.ends == {"apply": 1}, failed.output
    merged = firm.desk.git("rev-parse", "origin/main")
    firm.let_in("alfa", allowed=True)
    firm.pipeline.clone.git("checkout", "-q", "--detach", merged)
    propose(firm, "revert", alfa="Antes")
    host.pull("revert", number=2)
    assert host.merge("revert").ends == {"apply": 0}
    firm.pipeline.clone.git("checkout", "-q", "--detach", merged)
    repeated = host.run("merge", merged, 0, attempt=2)
    assert repeated.ends == {"apply": 1}, repeated.output
    assert "main has moved on since" in repeated.output
    assert names(host) == ["Antes", "Antes"]


def test_a_merge_that_failed_is_run_again(firm: Company, tmp_path: Path) -> None:
    host = GitHub(firm, tmp_path / "host")
    propose(firm, "rename", alfa="Depois")
    host.pull("rename", number=1)
    firm.let_in("alfa", allowed=False)
    assert host.merge("rename").ends == {"apply": 1}
    firm.let_in("alfa", allowed=True)
    repeated = host.run("merge", host.clone_at("main"), 0, attempt=2)
    assert repeated.ends == {"apply": 0}, repeated.output
    assert names(host) == ["Depois", "Antes"]


def test_a_guarded_plan_is_applied_by_hand_with_its_digest(host: Host) -> None:
    hand = "INSERT INTO queues (name, environment) VALUES ('Hand', 'production') RETURNING name"
    host.company.rows("alfa", hand)
    host.company.desk.start()
    text = (host.company.desk.folder / "manifests/alfa.yaml").read_text()
    removing = "queues:\n  unmanaged: remove\n  items:\n"
    host.company.desk.write("manifests/alfa.yaml", text.replace("queues:\n", removing))
    host.company.desk.push("less", "No other queues")
    assert set(host.pull("less", number=1).ends.values()) == {0}
    (digest,) = re.findall(r"apply refuses this; if it is meant: --accept (\w+)", comment(host))
    refused = host.merge("less")
    assert refused.ends == jobs(host, "apply=3", "fetch apply=3"), refused.output
    assert "if a guard refused this one and it is meant, with the guard's digest as" in refused.output
    host.accept = digest
    accepted = host.on_main("hand")
    assert accepted.ends == jobs(host, "plan apply", "review apply"), accepted.output
    assert host.company.rows("alfa", "SELECT name FROM queues") == [("Sales",)]


def test_a_failed_run_is_healed_by_the_next_one(host: Host) -> None:
    propose(host.company, "rename", alfa="Depois", beta="Depois")
    assert set(host.pull("rename", number=1).ends.values()) == {0}
    host.company.let_in("beta", allowed=False)
    failed = host.merge("rename")
    assert failed.ends["apply"] == 5, failed.output
    host.company.let_in("beta", allowed=True)
    assert names(host) == ["Depois", "Antes"]

    propose(host.company, "other", alfa="Outra")
    assert set(host.pull("other", number=2).ends.values()) == {0}
    assert "beta" in readable(host.state["comments"][-1]["body"])
    healed = host.merge("other")
    assert set(healed.ends.values()) == {0}, healed.output
    assert names(host) == ["Outra", "Depois"]


def test_a_fork_gets_no_secret_and_stores_no_plan_that_counts(host: Host) -> None:
    head = propose(host.company, "stranger", alfa="Depois")
    ran = host.pull("stranger", number=1, fork=True)
    assert ran.ends == {"validate": 0}
    assert [step.secrets for step in ran.jobs["validate"]] == [()] * len(ran.jobs["validate"])
    if isinstance(host, GitHub):
        host.change(artifacts={"name": f"fivrec-plan-{head}", "run": 50, "folder": str(host.folder), "fork": True})
    assert 1 in host.merge("stranger").ends.values()
    assert names(host) == ["Antes", "Antes"]


def test_secrets_stand_only_at_the_steps_that_need_them(host: Host) -> None:
    propose(host.company, "rename", alfa="Depois")
    ran = [host.pull("rename", number=1), host.merge("rename"), host.on_main("hand")]
    for step in steps(ran):
        needs_them = re.search(r"^ *fivrec (diff|apply|drift|pull) ", step.script, re.MULTILINE)
        expected = SECRETS if needs_them else ()
        assert step.secrets == expected, step.name
    assert [call["secrets"] for call in host.state["calls"]] == [[]] * len(host.state["calls"])


def steps(ran: list[Ran]) -> list[Any]:
    return [step for one in ran for done in one.jobs.values() for step in done]


def test_drift_becomes_one_pull_request(host: Host) -> None:
    quiet = host.on_main("night")
    assert (set(quiet.ends.values()), host.state["proposed"]) == ({0}, []), quiet.output
    host.company.rows("alfa", SALES)
    for _ in range(2):
        night = host.on_main("night")
        assert set(night.ends.values()) == {0}, night.output
        assert host.state["proposed"] == [{"number": 1, "head": "fivrec-drift", "base": "main"}]
    host.company.desk.git("fetch", "-q", "origin")
    shown = host.company.desk.git("diff", "--unified=0", "origin/main", "origin/fivrec-drift")
    assert [line for line in shown.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")] == [
        "-  - {name: Sales, description: Vendas}",
        "+  - {name: Sales, description: x}",
    ]
    assert set(host.pull("fivrec-drift", number=2).ends.values()) == {0}
    merged = host.merge("fivrec-drift")
    assert set(merged.ends.values()) == {0}, merged.output
    assert set(host.on_main("night").ends.values()) == {0}


def test_drift_that_no_manifest_can_express_is_an_error(host: Host) -> None:
    host.company.rows("alfa", "UPDATE plans SET price = 1 WHERE id = 'plan_starter' RETURNING id")
    night = host.on_main("night")
    assert 2 in night.ends.values(), night.output
    assert "There is drift that no manifest can express" in night.output
    assert host.state["proposed"] == []


UNPULLED = "There is drift that no manifest can express"


def test_drift_of_both_sorts_opens_a_pull_request_and_fails(host: Host) -> None:
    host.company.rows("alfa", SALES)
    host.company.rows("beta", "UPDATE plans SET price = 1 WHERE id = 'plan_starter' RETURNING id")
    night = host.on_main("night")
    assert (night.ends["drift"], UNPULLED in night.output) == (2, True), night.output
    assert host.state["proposed"] == [{"number": 1, "head": "fivrec-drift", "base": "main"}]


def test_an_instance_that_is_down_keeps_no_drift_back(host: Host) -> None:
    host.company.rows("alfa", SALES)
    host.company.let_in("beta", allowed=False)
    night = host.on_main("night")
    host.company.let_in("beta", allowed=True)
    assert (night.ends["drift"], UNPULLED in night.output) == (1, False), night.output
    assert host.state["proposed"] == [{"number": 1, "head": "fivrec-drift", "base": "main"}]
