"""References that installed packages add by the entry point group `fivrec.secrets`: `{NAME: VALUE}`.

An entry point's name is the reference's key; it leads to `fetch(value, folder)`, which returns the text, or None if
there is none. In a normalised document such a reference is `{plugin: [NAME, VALUE]}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from reconciler.model.errors import SourceError

GROUP: Final = "fivrec.secrets"
KNOWN: Final = frozenset({"env", "file", "command", "vault", "plugin", "generate", "default", "name"})
PLACES: Final = (
    ("environment", "name"),
    ("database", "url"),
    ("database", "provision_url"),
    ("config", "connect_api_url"),
    ("config", "instance_key"),
    ("admin", "password"),
)
"""Where references are allowed, apart from the company's settings."""


def fetch(name: str, value: str, folder: Path) -> str | None:
    """Returns what the package returns. The message of a LookupError is shown, other errors only by type: they may
    quote the secret."""
    entry = _installed().get(name)
    if entry is None:
        raise SourceError(f"no installed package reads {name} references", f"install the one that adds {name}")
    try:
        text = entry.load()(value, folder)
    except LookupError as exc:
        raise SourceError(f"{name} can't read {value}: {exc.args[0] if exc.args else 'it is not there'}", "") from None
    except Exception as exc:  # noqa: BLE001  somebody else's code: whatever it raises is this reference's failure
        raise SourceError(f"{name} can't read {value}: {type(exc).__name__}", "see its documentation") from None
    if text is not None and not isinstance(text, str):
        raise SourceError(f"{name} gives no text for {value}", "see its documentation")
    return text or None


def normalise_plugins(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The document with `{plugin: [NAME, VALUE]}` for each `{NAME: VALUE}` of an installed package. Changed parts are
    copied, because the instances of a fleet share them."""
    document = dict(raw)
    for path in (*PLACES, *_settings(document)):
        _rewrite(document, path)
    return document


def _settings(document: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    config = document.get("config")
    settings = config.get("settings") if isinstance(config, dict) else None
    for key, value in settings.items() if isinstance(settings, dict) else ():
        if isinstance(value, dict) and len(value) == 1 and isinstance(value.get("secret"), dict):
            yield ("config", "settings", key, "secret")


def _rewrite(document: dict[str, Any], path: tuple[str, ...]) -> None:
    found: Any = document
    for step in path:
        found = found.get(step) if isinstance(found, dict) else None
    named = normalise_plugin(found)
    if named is found:
        return
    node = document
    for step in path[:-1]:
        node[step] = dict(node[step])
        node = node[step]
    node[path[-1]] = named


def normalise_plugin(found: Any, beside: frozenset[str] = frozenset()) -> Any:
    """`{plugin: [NAME, VALUE]}` for `{NAME: VALUE}` of an installed package; the same object if it is none. `beside`:
    keys that may stand there, too."""
    names = [name for name in found if name not in KNOWN | beside] if isinstance(found, dict) else []
    if len(names) != 1 or names[0] not in _installed():
        return found
    (name,) = names
    return {"plugin": [name, found[name]], **{key: value for key, value in found.items() if key != name}}


@cache
def _installed() -> Mapping[str, Any]:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP)}
