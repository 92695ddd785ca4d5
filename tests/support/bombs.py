"""Hostile YAML, generated on demand. `python bombs.py NAME` reads one and prints what that cost."""

from __future__ import annotations

import io
import json
import resource
import sys
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import yaml

from reconciler.manifest.loader import load_manifests
from reconciler.manifest.yaml.parser import MAX_BYTES as M
from reconciler.manifest.yaml.parser import YamlFile
from reconciler.model.errors import ManifestError

T = TypeVar("T")


def lines(template: bytes, numbers: Iterable[int]) -> bytes:
    """Returns one line per number, which replaces each %d."""
    return b"".join(template % ((number,) * template.count(b"%d")) + b"\n" for number in numbers)


def laughs() -> bytes:
    first = b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    return first + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 20))


def merges() -> bytes:
    first = b"a0: &a0 {x: 1}\n"
    return first + b"".join(b"a%d: &a%d {<<: [*a%d, *a%d]}\n" % (n, n, n - 1, n - 1) for n in range(1, 40))


def deep_aliases() -> bytes:
    def level(inner: bytes) -> bytes:
        return b"[" * 90 + inner + b"]" * 90 + b"\n"

    return b"a0: &a0 " + level(b"x") + b"".join(b"a%d: &a%d " % (n, n) + level(b"*a%d" % (n - 1)) for n in range(1, 50))


def long_paths() -> bytes:
    return (b"{? " + b"k" * 250 + b" : ") * 99 + b"[" + b"1," * 200_000 + b"]" + b"}" * 99


BOMBS: dict[str, Callable[[], bytes]] = {
    "brackets": lambda: b"[" * (M - 1),
    "dashes": lambda: b"- " * (M // 2),
    "maps": lambda: b"{a: " * (M // 4 - 1),
    "items": lambda: b"- 1\n" * (M // 4),
    "keys": lambda: lines(b"a%d: 1", range(700_000)),
    "duplicates": lambda: b"a: 1\n" * (M // 5),
    "documents": lambda: b"---\n" * (M // 4),
    "anchors": lambda: lines(b"- &a%d 1", range(500_000)),
    "one anchor": lambda: b"- &a 1\n" * (M // 7),
    "tag directives": lambda: lines(b"%%TAG !a%d! x", range(400_000)),
    "a long number": lambda: b"a: 1:" + b"1:" * (M // 2 - 10),
    "a long key": lambda: b"? " + b"a" * (M - 10) + b"\n: 1",
    "a long scalar": lambda: b"a: " + b"x" * (M - 10),
    "long paths": long_paths,
    "laughs": laughs,
    "merges": merges,
    "deep aliases": deep_aliases,
    "too large": lambda: b"#" * (M + 1),
}
HEAD = b"version: 1\ninstance: a\n"


def inherited() -> bytes:
    defaults = b"version: 1\ndefaults: {config: {settings: {x: [" + b"1," * 4000 + b"]}}}\ninstances:\n"
    return defaults + b"".join(b"- {instance: i%d}\n" % n for n in range(10_000))


def rendered_in_turn() -> bytes:
    first = HEAD + b"vars:\n  v0: [x, x, x, x, x, x, x, x, x]\n"
    names = [b", ".join([b"v%d" % n] * 9) for n in range(30)]
    return first + b"".join(b"  v%d: '{{ [%s] }}'\n" % (n, names[n - 1]) for n in range(1, 30))


MANIFEST_BOMBS: dict[str, Callable[[], bytes]] = {
    "queues that are none": lambda: HEAD + b"queues:\n" + b"- {}\n" * 80_000,
    "unknown keys": lambda: HEAD + lines(b"k%d: 1", range(120_000)),
    "yes and no": lambda: HEAD + b"vars:\n" + lines(b"  k%d: no", range(120_000)),
    "undefined names": lambda: HEAD + b"config:\n  settings:\n" + lines(b"    k%d: '{{ x }}'", range(100_000)),
    "many templates": lambda: HEAD + b"config:\n  settings:\n" + lines(b"    k%d: '{{ %d ~ 1 }}'", range(100_000)),
    "values rendered in turn": rendered_in_turn,
    "large defaults": inherited,
    "one error in all instances": lambda: (
        b"version: 1\ndefaults: {admn: 1}\ninstances:\n" + lines(b"- {instance: i%d, queues: []}", range(9_000))
    ),
    "an error in each document": lambda: lines(b"---\nversion: 1\ninstance: i%d\nqeues: []", range(9_000)),
}
HARMLESS = frozenset({"a long scalar", "long paths"})
"""Large, but within all limits."""


def read(text: bytes) -> int:
    """Returns how many problems are found by reading the text, or by loading it as a manifest."""
    if sys.argv[1] in BOMBS:
        return len(YamlFile("x.yaml", text).read()[1])
    try:
        load_manifests(["-"], environ={}, stdin=io.BytesIO(text))
    except ManifestError as exc:
        return len(exc.problems)
    return 0


def cpu_of(work: Callable[[], T]) -> tuple[float, T]:
    """Returns the seconds of CPU that the work took, and its result."""
    start = time.process_time()
    done = work()
    return time.process_time() - start, done


def main() -> None:
    """Print whether the bomb was refused, its CPU as a multiple of what PyYAML takes for 120,000 keys, and its MB."""
    text = {**BOMBS, **MANIFEST_BOMBS}[sys.argv[1]]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, problems = cpu_of(lambda: read(text))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    plain = lines(b"k%d: 1", range(30_000))
    unit, _ = cpu_of(lambda: yaml.load(plain, yaml.CSafeLoader))
    json.dump([problems > 0, seconds / (4 * unit), grown // 1024], sys.stdout)


if __name__ == "__main__":
    main()
