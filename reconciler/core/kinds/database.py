"""kind database: the PostgreSQL database itself. It is created before the transaction and never changed or dropped."""

from reconciler.core.kinds.kind import Kind

KIND = Kind(name="database", order=0, fields=())
