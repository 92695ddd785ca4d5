"""-o markdown of the commands that show tables, with names that look like structure, markup or a mention."""

from __future__ import annotations

from pathlib import Path

from tests.support.harness import INSTANCE, Fivrec, run_sql

EVIL = "a|b ```x``` <img src=x> @all"
BROKEN = "version: 1\ninstance: broken\nqueus: []\n"


def test_a_table_of_each_command_and_what_failed_below_it(fivrec: Fivrec) -> None:
    assert fivrec.apply().code == 0
    (fivrec.folder / "broken.yaml").write_text(BROKEN)
    for words, heading, code in (
        ("usage", "| instance | environment | users |", 5),
        ("status", "| instance | environment | status |", 5),
        ("plans", "| instance | id | name |", 5),
        ("history", "| time | instance | action |", 5),
        ("history --verify", "| instance | audit log |", 5),
        ("report --out page.html", "| instance | environment | read |", 5),
    ):
        ended = fivrec.run(*words.split(), "client.yaml", "broken.yaml", "-o", "markdown")
        lines = ended.stdout.splitlines()
        assert (ended.code, lines[0].startswith(heading), lines[1][:5]) == (code, True, "| ---"), words
        assert lines[-2:][0] == "", words
        assert lines[-1].startswith("- ❌ <code>broken</code>: <code>&#91;manifest&#95;invalid&#93;</code> "), words
        assert any(INSTANCE in line for line in lines[2:]), words


def test_validate_has_a_row_for_each_file_and_each_problem(fivrec: Fivrec) -> None:
    (fivrec.folder / "broken.yaml").write_text(BROKEN)
    for name, code, row in (
        ("client.yaml", 0, "<code>client&#46;yaml</code> | ✅ 1 instance"),
        (
            "broken.yaml",
            65,
            '<code>broken&#46;yaml&#58;3&#58;1</code> | ❌ broken: unknown key "queus" (did you mean "queues"?)',
        ),
    ):
        ended = fivrec.run("validate", name, "-o", "markdown")
        assert (ended.code, ended.stdout) == (code, f"| manifest | result |\n| --- | --- |\n| {row} |\n")


def test_values_from_a_database_are_text_in_every_command(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(url, f"UPDATE queues SET description = '{EVIL}' WHERE name = 'Sales'",
            f"UPDATE users SET name = '{EVIL}'")  # fmt: skip
    pulled = fivrec.run("pull", "client.yaml", "-o", "markdown").stdout
    assert pulled.startswith(
        "<!-- fivrec pull -->\n### fivrec pull: 2 values to write in 1 file\n\n````diff\n--- client.yaml\n"
    )
    assert f"description: {EVIL!r}" in pulled.replace('"', "'")
    assert "\n````\n" in pulled
    tested = fivrec.run("production-test", "client.yaml", "-o", "markdown")
    assert tested.stdout.splitlines()[0] == "| instance | check | as production |"
    refused = fivrec.run("purge", "client.yaml", "--environment", "development", "-o", "markdown")
    assert (refused.code, refused.stdout.splitlines()[0]) == (0, "<!-- fivrec purge -->")


def test_a_report_on_stdout_goes_with_no_other_form(fivrec: Fivrec) -> None:
    ended = fivrec.run("report", "client.yaml", "--out", "-", "-o", "json")
    assert (ended.code, ended.json["error"]["code"]) == (64, "usage")


def test_report_lists_unreadable_instances_as_json(fivrec: Fivrec) -> None:
    assert fivrec.apply().code == 0
    ended = fivrec.run("report", "client.yaml", "--out", "page.html", "-o", "json")
    known = {"instance": INSTANCE, "environment": "production", "error": None}
    assert (ended.code, ended.json) == (
        0,
        {"version": 1, "command": "report", "file": "page.html", "instances": [known]},
    )
    assert Path(fivrec.folder, "page.html").read_text().startswith("<!doctype html>")
