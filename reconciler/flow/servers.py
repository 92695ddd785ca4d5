"""The embedded PostgreSQL servers that manifests ask for: started on need, shared, stopped after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from reconciler.core.model import ConnectTarget, DatabaseSpec, Desired, Managed
from reconciler.core.secret import Secret

PREFIX = "embedded:"


def embedded_folder(desired: Desired, work_dir: Path) -> Path | None:
    """The folder of the embedded server that this manifest names; None where it names another server."""
    url = desired.database.url.reveal()
    if not url.startswith(PREFIX):
        return None
    path = url.removeprefix(PREFIX)
    return Path(path) if path else work_dir / "postgres"


def embedded_folders(desired: Sequence[Desired], work_dir: Path) -> tuple[Path, ...]:
    """The folders of all embedded servers that are needed, each once."""
    return tuple(sorted({folder for item in desired if (folder := embedded_folder(item, work_dir))}))


@contextmanager
def local_servers(desired: Sequence[Desired], work_dir: Path, *, dry: bool = False) -> Iterator[tuple[Desired, ...]]:
    """Start the servers, and give the manifests with real URLs and database names in place.

    A dry run makes no new server: one that was never made has no database, and its URL stays as it is.
    """
    with ExitStack() as stack:
        servers = {}
        for folder in embedded_folders(desired, work_dir):
            from reconciler.adapters.embedded import embedded_server, is_initialised

            if not dry or is_initialised(folder):
                servers[folder] = stack.enter_context(embedded_server(folder))
        yield tuple(_placed(_keyed(item, work_dir), servers, work_dir) for item in desired)


def _keyed(item: Desired, work_dir: Path) -> Desired:
    """The key that the embedded Connect issues to this instance, where the manifest leaves it to it."""
    target = item.connect
    if target is None or target.instance_key is not None or not target.api_url.startswith(PREFIX):
        return item
    from reconciler.adapters.connect import embedded_key

    key = embedded_key(target, item.instance, work_dir)
    managed = {
        name: _with_key(declared, key) if name == "config" else declared for name, declared in item.managed.items()
    }
    return replace(item, connect=ConnectTarget(target.api_url, key), managed=managed)


def _with_key(declared: Managed, key: Secret) -> Managed:
    resources = tuple(replace(one, fields={**one.fields, "instance_key": key}) for one in declared.resources)
    return replace(declared, resources=resources)


def _placed(item: Desired, servers: dict, work_dir: Path) -> Desired:  # type: ignore[type-arg]
    folder = embedded_folder(item, work_dir)
    if folder is None:
        from reconciler.adapters.postgres import database_name

        return replace(item, database_name=database_name(item.database.url))
    from reconciler.adapters.embedded import embedded_database_name

    name = embedded_database_name(item.instance)
    if folder not in servers:
        return replace(item, database_name=name)
    spec = DatabaseSpec(servers[folder].url(name), item.database.create)
    return replace(item, database=spec, database_name=name)
