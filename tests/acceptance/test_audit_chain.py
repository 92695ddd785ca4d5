"""`history --verify` names the tampered entry; who ran, and at which commit; failures are entries too."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.model.secret import Secret
from reconciler.support.crypto.key_files import generate_key
from tests.support.harness import Fivrec, manifest, rows, run_sql

LOG = "fivrec.audit_log"
TWICE = f"""UPDATE {LOG} SET fields = regexp_replace(fields::text, '^.{{2}}', '[{{"field":"x",')::json WHERE seq = 4"""
TAMPERING = {
    "edited": ((f"UPDATE {LOG} SET actor = 'someone else' WHERE seq = 3",), 3, "was edited"),
    "edited fields": ((f"UPDATE {LOG} SET fields = '[]' WHERE seq = 4",), 4, "was edited"),
    "a key twice": ((TWICE,), 4, "was edited"),
    "deleted": ((f"DELETE FROM {LOG} WHERE seq = 3",), 4, "follows 2: entries between are gone"),
    "deleted at the beginning": ((f"DELETE FROM {LOG} WHERE seq = 1",), 2, "follows 0: entries between are gone"),
    "reordered": (
        (
            f"UPDATE {LOG} SET seq = -seq WHERE seq IN (3, 4)",
            f"UPDATE {LOG} SET seq = CASE seq WHEN -3 THEN 4 ELSE 3 END WHERE seq < 0",
        ),
        3,
        "does not continue entry 2: reordered or forked",
    ),
    "forked": (
        (f"UPDATE {LOG} SET prev_hash = (SELECT prev_hash FROM {LOG} WHERE seq = 3) WHERE seq = 4",),
        4,
        "does not continue entry 3: reordered or forked",
    ),
    "unsigned and the key gone": (
        (f"UPDATE {LOG} SET signature = NULL", "DELETE FROM fivrec.audit_key"),
        2,
        "is not signed, though entries were signed here by then",
    ),
}


@pytest.fixture
def head(fivrec: Fivrec) -> str:
    """The head that the apply printed."""
    done = fivrec.apply()
    assert done.code == 0, done.stderr
    return str(done.one["audit_head"])


def verified(fivrec: Fivrec, *words: str) -> tuple[int, object]:
    ended = fivrec.run("history", "client.yaml", "--verify", "-o", "json", *words)
    return ended.code, ended.one["finding"]


@pytest.mark.parametrize("how", TAMPERING)
def test_tampering_is_found_and_the_entry_named(how: str, fivrec: Fivrec, url: str, head: str) -> None:
    assert verified(fivrec, "--expect-head", head) == (0, None)
    statements, seq, words = TAMPERING[how]
    run_sql(url, *statements)
    code, finding = verified(fivrec)
    assert isinstance(finding, dict)
    assert (code, finding["seq"]) == (1, seq)
    assert words in finding["message"]


def test_a_cut_tail_is_found_by_the_head_that_apply_printed(fivrec: Fivrec, url: str, head: str) -> None:
    run_sql(url, f"DELETE FROM {LOG} WHERE seq = (SELECT max(seq) FROM {LOG})")
    assert verified(fivrec) == (0, None)
    code, finding = verified(fivrec, "--expect-head", head)
    assert code == 1
    assert isinstance(finding, dict)
    assert "the expected head is not among them" in finding["message"]


def test_refused_and_failed_runs_are_entries(fivrec: Fivrec, url: str, head: str) -> None:
    emptied = "queues:\n  - {name: Technical Support, description: Suporte técnico}\n  - {name: Sales}\n"
    fivrec.write(manifest(queues=f"{emptied}|queues: {{items: [], unmanaged: remove}}\n"))
    assert fivrec.apply().code == 3
    fivrec.write(manifest())
    run_sql(url, "UPDATE queues SET description = 'x'", "ALTER TABLE queues ADD CONSTRAINT c CHECK (description = 'x')")
    assert fivrec.apply().code == 1
    told = rows(url, f"SELECT name, fields->0->>'after' FROM {LOG} WHERE kind = 'run' ORDER BY seq")
    assert told == [("refused", "guard"), ("failed", "rows_unfit")]
    assert verified(fivrec, "--expect-head", head) == (0, None)


def test_the_actor_is_the_option_then_the_pipeline_then_the_user(fivrec: Fivrec, url: str) -> None:
    ci = {"GITHUB_ACTOR": "pipeline"}
    for words, env, description in ((("--actor", "me"), ci, "a"), ((), ci, "b"), ((), {"LOGNAME": "someone"}, "c")):
        text = manifest(d=f"{{name: Sales}}|{{name: Sales, description: {description}}}")
        fivrec.write(text)
        assert fivrec.apply(*words, **env).code == 0
    actors = [row[0] for row in rows(url, f"SELECT actor FROM {LOG} GROUP BY run_id, actor ORDER BY min(seq)")]
    assert actors == ["me", "pipeline", "someone"]


def test_entries_name_the_commit_that_the_manifest_stands_at(fivrec: Fivrec, url: str) -> None:
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@y.z")
    for words in (("init", "-q"), ("add", "client.yaml"), ("commit", "-qm", "x")):
        subprocess.run([*git, *words], cwd=fivrec.folder, check=True)
    commit = subprocess.check_output([*git, "rev-parse", "HEAD"], cwd=fivrec.folder, text=True).strip()
    assert fivrec.apply().code == 0
    assert rows(url, f"SELECT DISTINCT git_commit FROM {LOG}") == [(commit,)]


def test_concurrent_runs_never_fork_the_chain(fivrec: Fivrec, url: str, head: str) -> None:
    paths = [
        fivrec.write(manifest(d=f"{{name: Sales}}|{{name: Sales, description: run {number}}}"), f"{number}.yaml")
        for number in range(6)
    ]

    def apply(path: Path) -> int:
        return fivrec.run("apply", path.name).code

    with ThreadPoolExecutor(3) as pool:
        codes = list(pool.map(apply, paths))
    assert set(codes) <= {0, 4}
    assert verified(fivrec, "--expect-head", head) == (0, None)
    assert (
        rows(url, f"SELECT count(*), count(DISTINCT prev_hash), max(seq) FROM {LOG}")[0][0:2]
        == (rows(url, f"SELECT max(seq), max(seq) FROM {LOG}")[0])
    )


def test_verify_refuses_what_would_choose_a_part_of_the_log(fivrec: Fivrec) -> None:
    for words in ("--since 1h", "--kind queue", "--run ab", "--cause drift", "-n 5", "--follow"):
        ended = fivrec.run("history", "client.yaml", "--verify", "-o", "json", *words.split())
        name = "--lines" if words == "-n 5" else words.split()[0]
        said = f"--verify checks the whole log and does not go with {name}"
        assert (ended.code, ended.json["error"]["message"]) == (64, said)


def test_history_needs_no_keys_and_verify_says_it_lacks_them(fivrec: Fivrec, url: str, head: str) -> None:
    keyless = {"FIVREC_ENCRYPTION_KEY": None}
    shown = fivrec.run("history", "client.yaml", "-o", "json", **keyless)
    assert (shown.code, shown.one["entries"][0]["hash"]) == (0, head)
    text = fivrec.run("history", "client.yaml", "--verify", **keyless)
    assert text.code == 78
    assert "chain whole, signatures not checked" in text.stdout
    found = fivrec.run("history", "client.yaml", "--verify", "-o", "json", **keyless)
    assert (found.code, found.one["verified"], found.one["finding"]) == (78, False, None)
    assert found.one["signatures"]["unchecked"]["code"] == "missing_setting"
    run_sql(url, f"UPDATE {LOG} SET actor = 'x' WHERE seq = 1")
    assert fivrec.run("history", "client.yaml", "--verify", **keyless).code == 1


def test_purge_needs_the_keys(fivrec: Fivrec, url: str, head: str) -> None:
    run_sql(url, "INSERT INTO queues (name, environment) VALUES ('Test', 'development')")
    words = ("purge", "client.yaml", "--yes", "--environment", "development")
    assert fivrec.run(*words, FIVREC_ENCRYPTION_KEY=None).code == 78
    assert rows(url, "SELECT name FROM queues WHERE environment = 'development'") == [("Test",)]
    assert fivrec.run(*words).code == 0
    assert verified(fivrec, "--expect-head", head) == (0, None)


def test_history_in_text_names_a_renamed_queues_former_name(fivrec: Fivrec, url: str, head: str) -> None:
    fivrec.write(manifest(d="{name: Sales}|{name: Vendas, renamed_from: Sales, description: new}"))
    assert fivrec.apply().code == 0
    (row,) = [line for line in fivrec.run("history", "client.yaml").stdout.splitlines() if "queue/Vendas" in line]
    assert row.endswith('name (was "Sales") description')


def test_history_of_one_run_and_of_what_follows(fivrec: Fivrec, url: str, head: str) -> None:
    fivrec.write(manifest(d="{name: Sales}|{name: Sales, description: new}"))
    run_id = fivrec.apply().json["run_id"]
    found = fivrec.run("history", "client.yaml", "--run", run_id[:8], "-o", "json").one["entries"]
    assert [(entry["run_id"], entry["kind"], entry["name"]) for entry in found] == [(run_id, "queue", "Sales")]
    following = fivrec.start("history", "client.yaml", "--follow", "-o", "json", "-n", "1")
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["run_id"] == run_id
    fivrec.write(manifest(d="{name: Sales}|{name: Sales, description: newer}"))
    second = fivrec.apply().json["run_id"]
    line = json.loads(following.stdout.readline())
    assert (line["instance"], line["run_id"], line["name"]) == ("client-abc-123", second, "Sales")
    following.terminate()
    following.communicate(timeout=60)
    assert following.returncode == 143


KEEP = "CREATE TABLE kept AS SELECT * FROM fivrec.audit_log"
PUT_BACK = "DELETE FROM fivrec.audit_log; INSERT INTO fivrec.audit_log SELECT * FROM kept"  # one transaction


@pytest.mark.parametrize("back_to", ["an older state", "nothing"])
def test_entries_after_the_database_went_back_are_followed(fivrec: Fivrec, url: str, head: str, back_to: str) -> None:
    run_sql(url, KEEP if back_to == "an older state" else f"{KEEP} WITH NO DATA")

    def describe(text: str) -> str:
        fivrec.write(manifest(d=f"{{name: Sales}}|{{name: Sales, description: {text}}}"))
        return str(fivrec.apply().json["run_id"])

    following = fivrec.start("history", "client.yaml", "--follow", "-o", "json", "-n", "1000")
    assert following.stdout is not None
    assert following.stderr is not None
    before = [describe("one"), describe("two"), describe("three")]
    lines = [json.loads(following.stdout.readline())]
    while lines[-1]["run_id"] != before[-1]:
        lines.append(json.loads(following.stdout.readline()))
    run_sql(url, PUT_BACK)
    warning = following.stderr.readline()
    after = describe("four")
    lines.append(json.loads(following.stdout.readline()))
    following.terminate()
    rest, _ = following.communicate(timeout=60)
    newest = lines[-2]["seq"]
    assert (lines[-1]["run_id"], lines[-1]["seq"] < newest) == (after, True)
    more = [json.loads(line) for line in rest.splitlines()]
    assert {line["run_id"] for line in more} <= {after}
    lines += more
    assert len({line["hash"] for line in lines}) == len(lines)
    assert f"the audit log ends before entry {newest}, which was there" in warning


def test_verify_says_where_signatures_begin(bare: Fivrec, absent_database: Secret) -> None:
    """`setup` may run without keys: its entries are older than the signatures."""
    bare.env |= {"DATABASE_URL": absent_database.reveal(), "PW": "senha-segura-123"}
    words = ("--admin-email", "admin@empresa.com", "--company-name", "Empresa", "--admin-password-env", "PW")
    instance = ("--instance", "client-abc-123")
    assert bare.run("setup", "--database-url", "env:DATABASE_URL", *words, *instance).code == 0
    bare.write(
        "version: 1\ninstance: client-abc-123\ndatabase: {url: {env: DATABASE_URL}}\n"
        "environment: production\nconfig: {company_name: Other}\n"
    )
    bare.env |= {
        "FIVREC_ENCRYPTION_KEY": generate_key(),
        "FIV_APP_API_URL": "https://127.0.0.1:1",
        "FIV_APP_API_KEY": "k",
    }
    before = bare.run("history", "client.yaml", "--verify")
    assert (before.code, "no entry is signed" in before.stdout) == (0, True), before.stdout
    bare.apply()
    after = bare.run("history", "client.yaml", "--verify")
    assert (after.code, "signatures begin at entry" in after.stdout) == (0, True), after.stdout
