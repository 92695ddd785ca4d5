"""--limit: choose instances by name or label, with patterns like Ansible's. Pure."""

from __future__ import annotations

from collections.abc import Sequence, Set
from fnmatch import fnmatchcase

from reconciler.manifest.loader import Manifest
from reconciler.model.errors import UsageError


class NoneChosen(UsageError):
    """The patterns are well-formed, but match no instance."""


def select(manifests: Sequence[Manifest], patterns: Sequence[str]) -> tuple[Manifest, ...]:
    """The instances that any pattern matches: a glob of names, or `label=glob`. `!` before a pattern excludes, and
    wins; if all patterns exclude, all other instances are chosen. Raises UsageError if none is left, or a pattern is
    empty."""
    words = _words(patterns, _labels(manifests))
    including = [word for word in words if not word.startswith("!")]
    excluding = [word[1:] for word in words if word.startswith("!")]
    chosen = tuple(
        manifest
        for manifest in manifests
        if (not including or any(_fits(manifest, word) for word in including))
        and not any(_fits(manifest, word) for word in excluding)
    )
    if not chosen and words:
        raise NoneChosen(f"--limit {' '.join(words)[:100]} matches no instance", hint=_hint(manifests, including))
    return chosen


def may_choose(instance: str, patterns: Sequence[str]) -> bool:
    """Whether the patterns may choose an instance whose labels are unknown because its manifest is broken."""
    words = _words(patterns, frozenset())
    including = [word for word in words if not word.startswith("!")]
    excluded = any(fnmatchcase(instance, word[1:]) for word in words if word.startswith("!"))
    return not excluded and (not including or any("=" in word or fnmatchcase(instance, word) for word in including))


def unmatched(manifests: Sequence[Manifest], patterns: Sequence[str]) -> tuple[str, ...]:
    """Warnings about patterns that match none, and exclusions that exclude none."""
    words = dict.fromkeys(_words(patterns, _labels(manifests)))
    idle = [word for word in words if not any(_fits(manifest, word.removeprefix("!")) for manifest in manifests)]
    return tuple(
        f"--limit {word} excludes nothing" if word.startswith("!") else f"--limit {word} matches no instance"
        for word in idle
    )


def _labels(manifests: Sequence[Manifest]) -> Set[str]:
    return {f"{key}={value}" for manifest in manifests for key, value in manifest.labels.items()}


def _words(patterns: Sequence[str], labels: Set[str]) -> list[str]:
    return [word.strip() for pattern in patterns for word in _split(pattern, labels)]


def _split(pattern: str, labels: Set[str]) -> list[str]:
    """Split at commas, except within an existing label, whose value may contain a comma. An empty pattern, as from an
    unset variable, must not choose everything."""
    if pattern.strip().removeprefix("!") in labels:
        return [pattern]
    words = [word for word in pattern.split(",") if word.strip()]
    if not words or any(word.strip() == "!" for word in words):
        raise UsageError(
            f'--limit "{pattern[:60]}" names nothing',
            hint="is a variable in it not set? without --limit every instance is chosen",
        )
    return words


def _fits(manifest: Manifest, pattern: str) -> bool:
    label, equals, value = pattern.partition("=")
    if not equals:
        return fnmatchcase(manifest.instance, pattern)
    found = manifest.labels.get(label)
    return found is not None and (found == value or fnmatchcase(found, value))  # a value may look like a glob


def _hint(manifests: Sequence[Manifest], including: Sequence[str]) -> str:
    from difflib import get_close_matches

    names = sorted(manifest.instance for manifest in manifests)
    known = [*names, *sorted(_labels(manifests))]
    near = [name for word in including for name in get_close_matches(word, known, n=3)]
    if near:
        return f"did you mean {', '.join(dict.fromkeys(near))}?"
    more = ", …" if len(names) > 10 else ""  # noqa: PLR2004  a hint, not a list
    return f"instances are {', '.join(names[:10])}{more}"
