"""Permissions on the fleet's page: roles by the groups that an identity provider names. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

from reconciler.model.errors import FivrecError, UsageError
from reconciler.model.records import dataclass

_MAX_NAME = 120
_SHOWN = 5


class Role(IntEnum):
    """An operator may do everything that a viewer may, and also check."""

    VIEWER = 1
    OPERATOR = 2


class NoRole(FivrecError):
    """The person is known, but in none of the groups that have a role."""

    code = "sso_no_role"


@dataclass(frozen=True, slots=True)
class Person:
    """Who signed in. `subject` is the provider's id of the person, `name` what the person may have chosen."""

    name: str
    subject: str
    issuer: str
    role: Role

    def __str__(self) -> str:
        """The person in access log and audit log: the id, which nobody chooses, is beside the name."""
        return f"{self.name} [{self.subject}] {self.issuer}"


@dataclass(frozen=True, slots=True)
class RoleRule:
    """`groups` has the groups of each role; `claim` is the ID token's claim with the person's groups."""

    groups: Mapping[Role, frozenset[str]]
    claim: str = "groups"

    def role_of(self, claims: Mapping[str, Any]) -> Role:
        """The highest role of the person's groups. Raises NoRole, naming what the token has instead, if there is
        none."""
        held = _names(claims, self.claim)
        roles = [role for role, groups in self.groups.items() if groups.intersection(held)]
        if not roles:
            raise NoRole(self._why_none(claims, held), hint=self._what_to_do(held))
        return max(roles)

    def _why_none(self, claims: Mapping[str, Any], held: Sequence[str]) -> str:
        elsewhere = claims.get("_claim_names")
        if isinstance(elsewhere, Mapping) and self.claim in elsewhere:  # OpenID Connect Core, 5.6.2
            return f"the ID token has too many {self.claim} to name them, as Entra ID does beyond 200: use app roles"
        if self.claim not in claims:
            return f"the ID token has no claim {self.claim}"
        if self.claim == "email" and not held:
            return "the provider does not say that the address is verified"
        more = f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else ""
        named = ", ".join(f'"{_printable(name)}"' for name in held[:_SHOWN]) or "no group"
        return f"none of the claim {self.claim} has a role here; it has {named}{more}"

    def _what_to_do(self, held: Sequence[str]) -> str:
        known = frozenset().union(*self.groups.values())
        if any(name.startswith("/") and name.rpartition("/")[2] in known for name in held):
            return "the provider names groups by their paths: write --role with the path, or turn Full group path off"
        return "give the person a group that --role names, or change --oidc-groups-claim (fivrec docs sign-in)"


def rule_from_text(pairs: Sequence[str], claim: str) -> RoleRule:
    """`viewer=GROUP` and `operator=GROUP`, each repeatable. Raises UsageError for anything else."""
    groups: dict[Role, frozenset[str]] = {}
    for pair in pairs:
        name, equals, group = pair.partition("=")
        if not equals or not group.strip() or name.upper() not in Role.__members__:
            raise UsageError(f'--role "{pair}" is not viewer=GROUP or operator=GROUP')
        role = Role[name.upper()]
        groups[role] = groups.get(role, frozenset()) | {group.strip()}
    return RoleRule(groups, claim)


def person_from(claims: Mapping[str, Any], issuer: str, rule: RoleRule) -> Person:
    """Raises NoRole if no group of the person has a role."""
    subject = _printable(str(claims["sub"]))
    said = (claims.get(name) for name in ("name", "preferred_username", "email"))
    name = next((_printable(text) for text in said if isinstance(text, str) and _printable(text)), subject)
    try:
        role = rule.role_of(claims)
    except NoRole as exc:  # for the log: operators have to know who needs a group
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
    """One line of limited length, because it goes into logs."""
    return "".join(sign for sign in text if sign.isprintable())[:_MAX_NAME].strip()
