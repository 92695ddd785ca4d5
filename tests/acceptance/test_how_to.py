"""Pages with commands, played on an instance in the state that each page is for; what is not played, and why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.played_pages import blocks, patient, play, promised
from tests.support.watching import receiving

DOCS = Path(__file__).parents[2] / "docs"
MANIFEST = """version: 1
instance: client-abc-123
environment: development
database: {url: "embedded:"}
config:
  connect_api_url: "embedded:"
  instance_key: {env: FIV_APP_API_KEY, default: "embedded:"}
  company_name: Padaria Aurora
admin: {email: ana@client.example, password: {env: FIV_ADMIN_PASSWORD, generate: true}}
queues:
  - {name: Sales, description: Vendas}
plans: {source: connect}
"""
# Each page with shell blocks is played by a test, or says here why its blocks are only parsed (test_readme.py).
PLAYED_ELSEWHERE = {
    "deploy.md": "test_deploy.py",
    "going-live.md": "test_deploy.py",
    "index.md": "README's first command, which .ci/run runs",
    "keys.md": "test_keys_page.py",
    "tutorial.md": "test_tutorial.py",
}
NOT_PLAYED = {
    "benchmarks.md": "an hour of measuring",
    "environments.md": "its one command is that of going-live.md",
    "how-to/add-a-client.md": "needs a key of the Connect panel",
    "how-to/let-through.md": "its digest is of one plan",
    "serve.md": "runs until it is stopped; test_serve.py has its endpoints",
    "sign-in.md": "needs an identity provider; test_serve_sign_in.py has one",
    "upgrades.md": "needs an embedded server of PostgreSQL 15",
    "watch.md": "runs until it is stopped; test_watch.py has its options",
}
# Text blocks that contain commands all the same: they need what no page's test has.
TYPED = re.compile(r"^ *(?:\$ )?(?:fivrec|pip|python3|psql|pg_dump|kubectl|curl|export|DROP) ", re.MULTILINE)
NOT_PLAYED_TEXT = {
    "README.md": "its last block is that of deploy.md, with README's paths",
    "fleet.md": "runs until it is stopped; test_fleet.py has its commands",
    "gitops.md": "shows what is printed; test_pull.py and test_explain.py have it",
    "how-to/back-up.md": "pg_dump's version is the server's",
    "how-to/leave.md": "psql with the URL of a database of one's own",
    "how-to/move-a-server.md": "needs two servers",
    "how-to/offboard.md": "drops the database",
    "how-to/pause.md": "after an edit; its commands are played before it",
    "how-to/prove-the-log.md": "its hash is of one database",
    "keys.md": "for a lost key: it was tried by hand",
    "recipes/README.md": "needs a release, or a cluster; test_release.py and test_recipes.py have them",
    "reference/commands.md": "made from --help",
    "troubleshooting.md": "runs until it is stopped; test_serve.py has its requests",
    "tutorial.md": "installs into the reader's home; .ci/run installs",
    "watch.md": "installs a service; test_recipes.py has its unit",
}
BY_HAND = """fivrec psql clients/ -- -c "UPDATE queues SET description = 'x' WHERE name = 'Sales'"\n"""
BEFORE = {
    "unlock.md": "fivrec connect set client-abc-123 --status suspended\n"
    "fivrec check clients/     # exit 6\n"
    "fivrec connect set client-abc-123 --reset\n",
    "keep-a-hand-change.md": BY_HAND,
    "undo.md": "sed -i.bak 's/Vendas/Outra/' clients/client-abc-123.yaml\n"
    "git commit -q -a -m change\n"
    "fivrec apply clients/\n",
    "connect-is-down.md": "fivrec connect set client-abc-123 --fail 500\n",
    "rotate-a-key.md": "cp .fivrec/encryption.key old.key\n",
    "upgrade-from-0.1.md": "",
    "move-a-server.md": "",
    "offboard.md": "",
    "rename.md": "sed -i.bak 's/{name: Sales,/{name: Vendas, renamed_from: Sales,/' clients/client-abc-123.yaml\n",
    "network.md": "",
    "pause.md": "sed -i.bak '1a suspend: true' clients/client-abc-123.yaml\n",
    "back-up.md": "",
    "leave.md": "",
    "on-a-schedule.md": "",
    "prove-the-log.md": "",
}
SETUP = """git init -q . && git config user.name Ana && git config user.email ana@example.com
git add clients && git commit -q -m first
fivrec apply clients/
"""


@pytest.mark.parametrize("page", BEFORE)
def test_a_task_goes_as_its_page_says(page: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    (place / "clients").mkdir(parents=True)
    (place / "clients/client-abc-123.yaml").write_text(MANIFEST, encoding="utf-8")
    typed = [body.replace("\n    ", "\n").lstrip() for language, body in blocks(f"how-to/{page}") if language == "sh"]
    script = "\n".join([SETUP, BEFORE[page], *typed])
    played = play(script, place)
    assert len(played.codes) > len(typed)
    assert played.codes == promised(script), played.stdout + played.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", ["gitops.md", "operating.md"])
def test_a_page_on_the_folder_manifests_goes_as_it_says(page: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    (place / "manifests").mkdir(parents=True)
    (place / "manifests/client-abc-123.yaml").write_text(MANIFEST, encoding="utf-8")
    typed = [body for language, body in blocks(page) if language == "sh"]
    script = "\n".join([SETUP.replace("clients", "manifests"), "export BEFORE=$(git rev-parse HEAD)", *typed])
    played = play(script, place)
    assert played.codes == promised(script), played.stdout + played.stderr


@pytest.mark.slow
def test_an_alert_arrives_as_its_page_says(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    typed = [body.replace("\n    ", "\n").lstrip() for _, body in blocks("how-to/test-an-alert.md")]
    with receiving() as receiver:
        script = "\n".join([f"export SLACK_WEBHOOK={receiver.url}", *typed])
        played = play(patient(script, "client-drill.yaml"), place)
        assert [post["text"] for post in receiver.posts] == [
            "client-drill: ⚠️ instance suspended: access is locked",
            "client-drill: ✅ recovered: active, paid",
        ], played.stderr
    assert played.codes == ["init 0", "apply 0", "connect 0", "connect 0"]


def test_every_page_with_commands_is_played_or_says_why_not() -> None:
    pages = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if not page.name.endswith(".pt-BR.md")]
    with_commands = {page for page in pages if any(language == "sh" for language, _ in blocks(page))}
    here = {*(f"how-to/{page}" for page in BEFORE), "how-to/test-an-alert.md", "gitops.md", "operating.md"}
    assert with_commands == {*here, *PLAYED_ELSEWHERE, *NOT_PLAYED}
    assert here.isdisjoint({*PLAYED_ELSEWHERE, *NOT_PLAYED})


def test_each_command_in_a_block_of_text_says_why_not() -> None:
    pages = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if not page.name.endswith(".pt-BR.md")]
    typed = {
        page for page in pages if any(language == "text" and TYPED.search(body) for language, body in blocks(page))
    }
    assert {*typed, "README.md"} == set(NOT_PLAYED_TEXT)
