"""kind database: the PostgreSQL database itself, created before the transaction, never changed or dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.model.kinds.base import Document, ExportSpec, Kind
from reconciler.model.types import Resource, Value


def places(document: Document, name: str) -> Mapping[str, str]:  # noqa: ARG001 (the signature of a kind)
    return {"name": "database/url"}


def export(rows: Sequence[Resource], about: ExportSpec) -> dict[str, Value]:  # noqa: ARG001 (the signature of a kind)
    database: dict[str, Value] = {"url": about.reference("DATABASE_URL")}
    return {"database": database if about.schema == "public" else {**database, "schema": about.schema}}


KIND = Kind(name="database", order=0, fields=(), places=places, export=export)
