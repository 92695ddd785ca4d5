"""What 10,000 to 1,000,000 instances need, from measured costs per instance. Prints docs/scale.md's table.

python benchmarks/scale_sim.py --interval 60 --turn-ms 25 --worker-cpu-ms 12
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

SIZES = (10_000, 100_000, 1_000_000)
BUSY = 0.6
"""The share of any capacity that is planned for: the rest is for retries, rollouts and a failed machine."""
CONNECTIONS_EACH = 5
"""A worker's connections to the queue: four for statements, one that listens."""
MIB = 1024


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of one cycle, in ms, and of one loaded manifest. `turn` is how long it takes, mostly waiting for Connect
    and the database; the others are processor time."""

    turn: float
    worker_cpu: float
    database_cpu: float
    queue_per_s: float
    load_us: float
    load_kib: float
    queue_connections: int


@dataclass(frozen=True, slots=True)
class Needs:
    instances: int
    rate: float
    workers: int
    at_once: int
    database_cores: int
    queues: int
    connections: int
    load_s: float
    load_mib: float


def needs(instances: int, interval_min: float, costs: Costs) -> Needs:
    rate = instances / (interval_min * 60)
    workers = max(2, math.ceil(rate * costs.worker_cpu / 1000 / BUSY))
    connections = workers * CONNECTIONS_EACH
    by_rate = math.ceil(rate / (costs.queue_per_s * BUSY))
    by_connections = math.ceil(connections / (costs.queue_connections * BUSY))
    return Needs(
        instances,
        rate,
        workers,
        math.ceil(rate * costs.turn / 1000),
        max(1, math.ceil(rate * costs.database_cpu / 1000 / BUSY)),
        max(by_rate, by_connections),
        connections,
        instances * costs.load_us / 1e6,
        instances * costs.load_kib / MIB,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interval", type=float, action="append", help="minutes; repeatable")
    parser.add_argument("--turn-ms", type=float, default=64)
    parser.add_argument("--worker-cpu-ms", type=float, default=12)
    parser.add_argument("--database-cpu-ms", type=float, default=8.2)
    parser.add_argument("--queue-per-s", type=float, default=200)
    parser.add_argument("--load-us", type=float, default=163)
    parser.add_argument("--load-kib", type=float, default=7.7)
    parser.add_argument("--queue-connections", type=int, default=500)
    given = vars(parser.parse_args())
    intervals = given.pop("interval") or [60, 5]
    keys = ("turn_ms", "worker_cpu_ms", "database_cpu_ms", "queue_per_s", "load_us", "load_kib", "queue_connections")
    costs = Costs(*(given[key] for key in keys))
    columns = "interval,instances,turns/s,workers,at once,database cores,queues,connections to queues,load s,load MiB"
    print(f"| {columns.replace(',', ' | ')} |")
    print("| --- " * 10 + "|")
    for interval in intervals:
        for instances in SIZES:
            it = needs(instances, interval, costs)
            print(
                f"| {interval:g} min | {instances:,} | {it.rate:.1f} | {it.workers} | {it.at_once}"
                f" | {it.database_cores} | {it.queues} | {it.connections} | {it.load_s:.0f} | {it.load_mib:,.0f} |"
            )


if __name__ == "__main__":
    main()
