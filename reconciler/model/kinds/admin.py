"""kind admin: the administrator, a row of users with role admin, known by its email."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reconciler.model.errors import DatabaseError
from reconciler.model.kinds.base import Breach, Document, ExportSpec, Kind, Matches, Section, literal, matching_by
from reconciler.model.names import same_name
from reconciler.model.secret import Unusable
from reconciler.model.types import Applied, FormerPolicy, Key, Managed, Resource, Value


def from_manifest(document: Document) -> Managed | None:
    admin = document.get("admin")
    if not admin:
        return None
    on_create = frozenset({"password"} if admin["update_password"] == "on_create" else ())  # noqa: S105 (a policy)
    resource = Resource(
        Key("admin", admin["email"]),
        {"name": admin["name"], "password": admin.get("password"), "role": "admin"},
        on_create=on_create,
        renamed_from=admin.get("renamed_from"),
    )
    return Managed((resource,), former=admin.get("former", "keep"))


def take_back(row: Resource, last: Applied, policy: FormerPolicy) -> Mapping[str, Value]:  # noqa: ARG001
    """Restores the role from before the promotion; an administrator that fivrec created becomes an agent."""
    role = last.before.get("role", "agent")
    return {"role": role, "password": Unusable()} if policy == "lock" else {"role": role}


def places(document: Document, name: str) -> Mapping[str, str]:  # noqa: ARG001 (the signature of a kind)
    return {"name": "admin/name", "password": "admin/password"}


def folded(email: str) -> str:
    """Returns the email in lower case, as people mean it: two that differ only in case are the same."""
    return same_name(email).lower()


def match(desired: Sequence[Resource], observed: Sequence[Resource]) -> Matches:
    """Match by email. Also raises `ambiguous` if several rows have exactly that email (its unique index is missing)."""
    matches = _match(desired, observed)
    for key, row in matches.items():
        if row.twins:
            raise DatabaseError(
                f"{key} could be any of {len(row.twins) + 1} users of that email",
                hint="merge or remove all but one by hand; `fivrec diff --deep` names a unique key that is missing",
                code="ambiguous",
            )
    return matches


_match = matching_by(folded)


def breaches(document: Document) -> Iterator[Breach]:
    admin = document.get("admin")
    if admin is not None and "email" in admin and admin.get("renamed_from") == admin["email"]:
        yield Breach("admin/renamed_from", "renamed_from is the email itself", "take renamed_from out")


def names(document: Document) -> Iterator[tuple[str, str]]:
    admin = document.get("admin") or {}
    for key in ("name", "email"):
        if key in admin:
            yield f"admin/{key}", admin[key]


def export(rows: Sequence[Resource], about: ExportSpec) -> dict[str, Value]:
    """Exports one administrator: the one that was declared, else the one that fivrec finds first."""
    for row in sorted(rows, key=lambda row: row.key not in about.declared):
        if row.fields.get("role") == "admin" and not row.fields.get("other_environment"):
            return {
                "admin": {
                    "name": literal(row.fields["name"]),
                    "email": literal(row.key.name),
                    "password": {**about.reference("FIV_ADMIN_PASSWORD"), "generate": True},
                    "update_password": "on_create",
                }
            }
    return {}


KIND = Kind(
    name="admin",
    order=5,
    fields=("name", "password", "role"),
    sensitive={"password": "bcrypt"},
    renamed_field="email",
    folded=folded,
    match=match,
    per_environment=True,
    from_manifest=from_manifest,
    places=places,
    remembered=True,
    table="users",
    section=Section("admin", "admin"),
    breaches=breaches,
    names=names,
    export=export,
    take_back=take_back,
)
