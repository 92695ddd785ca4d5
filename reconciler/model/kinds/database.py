"""kind database: the PostgreSQL database itself. It is created before the transaction and never changed or dropped."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.kinds.base import Document, Kind


def places(document: Document, name: str) -> Mapping[str, str]:  # noqa: ARG001 (the signature of a kind)
    return {"name": "database/url"}


KIND = Kind(name="database", order=0, fields=(), places=places)
