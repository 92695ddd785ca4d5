"""Roles by groups, the name in the logs, and links to manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconciler.model.errors import UsageError
from reconciler.model.types import Desired, Origin
from reconciler.web.fleet_items import SourceLinks
from reconciler.web.roles import NoRole, Role, person_from, rule_from_text

RULE = rule_from_text(("viewer=staff", "viewer=guests", "operator=a=b"), "groups")


@pytest.mark.parametrize(
    ("groups", "role"),
    [(["staff"], Role.VIEWER), ("guests", Role.VIEWER), (["a=b", "staff"], Role.OPERATOR), (["staff", 7], Role.VIEWER)],
)
def test_the_highest_role_of_the_groups_counts(groups: Any, role: Role) -> None:
    assert RULE.role_of({"groups": groups}) is role


@pytest.mark.parametrize("groups", [None, [], "", ["Staff"], ["staff "], {"staff": True}, 1, True, [["staff"]]])
def test_anything_else_is_no_role(groups: Any) -> None:
    with pytest.raises(NoRole):
        RULE.role_of({"groups": groups})


@pytest.mark.parametrize("pair", ["viewer", "viewer=", "admin=x", "=x", "viewer= "])
def test_a_role_that_is_none_is_refused(pair: str) -> None:
    with pytest.raises(UsageError):
        rule_from_text((pair,), "groups")


def test_a_name_is_one_line_and_the_subject_stands_beside_it() -> None:
    claims = {"sub": "u\n1", "name": "A\u202eb\x1b[0m" + "x" * 500, "groups": ["staff"]}
    text = str(person_from(claims, "https://id.example", RULE))
    assert text == f"Ab[0m{'x' * 115} [u1] https://id.example"
    assert person_from({"sub": "u1", "groups": "staff", "name": ""}, "i", RULE).name == "u1"


@pytest.mark.parametrize(
    ("url", "origin", "link"),
    [
        ("https://g/x/blob/main/", Origin("m/a b.yaml", 3), "https://g/x/blob/main/m/a%20b.yaml#L3"),
        ("https://g/x?path={path}&line={line}", Origin("a.yaml", 3), "https://g/x?path=a.yaml&line=3"),
        ("https://g/x", Origin("fleet.yaml", 3, row="clients.csv:22"), "https://g/x/clients.csv#L22"),
        ("https://g/x", Origin("../elsewhere.yaml", 1), None),
        ("https://g/x", Origin("/etc/passwd", 1), None),
    ],
)
def test_a_link_leads_into_the_repository_alone(url: str, origin: Origin, link: str | None) -> None:
    desired = object.__new__(Desired)
    object.__setattr__(desired, "origin", origin)
    assert SourceLinks(url, str(Path.cwd())).link(desired.origin.declared_at) == link
