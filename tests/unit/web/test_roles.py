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


WHY_NONE = {
    "Keycloak with paths": (
        {"groups": ["/fiv/staff", "/x"]},
        'none of the claim groups has a role here; it has "/fiv/staff", "/x"',
        "the provider names groups by their paths: write --role with the path, or turn Full group path off",
    ),
    "Entra, too many": (
        {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph"}}},
        "the ID token has too many groups to name them, as Entra ID does beyond 200: use app roles",
        "",
    ),
    "Entra, by ids": (
        {"groups": [f"6b1a-{number}" for number in range(7)]},
        'none of the claim groups has a role here; it has "6b1a-0", "6b1a-1", "6b1a-2", "6b1a-3", "6b1a-4" and 2 more',
        "",
    ),
    "Google": ({"email": "a@b.example", "email_verified": True}, "the ID token has no claim groups", ""),
    "nobody's group": ({"groups": []}, "none of the claim groups has a role here; it has no group", ""),
}


@pytest.mark.parametrize("name", WHY_NONE)
def test_the_log_says_what_the_token_has_instead_of_a_group(name: str) -> None:
    claims, message, hint = WHY_NONE[name]
    with pytest.raises(NoRole) as caught:
        RULE.role_of(claims)
    usual = "give the person a group that --role names, or change --oidc-groups-claim (fivrec docs sign-in)"
    assert (caught.value.message, caught.value.hint) == (message, hint or usual)


def test_an_address_counts_only_if_it_is_verified() -> None:
    rule = rule_from_text(("viewer=ana@example.com",), "email")
    claims = {"email": "ana@example.com", "email_verified": True}
    assert rule.role_of(claims) is Role.VIEWER
    for said in (False, "true", None, 1):
        with pytest.raises(NoRole, match="the provider does not say that the address is verified"):
            rule.role_of({**claims, "email_verified": said})


@pytest.mark.parametrize("pair", ["viewer", "viewer=", "admin=x", "=x", "viewer= "])
def test_an_unknown_role_is_refused(pair: str) -> None:
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
