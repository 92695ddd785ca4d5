"""Any drift of any fleet, pulled: each value is written where it is declared, or into a key that overrides it."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.manifest.editing import Editor
from reconciler.manifest.files import ManifestFile, read_manifest_files
from reconciler.manifest.loader import Manifest, load_files
from reconciler.model.kinds import BY_NAME, KINDS
from reconciler.model.kinds.base import literal
from reconciler.model.types import Key, Value, canonical
from reconciler.planning.pull import Edit, expected, steps

EXAMPLES = int(os.environ.get("FIVREC_PROPERTY_EXAMPLES", "20"))
COLUMNS = {"company": "Empresa", "text": "uma", "minutes": "30"}
TEXTS = ("x", "08", "no", "a: b", "{{ x }}", "1e3", " s ", "a\nb", "#", "-", "é")
VALUES = (*TEXTS, 5, None, False, 2.5, [], {}, {"k": 2}, {"a": [1, {"b": "{{ x }}"}]}, {"m": None, "k": {"q": None}})
SETTINGS = ("pt", "{{ text }}", "{{ company }}", 3, True, {"a": [1, {"b": 2}], "k": 1, "m": {"x": 1, "y": 2}})
DESCRIPTIONS = ("Vendas", "{{ instance }}", "{{ text }}", "{{ company }}!")


def queues(r: random.Random) -> Any:
    items = [
        {"name": name, **({"description": r.choice(DESCRIPTIONS)} if r.random() < 0.6 else {})}
        for name in r.sample(("Sales", "Support", "Night"), r.randint(1, 3))
    ]
    return items if r.random() < 0.6 else {"items": items, "unmanaged": r.choice(("keep", "deactivate"))}


def config(r: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if r.random() < 0.6:
        found["check_interval_minutes"] = r.choice((5, "{{ minutes | int }}"))
    if r.random() < 0.8:
        names = r.sample(("locale", "theme", "z z"), r.randint(1, 3))
        found["settings"] = {key: deepcopy(r.choice(SETTINGS)) for key in names}  # pull skips a map that has an anchor
    return found


def own(r: random.Random) -> dict[str, Any]:
    parts = {
        "config": config(r), "queues": queues(r), "admin": {"name": "Own"}, "vars": {"company": "Outra"},
    }  # fmt: skip
    return {name: part for name, part in parts.items() if part and r.random() < 0.4}


def fleet(r: random.Random) -> tuple[str, str]:
    """A fleet document, and the CSV file that it may name."""
    shared = {"connect_api_url": {"env": "A"}, "instance_key": {"env": "K"}}
    defaults = {
        "database": {"url": {"env": "URL_{{ instance }}"}}, "environment": "production", "vars": dict(COLUMNS),
        "config": {**shared, **config(r)}, "queues": queues(r),
        "admin": {"email": "a@{{ instance }}.com", "name": "{{ company }}", "password": {"env": "P"}},
    }  # fmt: skip
    columns = r.sample(sorted(COLUMNS), r.randint(0, 3))
    table = [["instance", *columns], *([name, *(COLUMNS[column] for column in columns)] for name in "abc")]
    listed = [{"instance": name, **own(r)} for name in "abc"]
    if r.random() < 0.5:
        listed[1]["queues"] = defaults["queues"]  # the same object: an alias in the text
    instances = {"csv": "c.csv"} if r.random() < 0.5 else listed
    overrides = {name: part for name in "abc" if (part := own(r)) and r.random() < 0.5}
    document = {"version": 1, "defaults": defaults, "instances": instances, "overrides": overrides}
    text = yaml.safe_dump(
        document, sort_keys=False, allow_unicode=True, default_flow_style=r.choice((True, False, None))
    )
    return text, "".join(",".join(row) + "\n" for row in table)


def declared(manifest: Manifest) -> dict[Key, Mapping[str, Value]]:
    managed = [kind.from_manifest(manifest.document) for kind in KINDS]
    return {resource.key: resource.fields for one in managed if one for resource in one.resources}


def drift(r: random.Random, manifest: Manifest) -> tuple[Edit, ...]:
    """What others may have done to rows that the manifest declares."""
    edits: list[Edit] = []
    for key, fields in declared(manifest).items():
        places = BY_NAME[key.kind].places(manifest.document, key.name)
        names = {"setting": "value", "queue": "description", "admin": "name", "config": "check_interval_minutes"}
        name = names.get(key.kind, "")
        if key.kind in ("setting", "queue") and r.random() < 0.15:
            first = steps(next(iter(places.values())))
            edits.append(Edit(key, "*", first if key.kind == "setting" else first[:-1], "remove"))
        elif name in places and r.random() < 0.5:
            live = r.randint(61, 99) if key.kind == "config" else r.choice(VALUES if key.kind == "setting" else TEXTS)
            if canonical(live) != canonical(fields.get(name)):
                edits.append(Edit(key, name, steps(places[name]), "set", literal(live), live))
    if r.random() < 0.2:
        row: Value = {"description": None, "is_active": True}
        edits.append(Edit(Key("queue", "New"), "*", ("queues", "items"), "add", {"name": "New"}, row))
    return tuple(edits)


def loaded(folder: Path) -> tuple[tuple[ManifestFile, ...], dict[str, Manifest]]:
    files, problems = read_manifest_files([str(folder)], None)
    assert problems == ()
    return tuple(files), {one.instance: one for one in load_files(files, variables=(), environ={})}


@settings(max_examples=EXAMPLES, deadline=None)
@given(r=st.randoms(use_true_random=False))
def test_a_fleets_manifests_say_all_that_was_pulled(r: random.Random) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text, table = fleet(r)
        (folder / "fleet.yaml").write_text(text, encoding="utf-8")
        (folder / "c.csv").write_text(table, encoding="utf-8")
        files, before = loaded(folder)
        wanted = {name: edits for name, one in before.items() if (edits := drift(r, one))}
        edited = Editor(files, (), {}).apply(wanted)
        assert edited.left == {}
        for file in edited.files:
            Path(file.path).write_bytes(file.after)
        _, after = loaded(folder)
        for instance, one in before.items():
            target = expected(declared(one), wanted.get(instance, ()))
            said = {key: canonical(dict(fields)) for key, fields in declared(after[instance]).items()}
            assert said == {key: canonical(dict(fields)) for key, fields in target.items()}
