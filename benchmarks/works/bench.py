"""What every work uses: server, Connect, launcher, the contenders' programs, and the number of rounds."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.request import urlopen

import contenders
from certificate import Certificate
from contenders import Peers
from instances import Fleet, Ground
from measure import BenchmarkError, Contender, Launcher, Result, in_turn
from rows import Ledger
from server import CPU, Server
from table import Line, ratio

HERE = Path(__file__).parents[1]
HANDSHAKES, RESUMED = "handshakes", "resumed"
CONNECT_AWAY_S, DATABASE_AWAY_S = 0.04, 0.01
"""Round trips of the far setting: Connect belongs to another company, the database to one's own."""


@dataclass(frozen=True, slots=True)
class Stub:
    """A running stub of Connect; `trust` are the variables that make clients trust it."""

    url: str
    trust: Mapping[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, float]:
        context = ssl.create_default_context(cafile=self.trust["SSL_CERT_FILE"]) if self.trust else None
        with urlopen(f"{self.url}/counts", context=context) as answer:
            counted = json.load(answer)
        return {HANDSHAKES: counted["connections"], RESUMED: counted["resumed"]}


@dataclass(frozen=True, slots=True)
class Bench:
    ground: Ground
    connect: Stub
    launcher: Launcher
    peers: Peers
    program: Path
    rounds: int
    count: int | None
    seconds: float
    keep: int

    def has(self, command: str = "") -> bool:
        return contenders.offers(self.program, command)

    def meter(self) -> Mapping[str, float]:
        cpu = self.ground.server.cpu()
        return self.connect.counts() | ({} if cpu is None else {CPU: cpu})


@contextmanager
def connect_stub(*words: str, certificate: Certificate | None = None) -> Iterator[Stub]:
    """Run a stub of Connect as a separate process, with TLS if there is a certificate."""
    tls = ("--cert", str(certificate.cert), "--key", str(certificate.key)) if certificate else ()
    with _listening("stub.py", *tls, *words) as port:
        if certificate is None:
            yield Stub(f"http://127.0.0.1:{port}")
        else:
            yield Stub(f"https://127.0.0.1:{port}", certificate.environment)


@contextmanager
def far_away(ground: Ground) -> Iterator[Ground]:
    """Yields the same ground, with Connect and the database behind a slow network."""
    port = ground.connect_url.rpartition(":")[2]
    with (
        _listening("delay.py", f"127.0.0.1:{port}", str(CONNECT_AWAY_S)) as connect,
        _listening("delay.py", f"{ground.server.host}:{ground.server.port}", str(DATABASE_AWAY_S)) as database,
    ):
        scheme = ground.connect_url.partition(":")[0]
        server: Server = replace(ground.server, host="127.0.0.1", port=database)
        yield replace(ground, server=server, connect_url=f"{scheme}://127.0.0.1:{connect}")


@contextmanager
def _listening(script: str, *words: str) -> Iterator[int]:
    """Start one of the benchmarks' servers. Yields its port; it ends when its stdin closes."""
    command = [sys.executable, str(HERE / script), *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        said = process.stdout.readline().split() if process.stdout else []
        if len(said) != 2:
            raise BenchmarkError(f"{script} did not start")
        yield int(said[1])
    finally:
        if process.stdin:
            process.stdin.close()
        process.wait()


def settle(bench: Bench, fleet: Fleet) -> bool:
    """Let fivrec take the fleet over, so that the next apply is a no-op. Returns False if fivrec can't apply (yet)."""
    if not bench.has("apply"):
        return False
    apply = contenders.fivrec(bench.program, "apply", str(fleet.manifest), "-o", "json", env=fleet.env)
    print(f"fivrec takes over {len(fleet)} instances …", file=sys.stderr, flush=True)
    bench.launcher.run(apply)
    return True


def compare(
    bench: Bench, fleet: Fleet, found: Sequence[Contender | None], rounds: int | None = None
) -> tuple[Result, ...]:
    """Run no-ops in turn; a program that did different work than the others ends the benchmark."""
    ledger = Ledger(bench.ground.server, fleet)
    there = [one for one in found if one]
    results = in_turn(bench.launcher, there, rounds or bench.rounds, after=ledger.record, meter=bench.meter)
    ledger.verify()
    return results


def lines(results: Sequence[Result], beside: Result | None, *, by: Callable[[Result], float]) -> tuple[Line, ...]:
    """Returns a table's lines; the ratios are to `beside`."""
    return tuple(
        Line(
            result.contender.name + (f" ({result.contender.work} instances)" if result.contender.work > 1 else ""),
            result.seconds,
            result.rate,
            result.memory,
            "" if beside is None else f"{ratio(by(result), by(beside)):.2f} ×",
            result.cpu,
            server_cpu(result),
            result.other(HANDSHAKES),
        )
        for result in results
    )


def server_cpu(result: Result | None) -> float | None:
    """Returns PostgreSQL's CPU seconds per instance."""
    cost = None if result is None else result.other(CPU)
    return None if result is None or cost is None else cost / result.contender.work


def best_bare(results: Sequence[Result]) -> Result:
    return max((result for result in results if result.contender.name.startswith("bare")), key=lambda one: one.rate)


def named(results: Sequence[Result], name: str) -> Result | None:
    return next((result for result in results if result.contender.name.startswith(name)), None)


def seconds(result: Result | None) -> float | None:
    return None if result is None else result.seconds


def rate(result: Result | None) -> float | None:
    return None if result is None else result.rate


def peers_note(bench: Bench, few: Fleet) -> tuple[str, ...]:
    there = [name for name, venv in (("Ansible", bench.peers.ansible), ("pyinfra", bench.peers.pyinfra)) if venv]
    return (f"{' and '.join(there)} did {len(few)} of the instances.",) if there else ()
