"""Who may do what on the fleet's page: roles by the groups that an identity provider names. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

from reconciler.model.errors import FivrecError, UsageError
from reconciler.model.records import dataclass

_MAX_NAME = 120


class Role(IntEnum):
    """An operator may do what a viewer may, and check."""

    VIEWER = 1
    OPERATOR = 2


class NoRole(FivrecError):
    """The person is known, and in none of the groups that have a role."""

    code = "sso_no_role"


@dataclass(frozen=True, slots=True)
class Person:
    """Who signed in. `subject` is the provider's id of the person, `name` what the person may have chosen."""

    name: str
    subject: str
    issuer: str
    role: Role

    def __str__(self) -> str:
        """As access log and audit log name the person: the part that nobody chooses stands beside the name."""
        return f"{self.name} [{self.subject}] {self.issuer}"


@dataclass(frozen=True, slots=True)
class RoleRule:
    """`groups` has the groups of each role; `claim` is where an ID token names the person's."""

    groups: Mapping[Role, frozenset[str]]
    claim: str = "groups"

    def role_of(self, claims: Mapping[str, Any]) -> Role:
        """The highest role of the person's groups. NoRole if there is none."""
        held = set(_names(claims, self.claim))
        roles = [role for role, groups in self.groups.items() if held & groups]
        if not roles:
            raise NoRole(
                f"no group in the claim {self.claim} has a role here",
                hint="ask the people who run this server for a group",
            )
        return max(roles)


def rule_from_text(pairs: Sequence[str], claim: str) -> RoleRule:
    """`viewer=GROUP` and `operator=GROUP`, each repeatable. UsageError for anything else."""
    groups: dict[Role, frozenset[str]] = {}
    for pair in pairs:
        name, equals, group = pair.partition("=")
        if not equals or not group.strip() or name.upper() not in Role.__members__:
            raise UsageError(f'--role "{pair}" is not viewer=GROUP or operator=GROUP')
        role = Role[name.upper()]
        groups[role] = groups.get(role, frozenset()) | {group.strip()}
    return RoleRule(groups, claim)


def person_from(claims: Mapping[str, Any], issuer: str, rule: RoleRule) -> Person:
    """NoRole if no group of the person has a role."""
    subject = _printable(str(claims["sub"]))
    said = (claims.get(name) for name in ("name", "preferred_username", "email"))
    name = next((_printable(text) for text in said if isinstance(text, str) and _printable(text)), subject)
    try:
        role = rule.role_of(claims)
    except NoRole as exc:  # for the log: the operators have to know who needs a group
        raise NoRole(f"{name} [{subject}]: {exc.message}", hint=exc.hint) from None
    return Person(name, subject, issuer, role)


def _names(claims: Mapping[str, Any], claim: str) -> list[str]:
    """A list of texts, or one text. An address counts only if the provider says that it is verified."""
    value = claims.get(claim)
    if claim == "email" and claims.get("email_verified") is not True:
        return []
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _printable(text: str) -> str:
    """One line, bounded: it goes into logs."""
    return "".join(sign for sign in text if sign.isprintable())[:_MAX_NAME].strip()
