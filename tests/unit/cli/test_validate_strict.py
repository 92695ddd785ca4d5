"""`validate --strict`: finds what is valid but probably a mistake, each with its position."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from reconciler.cli.main import cli
from tests.support.cli_process import fivrec

MANIFEST = """\
version: 1
instance: client-1
vars: {company: Nome, unused: x, base: a, derived: "{{ base }}-b"}
database: {url: "embedded:"}
environment: development
config:
  connect_api_url: "embedded:"
  instance_key: {env: KEY, default: "embedded:"}
  company_name: "{{ company }} {{ derived }}"
  settings: {Locale: a, locale: b}
queues:
  - {name: Sales}
  - {name: sales}
ignore:
  - {field: queue/Sales/description, until: 2020-01-01, reason: campaign}
  - {field: queue/Sales/is_active, until: 2999-01-01, reason: campaign}
  - {field: plan/*/price, reason: campaign}
plans: {source: connect}
"""


def problems(path: Path, *words: str) -> tuple[int, list[tuple[int, int, str]]]:
    ended = CliRunner().invoke(cli, ["validate", str(path), "-o", "json", *words], catch_exceptions=False)
    document = json.loads(ended.output)
    found = [(item["line"], item["column"], item["message"]) for item in document["problems"]]
    return ended.exit_code, found


def test_strict_reports_probable_mistakes_at_their_place(tmp_path: Path) -> None:
    path = tmp_path / "client.yaml"
    path.write_text(MANIFEST)
    assert problems(path) == (0, [])
    code, found = problems(path, "--strict")
    assert code == 65
    assert found == [
        (3, 31, 'the variable "unused" is used by no template'),
        (10, 33, 'settings "Locale" and "locale" differ only in case'),
        (13, 12, 'queues "Sales" and "sales" differ only in case'),
        (15, 45, "the accepted drift of queue/Sales/description expired on 2020-01-01"),
        (17, 13, "the accepted drift of plan/*/price has no end"),
    ]


def test_strict_names_values_that_only_look_like_secrets(tmp_path: Path) -> None:
    path = tmp_path / "client.yaml"
    settings = "{a: {secret: {env: A}}, b: {secret: {env: B}, port: 1}, c: {d: [{secret: {file: x}}]}, f: {x: y}}"
    path.write_text(MANIFEST.replace("settings: {Locale: a, locale: b}", f"settings: {settings}"))
    said = "a secret beside other keys, or below them, is no secret: it is stored as it stands here"
    code, found = problems(path, "--strict")
    assert (code, [place for *place, message in found if message == said]) == (65, [[10, 40], [10, 72]])


def test_strict_names_what_in_a_name_is_not_what_it_looks_like(tmp_path: Path) -> None:
    path = tmp_path / "client.yaml"
    names = "  - {name: S\u0430les}\n  - {name: Night\u200b}\n"
    path.write_text(f"version: 1\ninstance: a\nqueues:\n{names}admin: {{email: a@b.c, name: 'José 日本'}}\n")
    assert problems(path) == (0, [])
    code, found = problems(path, "--strict")
    assert (code, found) == (
        65,
        [
            (4, 12, "a name in queues mixes look-alike alphabets in one word: Cyrillic, Latin"),
            (5, 12, "a name in queues has invisible characters: U+200B"),
        ],
    )


IDLE = (
    "queue/Slaes/description", "queue/Sales/descriptoin", "queue/Sales/name", "queue/*/descr", "setting/local/value",
    "admin/other@b.c/name", "config/client-2/check_interval_minutes", "status/client-1/billing",
    "environment/x/isolation",
)  # fmt: skip
MEANT = (
    "queue/Sales/description", "queue/sales/*", "queue/Night", "queue/Night/is_active", "queue/*/is_active", "q*/x/y",
    "setting/locale/value", "setting/left", "admin/a@b.c/name", "admin/A@B.C/name", "admin/old@b.c/role",
    "plan/*/price", "plan/any/name", "config/*/check_interval_minutes", "status/client-1/is_locked",
    "status/*/billing_status",
)  # fmt: skip


def test_strict_names_accepted_drift_that_fits_nothing(tmp_path: Path) -> None:
    path = tmp_path / "client.yaml"
    entries = "".join(f"  - {{field: '{field}', until: 2999-01-01, reason: x}}\n" for field in (*MEANT, *IDLE))
    path.write_text(
        "version: 1\ninstance: client-1\nconfig: {settings: {locale: a}}\nqueues: [{name: Sales}]\n"
        f"admin: {{email: a@b.c}}\nplans: {{source: connect}}\nignore:\n{entries}"
    )
    code, found = problems(path, "--strict")
    assert code == 65
    assert [message for *_, message in found] == [
        f"the accepted drift of {field} fits nothing that can differ" for field in IDLE
    ]


def test_a_fleets_accepted_drift_fits_if_one_instance_has_it(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    entries = ", ".join(
        f"{{field: queue/{name}/description, until: 2999-01-01, reason: x}}" for name in ("Night", "Day")
    )
    path.write_text(
        f"version: 1\ndefaults: {{ignore: [{entries}]}}\n"
        "instances:\n  - {instance: a, queues: [{name: Night}]}\n  - {instance: b}\n"
    )
    said = "the accepted drift of queue/Day/description fits nothing that can differ"
    assert [message for *_, message in problems(path, "--strict")[1]] == [said]


def test_strict_names_accepted_drift_that_takes_the_lock_along(tmp_path: Path) -> None:
    path = tmp_path / "client.yaml"
    wide = "".join(
        f"  - {{field: '{field}', until: 2999-01-01, reason: x}}\n"
        for field in ("status/*", "status/client-1/*", "*/client-1")
    )
    path.write_text(f"version: 1\ninstance: client-1\nignore:\n{wide}")
    code, found = problems(path, "--strict")
    assert (code, [line for line, *_ in found]) == (65, [4, 5, 6])
    said = "the accepted drift of status/* keeps the lock as it is: a suspended instance stays open"
    assert found[0][2] == said


def test_a_fleets_variable_is_used_if_one_instance_uses_it(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(
        "version: 1\n"
        "defaults: {environment: development, database: {url: 'embedded:'}, vars: {company: A}}\n"
        "instances:\n"
        "  - {instance: a, config: {company_name: '{{ company }}'}}\n"
        "  - {instance: b}\n"
        "  - {instance: B}\n"
    )
    assert problems(path, "--strict") == (65, [(6, 16, 'the instances "b" and "B" differ only in case')])


def test_the_examples_are_strictly_fine() -> None:
    manifests = Path(__file__).parents[3] / "manifests"
    assert problems(manifests, "--strict") == (0, [])


def test_the_number_of_problems_is_no_event_of_a_json_log(tmp_path: Path) -> None:
    path = tmp_path / "client.yaml"
    path.write_text(MANIFEST.replace("queues:", "queuess:"))
    said = [fivrec("validate", str(path), *words).stderr for words in ((), ("--log-format", "json"))]
    assert said == ["1 problem\n", ""]


def test_problems_beyond_the_first_thousand_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    rows = "".join(f"  - {{instance: i{number}, vars: {{minutes: x}}}}\n" for number in range(1001))
    path = tmp_path / "fleet.yaml"
    path.write_text(
        "version: 1\ndefaults: {config: {check_interval_minutes: '{{ minutes | int }}'}}\ninstances:\n" + rows
    )
    ended = CliRunner().invoke(cli, ["validate", str(path)], catch_exceptions=False)
    assert ended.exit_code == 65
    assert "there may be more problems; these were the first" in ended.stderr
