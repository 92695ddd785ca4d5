"""The embedded PostgreSQL servers that manifests ask for: started on demand, shared, stopped at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import EMBEDDED, ConnectTarget, Desired, Managed, is_embedded

if TYPE_CHECKING:
    from reconciler.database.embedded.server import EmbeddedServer


def embedded_folder(desired: Desired, work_dir: Path) -> Path | None:
    """The folder of the embedded server in this manifest; None if it names another kind of server."""
    url = desired.database.url.reveal()
    if not is_embedded(url):
        return None
    path = url.removeprefix(EMBEDDED)
    return Path(path) if path else work_dir / "postgres"


def embedded_folders(desired: Sequence[Desired], work_dir: Path) -> tuple[Path, ...]:
    return tuple(sorted({folder for item in desired if (folder := embedded_folder(item, work_dir))}))


@dataclass(slots=True)
class LocalServers:
    """The servers started so far. Each has an exit stack of its own within `stack`, which stops them all."""

    stack: ExitStack
    work_dir: Path
    dry: bool = False
    servers: dict[Path, EmbeddedServer] = field(default_factory=dict)
    _stacks: dict[Path, ExitStack] = field(default_factory=dict)

    def place(self, item: Desired) -> Desired:
        """Returns the manifest with its real URL and database name. Starts the server if it does not run, or no longer
        runs."""
        folder = embedded_folder(item, self.work_dir)
        if folder is not None and not (folder in self.servers and self.servers[folder].is_running):
            self._start(folder)
        return _placed(_keyed(item, self.work_dir, dry=self.dry), self.servers, self.work_dir)

    def _start(self, folder: Path) -> None:
        from reconciler.database.embedded.server import embedded_server, is_initialised

        if self.dry and not is_initialised(folder):
            return
        if folder in self._stacks:
            self._stacks[folder].close()  # of the server that died
        self._stacks[folder] = own = self.stack.enter_context(ExitStack())
        self.servers[folder] = own.enter_context(embedded_server(folder))


@contextmanager
def local_servers(work_dir: Path, *, dry: bool = False) -> Iterator[LocalServers]:
    """Servers that are started on demand and stopped afterwards.

    A dry run creates no server: an embedded server that was never created has no database, and its URL stays
    unresolved. A dry run does not issue a key at the embedded Connect either.
    """
    with ExitStack() as stack:
        yield LocalServers(stack, work_dir, dry)


def _keyed(item: Desired, work_dir: Path, *, dry: bool) -> Desired:
    """The key that the embedded Connect issues to this instance, if the manifest asks for one."""
    target = item.connect
    if target is None or target.instance_key is not None or not is_embedded(target.api_url):
        return item
    from reconciler.connect.client import embedded_key

    key, new = embedded_key(target, item.instance, work_dir, dry=dry)
    managed = {
        name: _with_key(declared, key) if name == "config" else declared for name, declared in item.managed.items()
    }
    return replace(item, connect=ConnectTarget(target.api_url, key), managed=managed, issued_new=new)


def _with_key(declared: Managed, key: Secret) -> Managed:
    resources = tuple(replace(one, fields={**one.fields, "instance_key": key}) for one in declared.resources)
    return replace(declared, resources=resources)


def _placed(item: Desired, servers: Mapping[Path, EmbeddedServer], work_dir: Path) -> Desired:
    folder = embedded_folder(item, work_dir)
    if folder is None:
        if not item.database.url:  # a command that only asks Connect
            return item
        from reconciler.support.conninfo import database_name

        return replace(item, database_name=database_name(item.database.url))
    from reconciler.database.embedded.server import embedded_database_name

    name = embedded_database_name(item.instance)
    if folder not in servers:
        return replace(item, database_name=name)
    url, written = servers[folder].url(name), item.database.url.reveal()
    return replace(
        item, database=replace(item.database, url=url, provision_url=None, embedded=written), database_name=name
    )
