"""README and docs match the code: the quick start's form, the tables, every command line, every link."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
from pathlib import Path

import click
import pytest

from reconciler.cli.main import COMMANDS, EXIT_CODES, cli
from reconciler.manifest.loader import load_manifests
from tests.support.played_pages import play

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def section(title: str) -> str:
    text = README.read_text(encoding="utf-8")
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"README.md has no section {title}"
    return found[1]


def blocks(text: str, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(text) if name == language]


def first_column(table: str) -> list[str]:
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    return rows[2:]


def test_the_quick_start_begins_with_two_blocks_of_one_line() -> None:
    found = FENCE.findall(section("Quick start"))
    assert [body.count("\n") for _, body in found] == [1, 1]
    first, second = (body.strip() for _, body in found)
    assert first.startswith("python3 -m venv .venv && ")
    assert first.endswith(" && .venv/bin/fivrec apply manifests/client.yaml")
    assert second.startswith("python3 -m venv .venv && ")
    assert second.endswith(" && .venv/bin/pytest -n auto")


def test_ci_runs_the_second_block_literally() -> None:
    second = FENCE.findall(section("Quick start"))[1][1].strip()
    lines = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert second in lines


def test_the_sample_of_drift_is_what_a_user_sees(tmp_path: Path) -> None:
    place = tmp_path / "place"
    (place / "manifests").mkdir(parents=True)
    (place / "manifests/client.yaml").write_bytes((ROOT / "manifests/client.yaml").read_bytes())
    by_hand = "UPDATE queues SET description = 'by hand' WHERE name = 'Sales'"
    path = "manifests/client.yaml"
    played = play(
        f'fivrec apply -q {path} > applied; fivrec psql {path} -- -q -c "{by_hand}"; fivrec diff {path}\n', place
    )
    assert played.codes == ["apply 0", "psql 0", "diff 2"], played.stderr
    (sample,) = blocks(section("What you see"), "text")
    assert re.sub(r"\d+ ms", "N ms", played.stdout) == re.sub(r"\d+ ms", "N ms", sample)


def test_the_samples_of_what_is_missing_are_what_a_user_sees(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "client.yaml").write_bytes((ROOT / "manifests/client.yaml").read_bytes())
    played = play(
        "export NODE_ENV=production FIV_APP_API_URL=https://connect.fiv-app.com\n"
        "FIVREC_ENCRYPTION_KEY=$(fivrec key generate) fivrec apply client.yaml\n",
        place,
    )
    assert played.codes == ["key 0", "apply 78"]
    pages = [README, *(ROOT / "docs").glob("troubleshooting*.md")]
    samples = [body for page in pages for body in blocks(page.read_text(encoding="utf-8"), "text")]
    assert [body for body in samples if "[missing_setting]" in body] == [played.stderr] * 3


def test_the_sample_of_a_broken_manifest_is_what_a_user_sees(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    lines = """version: 1
instance: client-abc-123
admin:
  email: admin@empresa.com
  pasword: {env: FIV_ADMIN_PASSWORD}
config:
  connect_api_url: https://connect.fiv-app.com
  company_name: Nome da Empresa
  check_interval_minutes: 60
  instance_key: a-key
"""
    (place / "bad.yaml").write_text(lines, encoding="utf-8")
    played = play("fivrec diff bad.yaml", place)
    assert played.codes == ["diff 65"]
    samples = blocks((ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8"), "text")
    assert [body for body in samples if "[manifest_invalid]" in body] == [played.stderr]


def test_the_table_of_commands_names_each_command_that_is_there() -> None:
    named = [re.findall(r"`([a-z-]+)", cell)[0] for cell in first_column(section("Commands"))]
    modules = {name: f"reconciler.cli.{name.replace('-', '_')}" for name in COMMANDS}
    assert sorted(named) == sorted(name for name in COMMANDS if importlib.util.find_spec(modules[name]))


def test_the_table_of_exit_codes_is_that_of_help() -> None:
    shown = [code for cell in first_column(section("Exit codes")) for code in re.findall(r"\d+", cell)]
    assert shown == re.findall(r"^  (\d+) ", EXIT_CODES, re.MULTILINE)


def test_manifests_shown_are_valid(tmp_path: Path) -> None:
    shown = [body for page in PAGES for body in blocks(page.read_text(encoding="utf-8"), "yaml")]
    assert shown
    for number, body in enumerate(shown):
        path = tmp_path / f"{number}.yaml"
        path.write_text(body, encoding="utf-8")
        assert load_manifests([str(path)], environ={}), body


def command_lines() -> list[tuple[str, str]]:
    """Returns each `fivrec …` in a shell block or at the start of a text line, with its page; continued lines are
    joined."""
    found = []
    for page in PAGES:
        for language, body in FENCE.findall(page.read_text(encoding="utf-8")):
            typed = {"sh": r"(?:^|[ (/])fivrec ([a-z-].*)", "text": r"^(?:\$ )?fivrec ([a-z-].*)"}.get(language)
            for line in body.replace("\\\n", " ").splitlines() if typed else ():
                place = re.search(typed, line)
                if place is not None and not line.startswith("#"):
                    found.append((str(page.relative_to(ROOT)), place[1]))
    return found


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_every_command_line_shown_parses(page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cert.pem", "key.pem", "plans.json"):
        (tmp_path / name).touch()
    words = shlex.split(re.split(r"\)\"| [|>;&#]", line)[0])
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"{page}: fivrec has no {name}"
        command = found
    with pytest.MonkeyPatch.context() as clean:
        for variable in [name for name in os.environ if name.startswith("FIVREC_")]:
            clean.delenv(variable)
        clean.setenv("FIVREC_QUEUE_URL", "postgresql://queue.example.com/queue")
        command.make_context(command.name, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_local_link_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    local = [link for link in LINK.findall(text) if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not leads_somewhere(page, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name) if name else page
    if not target.exists() or not anchor:
        return target.exists()
    text = target.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
    return anchor in [*anchors, *re.findall(r'<a id="([\w-]+)">', text)]
