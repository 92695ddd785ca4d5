"""`python3 benchmarks/run.py WORK…`: set up, run the contenders in turn, print the tables, clean up.

Any Python will do: the contenders run in an environment made for them, like a user's (see own_environment.py).

Works: one, help, fleet, far, pooled, first, rows, scale, soak; all means every one of them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import own_environment
import table
from measure import BenchmarkError, launcher

if TYPE_CHECKING:
    from works.bench import Bench

WORKS = ("one", "help", "fleet", "far", "pooled", "first", "rows", "scale", "soak")
ROOT = Path(__file__).parents[1]


def main() -> int:
    given = _arguments()
    own_environment.enter()
    works = WORKS if "all" in given.works else tuple(dict.fromkeys(given.works))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    outcomes: list[table.Outcome] = []
    machine: dict[str, Any] = {}
    try:
        with ExitStack() as stack:
            bench, machine = _set_up(stack, given)
            for work in works:
                print(f"== {work}", file=sys.stderr, flush=True)
                outcomes.append(importlib.import_module(f"works.{work}").run(bench))
    except BenchmarkError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    finally:
        if outcomes:
            print(table.markdown(outcomes))
    if given.docs:
        table.write_into(given.docs, outcomes, machine)
    if given.json:
        given.json.write_text(json.dumps(table.as_json(outcomes, machine), indent=2) + "\n")
    return 0


def _set_up(stack: ExitStack, given: argparse.Namespace) -> tuple[Bench, dict[str, Any]]:
    # The caller's Python may lack these modules; this environment has them.
    from certificate import make
    from contenders import Peers
    from instances import ground
    from peers import install
    from server import fast_folder, server
    from works.bench import Bench, connect_stub

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fivrec-bench-", dir=fast_folder())))
    database = stack.enter_context(server(given.connections))
    certificate = make(folder)
    connect = stack.enter_context(connect_stub(certificate=certificate))
    laid = stack.enter_context(ground(database, connect.url, given.schema.resolve(), folder, connect.trust))
    peers = Peers(None, None) if given.no_peers else Peers(install.install("ansible"), install.install("pyinfra"))
    started = stack.enter_context(launcher(folder))
    bench = Bench(
        laid, connect, started, peers, given.fivrec.absolute(), given.rounds, given.count, given.seconds, given.keep
    )
    machine = {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "postgresql": database.version,
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()), file=sys.stderr)
    return bench, machine


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="+", choices=(*WORKS, "all"), metavar="WORK")
    parser.add_argument("-n", dest="count", type=int, help="instances, where the work's own number does not suit")
    parser.add_argument("--rounds", type=int, default=7, help="counted runs of each contender")
    parser.add_argument("--seconds", type=float, default=10, help="pooled: how long a loop is watched")
    parser.add_argument("--keep", type=int, default=1000, help="pooled: connections that are kept open")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--docs", type=Path, help="write the tables between the marks of this page")
    parser.add_argument("--no-peers", action="store_true", help="leave Ansible and pyinfra out")
    parser.add_argument("--fivrec", type=Path, default=Path(sys.executable).parent / "fivrec")
    parser.add_argument("--schema", type=Path, default=ROOT / "sql" / "database-setup-script.sql")
    parser.add_argument("--connections", type=int, default=1200, help="max_connections of the server")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
