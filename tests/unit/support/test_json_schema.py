"""The manifest schema describes every key, and both validators agree on it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reconciler.manifest.fleet_document import REFERENCE_PATHS
from reconciler.support.json_schema.messages import Violation
from reconciler.support.json_schema.validate import first_problem, is_valid, load_schema, problems

SCHEMA = load_schema("manifest")

FULL: dict[str, Any] = {
    "version": 1,
    "instance": "client-abc-123",
    "labels": {"region": "br-south"},
    "vars": {"company": "x"},
    "database": {"url": {"env": "DATABASE_URL", "default": "embedded:"}, "create": True},
    "environment": {"name": {"env": "NODE_ENV", "default": "development"}, "isolation": "enforced"},
    "config": {
        "connect_api_url": {"env": "FIV_APP_API_URL"},
        "instance_key": {"env": "FIV_APP_API_KEY", "default": "embedded:"},
        "check_interval_minutes": 60,
        "company_name": "x",
        "settings": {"locale": "pt-BR", "any": [1, None, {"a": 1.5}]},
    },
    "admin": {
        "email": "admin@empresa.com",
        "password": {"env": "FIV_ADMIN_PASSWORD", "generate": True},
        "update_password": "always",
        "bcrypt_cost": 13,
    },
    "queues": {"items": [{"name": "Sales", "description": None, "is_active": False}], "unmanaged": "remove"},
    "plans": {
        "source": "manifest",
        "items": [{"id": "p", "name": "P", "price": 0, "billing_interval": "monthly", "max_users": None}],
    },
    "expect": {"status": "active", "billing_status": "paid", "enabled_features": {"chat": True}},
    "usage": {"report": True},
    "ignore": [{"field": "queue/Sales/description", "until": "2026-12-31", "reason": "x"}],
    "suspend": False,
}


def resolved(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the schema merged with what its $ref points to; its own keywords win."""
    reference = schema.get("$ref")
    return {**resolved(SCHEMA["$defs"][reference.rpartition("/")[2]]), **schema} if reference else dict(schema)


def keys(schema: Mapping[str, Any], path: str = "", seen: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields every key that a manifest may have, with its schema."""
    reference = str(schema.get("$ref", ""))
    if reference in seen:
        return
    seen = (*seen, reference) if reference else seen
    whole = resolved(schema)
    for name, child in whole.get("properties", {}).items():
        if "not" not in child:
            yield f"{path}/{name}", resolved(child)
            yield from keys(child, f"{path}/{name}", seen)
    for branch in (*whole.get("anyOf", ()), *(whole[word] for word in ("items", "then", "else") if word in whole)):
        yield from keys(branch, path, seen)


KEYS = dict(keys(SCHEMA))


def test_the_schema_is_a_schema() -> None:
    assert list(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(SCHEMA)) == []


def test_the_walk_finds_the_keys() -> None:
    assert {"/instance", "/admin/password/env", "/queues/unmanaged", "/plans/items/storage_limit"} <= KEYS.keys()
    assert {"/defaults/config/settings", "/instances/csv", "/instances/vars", "/environment/isolation"} <= KEYS.keys()


@pytest.mark.parametrize("path", KEYS)
def test_every_key_has_title_description_and_valid_examples(path: str) -> None:
    schema = KEYS[path]
    assert {"title", "description", "examples"} <= schema.keys()
    validator = Draft202012Validator({**schema, "$defs": SCHEMA["$defs"]})
    assert [list(validator.iter_errors(example)) for example in schema["examples"]] == [[]] * len(schema["examples"])
    if "default" in schema:
        assert list(validator.iter_errors(schema["default"])) == []


def test_no_mapping_takes_unknown_keys_but_those_that_are_free() -> None:
    free = {"labels", "vars", "settings", "enabled_features", "overrides"}
    for path, schema in KEYS.items():
        if schema.get("type") == "object":
            assert (schema["additionalProperties"] is False) is (path.rpartition("/")[2] not in free)


def test_a_fleet_merges_references_if_the_schema_has_them() -> None:
    places = {path[1 : -len("/file")] for path in KEYS if path.endswith("/file")}
    own = {path for path in places if path.partition("/")[0] not in ("defaults", "instances", "overrides")}
    assert {"database/url", "config/connect_api_url", "config/instance_key", "admin/password"} <= own
    own -= {"environment"}  # the short form of environment/name
    assert [path for path in own if not REFERENCE_PATHS.fullmatch(path)] == []


def without(path: str) -> dict[str, Any]:
    document = copy.deepcopy(FULL)
    *parents, last = path.split("/")
    inner = document
    for key in parents:
        inner = inner[key]
    del inner[last]
    return document


def with_value(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(FULL)
    *parents, last = path.split("/")
    inner: Any = document
    for key in parents:
        inner = inner[int(key) if isinstance(inner, list) else key]
    inner[int(last) if isinstance(inner, list) else last] = value
    return document


WRONG: list[tuple[dict[str, Any], Violation]] = [
    (without("version"), Violation("", '"version" is missing', "add version: …")),
    (
        with_value("version", 2),
        Violation(
            "version",
            "must be 1",
            "The version of the manifest format: the number 1, without quotes. A later version needs a later fivrec.",
        ),
    ),
    (with_value("instance", "a b"), Violation("instance", "is not a valid instance name", "such as client-abc-123")),
    (with_value("instance", 7), Violation("instance", "must be text, not a number", "such as client-abc-123")),
    (
        with_value("root:*:20228:0:99999:7::", None),
        Violation(
            "root:*:20228:0:99999:7::",
            "unknown key, which is no name",
            "known here: version, instance, labels, vars, database, environment, config, admin, queues, plans, expect, "
            "usage, ignore, suspend",
            of_key=True,
        ),
    ),
    (with_value("admn", {}), Violation("admn", 'unknown key "admn"', 'did you mean "admin"?', of_key=True)),
    (without("admin/email"), Violation("admin", '"email" is missing', "add email: …")),
    (
        with_value("admin/password", "hunter2"),
        Violation(
            "admin/password",
            "a secret must not stand in the manifest as plain text",
            "such as {env: FIV_ADMIN_PASSWORD, generate: true}",
        ),
    ),
    (
        with_value("config/instance_key", {"env": "A", "default": "hunter2"}),
        Violation("config/instance_key/default", 'must be "embedded:"', "embedded: if the reference yields nothing."),
    ),
    (
        with_value("database/url", {"env": "A", "file": "b"}),
        Violation(
            "database/url",
            "needs exactly one of env, file, command, vault, plugin",
            'such as {env: DATABASE_URL, default: "embedded:"}',
        ),
    ),
    (
        with_value("plans/source", "connect"),
        Violation("plans/items", '"items" does not fit here', "items goes with source: manifest"),
    ),
    (
        with_value("database/schema", "fivrec"),
        Violation("database/schema", "must be none of fivrec, pg_catalog, information_schema", "such as public"),
    ),
    (without("plans/items"), Violation("plans", '"items" is missing', "add items: …")),
    (with_value("plans/items/0/price", -1), Violation("plans/items/0/price", "must be at least 0")),
    (with_value("queues", [{}]), Violation("queues/0", '"name" is missing', "such as name: Technical Support")),
    (
        with_value("queues", "x"),
        Violation(
            "queues",
            "must be a list or a mapping, not text",
            "such as [{name: Technical Support, description: Suporte técnico}, {name: Sales}]",
        ),
    ),
    (with_value("config/check_interval_minutes", 0), Violation("config/check_interval_minutes", "must be at least 1")),
    (
        with_value("environment/name", "prod"),
        Violation("environment/name", "must be one of production, development"),
    ),
    (
        with_value("vars/instance", 1),
        Violation(
            "vars/instance",
            '"instance" is not a valid key here',
            "letters, digits and _ are, a letter first, and no word that templates know",
            of_key=True,
        ),
    ),
    (with_value("instance", "abc\n"), Violation("instance", "is not a valid instance name", "such as client-abc-123")),
    (with_value("ignore/0/until", "soon"), Violation("ignore/0/until", "is not a valid until", "such as 2026-12-31")),
]


@pytest.mark.parametrize(("document", "violation"), WRONG, ids=[wrong.path or "root" for _, wrong in WRONG])
def test_a_violation_is_explained_in_words(document: dict[str, Any], violation: Violation) -> None:
    assert problems("manifest#instance", document) == [violation]
    assert problems("manifest", document) == [violation]


def test_a_valid_document_has_no_problems() -> None:
    assert (is_valid("manifest", FULL), problems("manifest", FULL), first_problem("manifest", FULL)) == (True, [], "")


def test_the_first_problem_masks_unknown_keys() -> None:
    answer = {"instanceId": "a", "status": "active", "billingStatus": "paid", "enabledFeatures": {"hunter2": "hunter2"}}
    assert first_problem("connect/status", answer) == "enabledFeatures/*: does not fit the schema"
    plan = {"version": 1, "run_id": str(UUID(int=0)), "created_at": "2026-11-26T00:00:00Z", "fivrec": "0.2.0"}
    plan |= {"git_commit": None, "instances": [], "hunter2": 1}
    assert first_problem("plan", plan) == "it holds a key that the schema does not allow"
    assert first_problem("connect/status", answer, lambda key: key == "hunter2") == (
        "enabledFeatures/hunter2: must be true or false, not text"
    )
    assert first_problem("connect/status", {**answer, "status": 5, "enabledFeatures": {}}) == (
        "status: must be text, not a number"
    )


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"id": ""}, "0/id: must not be empty"),
        ({"name": "a\0b"}, "0/name: holds a NUL character"),
        ({"description": "\0"}, "0/description: holds a NUL character"),
        ({"features": [""]}, "0/features/0: must not be empty"),
    ],
)
def test_text_that_no_column_can_hold_is_explained(plan: dict[str, Any], said: str) -> None:
    (good, *_) = load_schema("connect/plans")["examples"][0]
    assert first_problem("connect/plans", [{**good, **plan}]) == said


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["env", "name", "items", "x"]), inner),
    max_leaves=5,
)
PATHS = [path.removeprefix("/") for path in KEYS if not path.startswith(("/defaults", "/instances"))]


@given(st.sampled_from([path for path in PATHS if path.count("/") <= 1]), VALUES)
def test_both_validators_give_one_verdict(path: str, value: Any) -> None:
    try:
        document = with_value(path, value)
    except (KeyError, TypeError, IndexError, ValueError):
        return
    reference = Draft202012Validator(SCHEMA).is_valid(document)
    assert is_valid("manifest", document) is reference
    assert (problems("manifest", document) == []) is reference


def test_one_librarys_refusal_stands_without_words_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.support.json_schema.validate.is_valid", lambda name, data: False)
    assert problems("manifest", FULL) == [Violation("", "does not fit the schema")]
    assert first_problem("manifest", FULL) == "does not fit the schema"


def test_what_nests_too_deep_for_words_is_refused() -> None:
    data: Any = {}
    for _ in range(900):
        data = [data]
    (found,) = problems("connect/status", data)
    assert (found.path, found.message) in (("", "nests too deep"), ("", "must be a mapping, not a list"))  # Python 3.13
