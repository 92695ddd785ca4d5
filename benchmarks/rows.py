"""Checks that contenders left the same rows. Reads databases; writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from instances import Fleet, Instance
from measure import BenchmarkError, Contender
from server import Server

# A rewritten row has another xmin, even with the same content.
UNTOUCHED = ("users", "queues", "plans", "settings")
STAMP = (
    "SELECT json_build_object("
    + ", ".join(
        f"'{table}', (SELECT md5(coalesce(string_agg(t.xmin || t::text, '|' ORDER BY t::text), '')) FROM {table} t)"
        for table in UNTOUCHED
    )
    + ", 'instance_config', (SELECT md5(string_agg((to_jsonb(t) - 'last_status_check')::text, '|'))"
    " FROM instance_config t)), (SELECT count(*) FROM status_check_logs WHERE success)"
)

CONTENT = """
SELECT json_build_object(
  'users', (SELECT json_agg(json_build_array(name, email, role, environment, password LIKE '$2_$12$%')
            ORDER BY email) FROM users),
  'queues', (SELECT json_agg(json_build_array(name, description, is_active, environment) ORDER BY name) FROM queues),
  'plans', (SELECT json_agg(to_jsonb(p) - 'created_at' ORDER BY id) FROM plans p),
  'settings', (SELECT json_agg(json_build_array(key, value) ORDER BY key) FROM settings),
  'config', (SELECT json_agg(json_build_array(connect_api_url, status, billing_status, enabled_features::jsonb,
            check_interval_minutes, is_locked, last_status_check IS NOT NULL)) FROM instance_config),
  'checks', (SELECT json_agg(json_build_array(check_type, success, status_received)) FROM status_check_logs))
"""


@dataclass(frozen=True, slots=True)
class Stamp:
    """One instance's rows: digests by table, including the writing transactions, and how many checks were recorded."""

    digests: Mapping[str, str]
    checks: int


def read_stamps(server: Server, fleet: Fleet) -> dict[str, Stamp]:
    def read(one: Instance) -> tuple[str, Stamp]:
        with server.connect(one.database) as conn:
            digests, checks = _single(conn.execute(STAMP).fetchone())
            return one.name, Stamp(digests, checks)

    with ThreadPoolExecutor(4) as pool:
        return dict(pool.map(read, fleet.instances))


class Ledger:
    """What each instance should hold by now: a new check for every run, and no other change.

    Databases are read after a contender's first run and at the end; in between, runs are only counted.
    """

    def __init__(self, server: Server, fleet: Fleet) -> None:
        self.server = server
        self.fleet = fleet
        self.stamps = read_stamps(server, fleet)
        self.owed = {one.name: 0 for one in fleet.instances}
        self.seen: set[str] = set()

    def record(self, contender: Contender) -> None:
        """Record that a run over the fleet's first `contender.work` instances ended. pgbench has a database of its
        own."""
        if contender.name.startswith("pgbench"):
            return
        for one in self.fleet.instances[: contender.work]:
            self.owed[one.name] += 1
        if contender.name not in self.seen:
            self.seen.add(contender.name)
            self.verify(contender.name)

    def verify(self, who: str = "a later run") -> None:
        """Raises BenchmarkError if an instance holds anything else: then different work was measured."""
        now = read_stamps(self.server, self.fleet)
        for name, owed in self.owed.items():
            was, has = self.stamps[name], now[name]
            touched = [table for table, digest in has.digests.items() if was.digests[table] != digest]
            if touched:
                raise BenchmarkError(f"{who} rewrote rows of {', '.join(touched)} in {name}: that was no no-op")
            if has.checks != was.checks + owed:
                raise BenchmarkError(f"{who}: {name} has {has.checks - was.checks} new checks, not {owed}")
        self.stamps, self.owed = now, dict.fromkeys(self.owed, 0)


def read_content(server: Server, one: Instance) -> dict[str, Any]:
    """Returns an instance's rows without what may differ between equal ones: generated ids, hashes, keys, times."""
    with server.connect(one.database) as conn:
        content: dict[str, Any] = _single(conn.execute(CONTENT).fetchone())[0]
        return content


def require_same(contents: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises BenchmarkError unless every contender's first apply left what the first one's did."""
    first, *others = contents
    for other in others:
        for table, rows in contents[first].items():
            if contents[other][table] != rows:
                raise BenchmarkError(f"{table}: {first} left {rows}, {other} left {contents[other][table]}")


def _single(row: tuple[Any, ...] | None) -> tuple[Any, ...]:
    if row is None:
        raise BenchmarkError("a query that always gives a row gave none")
    return row
