"""A whole life by pull request, on real git repositories: each step's exit code, comment and database state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.company import Company, company, readable, register
from tests.support.harness import Ended

CLIENT = """\
version: 1
instance: {name}
database: {{url: "{url}"}}
config:
  connect_api_url: {{env: FIV_APP_API_URL}}
  instance_key: {{file: "{keys}/{{{{ instance }}}}"}}
  company_name: {company}
admin:
  email: admin@{name}.com
  password: {{env: FIV_ADMIN_PASSWORD}}
queues:
  unmanaged: remove
  items:
{queues}
plans: {{source: connect}}
"""
QUEUES = ("Billing", "Night", "Sales", "Support")
FLEET = """\
version: 1
defaults:
  database: {{url: "{url}"}}
  config:
    connect_api_url: {{env: FIV_APP_API_URL}}
    instance_key: {{file: "{keys}/{{{{ instance }}}}"}}
    company_name: {company}
instances: {{csv: clients.csv}}
"""
CLIENTS = [f"client-{number:02}" for number in range(30)]


@pytest.fixture
def firm(tmp_path: Path, postgres_url: str, fresh_name: Any) -> Iterator[Company]:
    with company(tmp_path, postgres_url, fresh_name()) as made:
        yield made


def client(firm: Company, name: str, company_name: str = "Empresa", queues: tuple[str, ...] = QUEUES) -> str:
    items = "\n".join(f"    - {{name: {queue}}}" for queue in queues)
    return CLIENT.format(name=name, url=firm.database_url(), keys=firm.keys, company=company_name, queues=items)


def outcomes(ended: Ended) -> dict[str, str]:
    return {item["instance"]: item["outcome"] for item in ended.json["instances"]}


def error(ended: Ended, instance: str) -> dict[str, str]:
    found: dict[str, str] = next(item for item in ended.json["instances"] if item["instance"] == instance)["error"]
    return found


def queues(firm: Company, instance: str) -> list[object]:
    return [name for (name,) in firm.rows(instance, "SELECT name FROM queues ORDER BY name")]


PRICE = "SELECT price FROM plans WHERE id = 'plan_starter'"
DRIFT = "UPDATE plans SET price = 1 WHERE id = 'plan_starter' RETURNING price"


@pytest.mark.slow
def test_a_life_of_three_pull_requests(firm: Company) -> None:
    register(firm, "alfa", "beta", "gama")
    for name in ("alfa", "beta"):
        firm.desk.write(f"manifests/{name}.yaml", client(firm, name))
    firm.desk.push("main", "Two clients")
    firm.pipeline.checkout("main")
    first = firm.pipeline.apply("manifests/")
    assert (first.code, outcomes(first)) == (0, {"alfa": "changed", "beta": "changed"}), first.stderr
    a_new_client_and_a_price_drift(firm)
    a_bad_manifest(firm)
    half_of_the_queues_removed(firm)


def a_new_client_and_a_price_drift(firm: Company) -> None:
    """Reviewed with a comment, planned, merged, applied as planned."""
    pipeline = firm.pipeline
    assert firm.rows("alfa", DRIFT) == [(1,)]
    firm.desk.start()
    firm.desk.write("manifests/gama.yaml", client(firm, "gama"))
    firm.desk.push("gama", "A new client")

    review = pipeline.review("gama", "manifests/")
    assert review.code == 2, review.stderr
    comment = readable(review.stdout)
    assert comment.startswith("<!-- fivrec diff -->\n### 📝 fivrec diff: 15 changes; 3 instances\n")
    assert "| alfa | production | 📝 changed | ~1 | 0 | active, paid |" in comment
    assert "| gama | production | 📝 changed | +14 | 0 | active, paid |" in comment
    assert "✅ 1 instance in sync" in comment
    assert "~ plan/plan_starter (drift, connect)\n-   price: 1\n+   price: 2900\n" in comment
    assert "+ queue/Billing (new)" in comment
    assert "+   password: (sensitive)" in comment
    assert "senha-segura" not in review.stdout + pipeline.plan.read_text()
    assert firm.databases() == ["alfa", "beta"]
    assert firm.rows("alfa", PRICE) == [(1,)]

    commit = firm.desk.merge("gama")
    assert pipeline.checkout("main") == commit
    applied = pipeline.apply("--plan", str(pipeline.plan), "manifests/")
    assert applied.code == 0, applied.stdout
    assert outcomes(applied) == {"alfa": "changed", "beta": "in_sync", "gama": "changed"}
    planned = {item["instance"]: item["changes"] for item in json.loads(pipeline.plan.read_text())["instances"]}
    assert {item["instance"]: item["changes"] for item in applied.json["instances"]} == planned
    assert firm.rows("alfa", PRICE) == [(2900,)]
    assert queues(firm, "gama") == list(QUEUES)
    audit = "SELECT DISTINCT actor, git_commit FROM fivrec.audit_log WHERE kind = 'plan' AND cause = 'drift'"
    assert firm.rows("alfa", audit) == [("pipeline", commit)]
    assert pipeline.fivrec.run("diff", "manifests/").code == 0
    again = pipeline.apply("--plan", str(pipeline.plan), "manifests/")
    assert (again.code, outcomes(again)) == (5, {"alfa": "refused", "beta": "in_sync", "gama": "refused"})
    assert error(again, "alfa")["code"] == "stale_plan"


def a_bad_manifest(firm: Company) -> None:
    """Found in review, with its position; nothing is planned, merged or written."""
    pipeline = firm.pipeline
    firm.desk.start()
    text = client(firm, "beta").replace("queues:", "qeues:")
    firm.desk.write("manifests/beta.yaml", text)
    firm.desk.push("bad", "A typing error")
    line = text[: text.index("qeues")].count("\n") + 1

    review = pipeline.review("bad", "manifests/")
    assert review.code == 65
    comment = readable(review.stdout)
    assert comment.startswith("<!-- fivrec diff -->\n### ❌ fivrec diff: failed, no instance was tried\n")
    assert f"manifests/beta.yaml:{line}:1: " in comment
    assert 'did you mean "queues"' in comment
    assert not pipeline.plan.exists()
    assert pipeline.fivrec.run("validate", "manifests/").code == 65
    assert queues(firm, "beta") == list(QUEUES)


def half_of_the_queues_removed(firm: Company) -> None:
    """Refused by the guard, then admitted by the digest given in the comment."""
    pipeline = firm.pipeline
    firm.desk.start()
    before = firm.desk.git("rev-parse", "HEAD")
    firm.desk.write("manifests/beta.yaml", client(firm, "beta", queues=QUEUES[2:]))
    firm.desk.push("fewer", "Fewer queues")

    words = ("--changed-since", before, "manifests/")
    review = pipeline.review("fewer", *words)
    assert review.code == 2, review.stderr
    assert f"🔎 1 of 3 instances changed since {before[:12]}" in review.stderr
    comment = readable(review.stdout)
    (planned,) = json.loads(pipeline.plan.read_text())["instances"]
    accept = f"--accept {planned['digest']}"
    assert "| beta | production | 📝 changed | −2 | 0 | active, paid |" in comment
    assert "- ⚠️ beta: 2 queue rows would be removed: Billing, Night\n" in comment
    assert f"- ⚠️ beta: apply refuses this; if it is meant: {accept}\n" in comment

    firm.desk.merge("fewer")
    pipeline.checkout("main")
    refused = pipeline.apply("--plan", str(pipeline.plan), *words)
    assert (refused.code, outcomes(refused)) == (3, {"beta": "refused"})
    assert error(refused, "beta") == {
        "code": "guard",
        "message": f"2 queue rows would be removed: Billing, Night; if this is meant: {accept}",
        "hint": "",
        "docs": "docs/errors.md#guard",
    }
    assert queues(firm, "beta") == list(QUEUES)
    wrong = pipeline.apply("--plan", str(pipeline.plan), "--accept", "0" * 16, *words)
    assert (wrong.code, queues(firm, "beta")) == (64, list(QUEUES))
    accepted = pipeline.apply("--plan", str(pipeline.plan), *accept.split(), *words)
    assert (accepted.code, outcomes(accepted)) == (0, {"beta": "changed"}), accepted.stdout
    assert queues(firm, "beta") == list(QUEUES[2:])
    assert pipeline.fivrec.run("diff", "manifests/").code == 0


def fleet(firm: Company, company_name: str) -> None:
    firm.desk.write("fleet/fleet.yaml", FLEET.format(url=firm.database_url(), keys=firm.keys, company=company_name))
    firm.desk.write("fleet/clients.csv", "instance\n" + "".join(f"{name}\n" for name in CLIENTS))


def names(firm: Company, *instances: str) -> set[object]:
    """Returns the companies' names in the databases."""
    query = "SELECT value FROM settings WHERE key = 'company_name'"
    return {value for name in instances for (value,) in firm.rows(name, query)}


STAGED = ("--canary", "1", "--serial", "10%", "--max-fail", "5%", "--forks", "1")


@pytest.mark.slow
def test_a_rollout_over_30_instances_stops_is_mended_and_goes_on(firm: Company) -> None:
    register(firm, *CLIENTS)
    pipeline = firm.pipeline
    fleet(firm, "Antes")
    firm.desk.push("main", "Thirty clients")
    pipeline.checkout("main")
    first = pipeline.apply("fleet/")
    assert (first.code, set(outcomes(first).values())) == (0, {"changed"}), first.stderr
    firm.desk.start()
    fleet(firm, "Depois")
    firm.desk.push("rename", "Another name")
    firm.desk.merge("rename")
    pipeline.checkout("main")

    too_many_at_once(firm)
    two_databases_broken(firm)
    mended(firm)


def too_many_at_once(firm: Company) -> None:
    """More instances than --max-changed allows: refused before anything is written."""
    refused = firm.pipeline.apply("--max-changed", "10%", "fleet/")
    assert (refused.code, refused.json["instances"]) == (3, [])
    found = refused.json["error"]
    assert found["code"] == "guard"
    assert found["message"].startswith("30 of 30 instances would change: client-00, client-01, ")
    assert "more than --max-changed 10% allows; if this is meant: --accept " in found["message"]
    assert names(firm, *CLIENTS) == {"Antes"}


def two_databases_broken(firm: Company) -> None:
    """Waves of 1, 3, 3, 3, …: one failure is within 5% of 30, the second is not."""
    for name in (CLIENTS[5], CLIENTS[8]):
        firm.let_in(name, allowed=False)
    stopped = firm.pipeline.apply(*STAGED, "fleet/")
    assert stopped.code == 5, stopped.stderr
    expected = dict.fromkeys(CLIENTS[:8], "changed") | dict.fromkeys(CLIENTS[9:], "skipped")
    assert outcomes(stopped) == expected | {CLIENTS[5]: "failed", CLIENTS[8]: "failed"}
    reason = "2 of 30 instances failed, more than --max-fail 5% allows"
    assert [item["notes"] for item in stopped.json["instances"][9:]] == [[f"not attempted: {reason}"]] * 21
    assert "🌊 wave 1 of 11 (canary): 1 instance" in stopped.stderr
    assert "🌊 wave 4 of 11: 3 instances" in stopped.stderr
    assert f"🛑 the rollout stops: {reason}" in stopped.stderr
    assert "wave 5 of 11" not in stopped.stderr
    done = [name for name in CLIENTS[:8] if name != CLIENTS[5]]
    assert (names(firm, *done), names(firm, *CLIENTS[9:])) == ({"Depois"}, {"Antes"})


def mended(firm: Company) -> None:
    """The same command continues where it stopped: finished instances are in sync."""
    for name in (CLIENTS[5], CLIENTS[8]):
        firm.let_in(name, allowed=True)
    counted = firm.pipeline.apply("--max-changed", "22", *STAGED, "fleet/")
    assert counted.code == 3
    accept = counted.json["error"]["message"].rpartition("if this is meant: ")[2].split()
    goes_on = firm.pipeline.apply("--max-changed", "22", *accept, *STAGED, "fleet/")
    assert goes_on.code == 0, goes_on.stdout
    rest = {CLIENTS[5], *CLIENTS[8:]}
    assert outcomes(goes_on) == {name: "changed" if name in rest else "in_sync" for name in CLIENTS}
    assert names(firm, *CLIENTS) == {"Depois"}
    assert firm.pipeline.fivrec.run("diff", "fleet/").code == 0
