"""Manifests are edited where their values are declared, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from reconciler.manifest.editing import Edited, Editor
from reconciler.manifest.files import read_manifest_files
from reconciler.model.types import Key, Value
from reconciler.planning.pull import Edit, Left

FLEET = """\
version: 1
defaults:
  database: {{url: {{env: DATABASE_URL}}}}
  config:
    connect_api_url: {{env: FIV_APP_API_URL}}
    instance_key: {{env: FIV_APP_API_KEY}}
    company_name: "{{{{ company }}}}"   # one name
    settings: {{locale: pt-BR, greeting: "Olá, {{{{ company }}}}!"}}
  queues:
    - name: Sales
      description: "of {{{{ company }}}}"
    - {{name: Support}}
instances:{instances}
"""

LISTED = """
  - instance: a
    vars: {company: Um}
  - instance: b
    vars: {company: Dois}
    queues: {items: [{name: Sales}, {name: Own}]}  # b's own"""


def change(name: str, path: tuple[str | int, ...], live: Value, *, field: str = "value") -> Edit:
    kind, _, rest = name.partition("/")
    return Edit(Key(kind, rest), field, path, "set", live, live)


COMPANY = ("config", "company_name")
LOCALE = ("config", "settings", "locale")
GREETING = ("config", "settings", "greeting")


def pulled(folder: Path, wanted: dict[str, tuple[Edit, ...]]) -> Edited:
    files, problems = read_manifest_files([str(folder)], None)
    assert problems == ()
    edited = Editor(files, (), {}).apply(wanted)
    for file in edited.files:
        Path(file.path).write_bytes(file.after)
    return edited


def lines_changed(edited: Edited) -> list[str]:
    """Returns the removed and added lines of all files."""
    found: list[str] = []
    for file in edited.files:
        before, after = file.before.decode().splitlines(), file.after.decode().splitlines()
        found += [f"-{line}" for line in before if line not in after]
        found += [f"+{line}" for line in after if line not in before]
    return found


def test_a_fleets_default_becomes_a_key_of_the_instance(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET.format(instances=LISTED))
    edited = pulled(
        tmp_path,
        {
            "a": (
                change("setting/locale", LOCALE, "en"),
                change("queue/Support", ("queues", "items", 1, "description"), "24 h", field="description"),
            ),
            "b": (change("queue/Own", ("queues", "items", 1, "is_active"), live=False, field="is_active"),),
        },
    )
    assert edited.left == {}
    assert lines_changed(edited) == [
        "-    queues: {items: [{name: Sales}, {name: Own}]}  # b's own",
        "+    config:",
        "+      settings:",
        "+        locale: en",
        "+    queues:",
        "+      - name: Sales",
        '+        description: "of {{ company }}"',
        "+      - name: Support",
        '+        description: "24 h"',
        "+    queues: {items: [{name: Sales}, {name: Own, is_active: false}]}  # b's own",
    ]


CSV = 'instance,company,city\r\na,Um,São Paulo\r\nb,"Dois, SA","Belo\r\nHorizonte"\r\nc,Tres,Rio\r\n'


def test_a_value_that_is_one_cell_of_a_csv_is_written_there(tmp_path: Path) -> None:
    text = FLEET.format(instances=" {csv: clients.csv}").replace('"Olá, {{ company }}!"', "Olá")
    text = text.replace('"of {{ company }}"', '"of {{ city }}"')
    (tmp_path / "fleet.yaml").write_text(text)
    (tmp_path / "clients.csv").write_bytes(CSV.encode())
    edited = pulled(
        tmp_path,
        {
            "b": (change("setting/company_name", COMPANY, "Dois, Ltda"),),
            "c": (change("setting/company_name", COMPANY, 'O "Três"'),),
        },
    )
    assert (edited.left, [Path(file.path).name for file in edited.files]) == ({}, ["clients.csv"])
    assert edited.files[0].after.decode() == CSV.replace("Dois, SA", "Dois, Ltda").replace("Tres", '"O ""Três"""')


def test_a_value_with_a_carriage_return_is_written_beside_its_cell(tmp_path: Path) -> None:
    """A cell's line break is read as a line feed, whatever the file's line ends are."""
    (tmp_path / "fleet.yaml").write_text(FLEET.format(instances=" {csv: clients.csv}"))
    (tmp_path / "clients.csv").write_bytes(CSV.encode())
    edited = pulled(tmp_path, {"a": (change("setting/company_name", COMPANY, "Um\r\nDois"),)})
    assert (edited.left, [Path(file.path).name for file in edited.files]) == ({}, ["fleet.yaml"])
    assert r"Um\r\nDois" in edited.files[0].after.decode()


COLUMNS = """\
version: 1
defaults:
  database: {url: {env: DATABASE_URL}}
  config:
    connect_api_url: {env: FIV_APP_API_URL}
    instance_key: {env: FIV_APP_API_KEY}
    check_interval_minutes: "{{ minutes | int }}"
    company_name: "{{ company }}"
    settings: {greeting: "Olá, {{ company }}!", code: "{{ code }}"}
instances: {csv: clients.csv}
"""
CODE = ("config", "settings", "code")
MINUTES = ("config", "check_interval_minutes")


def test_each_value_that_is_one_cell_is_written_there(tmp_path: Path) -> None:
    """Numbers too; a cell shared with others stays, and one whose new value suits all its users is changed."""
    (tmp_path / "fleet.yaml").write_text(COLUMNS)
    (tmp_path / "clients.csv").write_text("instance,company,code,minutes\na,Um,07,30\nb,Dois,08,45\n")
    hour = change("config/a", MINUTES, 60, field="check_interval_minutes")
    edited = pulled(
        tmp_path,
        {
            "a": (hour, change("setting/company_name", COMPANY, "Uno"), change("setting/code", CODE, "0800")),
            "b": (change("setting/company_name", COMPANY, "Due"), change("setting/greeting", GREETING, "Olá, Due!")),
        },
    )
    assert edited.left == {}
    assert lines_changed(edited) == [
        "+overrides:", "+  a:", "+    config:", "+      company_name: Uno",
        "-a,Um,07,30", "-b,Dois,08,45", "+a,Um,0800,60", "+b,Due,08,45",
    ]  # fmt: skip


@pytest.mark.parametrize("value", ['=HYPERLINK("https://evil.example")', "@SUM(A1)", "+A1", "-1+cmd|' /C calc'!A1"])
def test_no_formula_is_written_into_a_cell(tmp_path: Path, value: str) -> None:
    """Somebody opens the file in a spreadsheet, and the value is whatever is in the database."""
    (tmp_path / "fleet.yaml").write_text(COLUMNS)
    (tmp_path / "clients.csv").write_text("instance,company,code,minutes\na,Um,07,30\n")
    edited = pulled(
        tmp_path,
        {"a": (change("setting/company_name", COMPANY, value), change("setting/code", CODE, "+55 (11) 9999-0000"))},
    )
    changed = {Path(file.path).name: file.after.decode() for file in edited.files}
    assert (edited.left, changed["clients.csv"]) == (
        {},
        "instance,company,code,minutes\na,Um,+55 (11) 9999-0000,30\n",
    )
    assert yaml.safe_load(changed["fleet.yaml"])["overrides"] == {"a": {"config": {"company_name": value}}}


def test_one_of_many_that_can_not_be_made_keeps_no_other(tmp_path: Path) -> None:
    settings = "".join(f"    k{number}: {number}\n" for number in range(150))
    (tmp_path / "one.yaml").write_text(
        f"version: 1\ninstance: a\ndatabase: {{url: {{env: U}}}}\nconfig:\n  settings:\n{settings}"
    )
    lives: dict[int, Value] = {number: number + 1000 for number in range(150)} | {70: "a\x7f"}
    edits = tuple(change(f"setting/k{number}", ("config", "settings", f"k{number}"), lives[number]) for number in lives)
    edited = pulled(tmp_path, {"a": edits})
    ((left,),) = edited.left.values()
    assert (left.key.name, "cannot be stored" in left.reason) == ("k70", True)
    assert sum(line.startswith("+") for line in lines_changed(edited)) == 149


ANCHORS = """\
version: 1
instance: a
database: {url: {env: U}}
config:
  settings: {one: &x hi, two: *x, three: *x, four: 4}
  company_name: *x
"""


@pytest.mark.parametrize(
    ("changed", "line", "company"),
    [
        (("one",), "{one: new, two: &x hi, three: *x, four: 4}", "*x"),
        (("two",), "{one: &x hi, two: new, three: *x, four: 4}", "*x"),
        (("one", "two"), "{one: new, two: new, three: &x hi, four: 4}", "*x"),
        (("one", "two", "three"), "{one: new, two: new, three: new, four: 4}", "&x hi"),
    ],
)
def test_the_first_alias_left_takes_the_anchors_value(
    tmp_path: Path, changed: tuple[str, ...], line: str, company: str
) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(ANCHORS)
    edits = tuple(change(f"setting/{name}", ("config", "settings", name), "new") for name in changed)
    assert pulled(tmp_path, {"a": edits}).left == {}
    assert path.read_text().splitlines()[4:] == [f"  settings: {line}", f"  company_name: {company}"]


def test_an_anchor_of_several_lines_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(
        "version: 1\ninstance: a\ndatabase: {url: {env: U}}\n"
        "config:\n  settings:\n    one: &x\n      a: 1\n    two: *x\n"
    )
    edited = pulled(tmp_path, {"a": (change("setting/one", ("config", "settings", "one"), "ho"),)})
    assert edited.left == {
        "a": (Left(Key("setting", "one"), "value", "its value has the anchor &x, which is used elsewhere too"),)
    }


SHARED = """\
version: 1
defaults:
  database: {url: "embedded:{{ instance }}"}
  config: &base {settings: &all {one: 1, two: 2}}
  queues: [&sales {name: Sales, description: x}]
instances:
  - {instance: a, queues: [*sales]}
  - {instance: b, config: {<<: *base}}
  - instance: c
    config: {settings: {<<: *all, two: 3}}
overrides:
  c: {queues: [*sales]}
"""


def test_an_aliased_value_is_changed_where_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(SHARED)
    described = change("queue/Sales", ("queues", "items", 0, "description"), "y", field="description")
    one = change("setting/one", ("config", "settings", "one"), 5)
    edited = pulled(tmp_path, {"a": (described,), "b": (one,), "c": (described, one)})
    assert edited.left == {}
    assert lines_changed(edited) == [
        "-  - {instance: a, queues: [*sales]}",
        "-  - {instance: b, config: {<<: *base}}",
        "-    config: {settings: {<<: *all, two: 3}}",
        "-  c: {queues: [*sales]}",
        '+  - {instance: a, queues: [{name: Sales, description: "y"}]}',
        "+  - {instance: b, config: {<<: *base, settings: {one: 5, two: 2}}}",
        "+    config: {settings: {<<: *all, two: 3, one: 5}}",
        '+  c: {queues: [{name: Sales, description: "y"}]}',
    ]


def test_what_validate_would_refuse_is_left_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    before = "version: 1\ninstance: a\ndatabase: {url: {env: U}}\nadmin: {email: a@b.example, password: {env: P}}\n"
    path.write_text(before)
    edited = pulled(tmp_path, {"a": (change("admin/a@b.example", ("admin", "name"), "a\x07", field="name"),)})
    assert edited.left["a"][0].reason == "an escape in this text makes a character that cannot be stored"
    assert path.read_text() == before


@pytest.mark.parametrize("line", ["environment: production", "environment: {env: NODE_ENV, default: production}"])
def test_the_short_form_of_an_environment_becomes_the_long_one(tmp_path: Path, line: str) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(f"version: 1\ninstance: a\ndatabase: {{url: {{env: U}}}}\n{line}  # where\nsuspend: false\n")
    isolation = change("environment/a", ("environment", "isolation"), "enforced", field="isolation")
    assert pulled(tmp_path, {"a": (isolation,)}).left == {}
    name = line.removeprefix("environment: ")
    assert path.read_text().splitlines()[3] == f"environment: {{name: {name}, isolation: enforced}}  # where"


MERGED = """\
version: 1
defaults:
  database: {url: "embedded:{{ instance }}"}
  config: {settings: {opens: {day: 8, night: 20}, theme: dark}}
instances:
  - {instance: a}
"""


@pytest.mark.parametrize(
    ("name", "live", "said"),
    [
        ("theme", None, 'theme: "{{ none }}"'),
        ("opens", {"day": 9}, "opens: {day: 9, night: null}"),
        ("opens", {"day": None, "late": None}, 'opens: {day: "{{ none }}", late: null, night: null}'),
        ("opens", {}, "opens: {day: null, night: null}"),
    ],
)
def test_what_merges_with_a_default_is_written_so_that_it_fits(
    tmp_path: Path, name: str, live: Value, said: str
) -> None:
    (tmp_path / "one.yaml").write_text(MERGED)
    edited = pulled(tmp_path, {"a": (change(f"setting/{name}", ("config", "settings", name), live),)})
    assert edited.left == {}
    assert lines_changed(edited) == [
        "-  - {instance: a}",
        f"+  - {{instance: a, config: {{settings: {{{said}}}}}}}",
    ]


@pytest.mark.parametrize(
    ("settings", "rest"),
    [
        ('    ? "a\\nb"\n    : 1  # c\n    z: 2\n', "    z: 2\n"),
        ("    z: 2\n    ? |-\n      a\n      b\n    :\n      - 1\n", "    z: 2\n"),
        ("    z: {? 'a\n\n      b' : 1}\n    \"a\\nb\": {x: 1}\n", "    z: {? 'a\n\n      b' : 1}\n"),
    ],
)
def test_a_setting_whose_key_has_a_line_break_is_taken_out(tmp_path: Path, settings: str, rest: str) -> None:
    path = tmp_path / "one.yaml"
    head = "version: 1\ninstance: a\ndatabase: {url: {env: U}}\nconfig:\n  settings:\n"
    path.write_text(head + settings)
    gone = Edit(Key("setting", "a\nb"), "*", ("config", "settings", "a\nb"), "remove")
    assert pulled(tmp_path, {"a": (gone,)}).left == {}
    assert path.read_text() == head + rest


JSON = """\
{
  "version": 1, "instance": "a",
  "database": {"url": {"env": "DATABASE_URL"}},
  "config": {
    "connect_api_url": "embedded:", "instance_key": {"env": "FIV_APP_API_KEY"},
    "settings": {
      "locale": "pt-BR",
      "theme": "dark",
      "gone": true
    }
  },
  "queues": [
    {"name": "Sales"},
    {
      "name": "Night",
      "description": "22 h"
    }
  ]
}
"""
IN_JSON = [
    '-      "theme": "dark",',
    '-      "gone": true',
    '-    {"name": "Sales"},',
    '-      "description": "22 h"',
    '+      "theme": {',
    '+        "a": [',
    '+          "no",',
    "+          1",
    "+        ]",
    "+      }",
    '+    {"name": "Sales", "description": "by \\"hand\\"\\u2028"},',
    '+      "description": "22 h",',
    '+      "is_active": false',
    "+    },",
    '+    {"name": "New"}',
]


def test_a_manifest_in_json_stays_json(tmp_path: Path) -> None:
    path = tmp_path / "client.yaml"
    path.write_text(JSON)
    live = {"description": None, "is_active": True}
    new = Edit(Key("queue", "New"), "*", ("queues", "items"), "add", {"name": "New"}, live)
    gone = Edit(Key("setting", "gone"), "*", ("config", "settings", "gone"), "remove", None, None)
    edited = pulled(
        tmp_path,
        {
            "a": (
                change("setting/theme", ("config", "settings", "theme"), {"a": ["no", 1]}),
                gone,
                change("queue/Sales", ("queues", "items", 0, "description"), 'by "hand"\u2028', field="description"),
                change("queue/Night", ("queues", "items", 1, "is_active"), live=False, field="is_active"),
                new,
            )
        },
    )
    assert edited.left == {}
    assert lines_changed(edited) == IN_JSON
    assert json.loads(path.read_text())["queues"][2] == {"name": "New"}


def test_json_on_one_line_stays_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "client.yaml"
    path.write_text(json.dumps(json.loads(JSON)))
    gone = Edit(Key("setting", "gone"), "*", ("config", "settings", "gone"), "remove", None, None)
    edited = pulled(tmp_path, {"a": (gone, change("setting/locale", LOCALE, ["on", None]))})
    assert edited.left == {}
    expected = json.loads(JSON)
    expected["config"]["settings"] = {"locale": ["on", None], "theme": "dark"}
    assert path.read_text() == json.dumps(expected)


def test_surrogate_pairs_keep_no_value_from_being_written(tmp_path: Path) -> None:
    path = tmp_path / "client.yaml"
    document = {**json.loads(JSON), "config": {"connect_api_url": "embedded:", "instance_key": {"env": "K"},
                                               "settings": {"😀": "😀", "locale": "pt-BR"}}}  # fmt: skip
    path.write_text(json.dumps(document))
    assert "ud83d" in path.read_text()
    edited = pulled(tmp_path, {"a": (change("setting/😀", ("config", "settings", "😀"), "🤝 now"),)})
    assert edited.left == {}
    document["config"]["settings"]["😀"] = "🤝 now"
    assert json.loads(path.read_text()) == document
