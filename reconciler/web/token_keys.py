"""The keys of `fivrec serve`'s tokens: from FIVREC_JWT_KEY, a file, or beside an embedded database. Signs nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from reconciler.model.errors import MissingSetting
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.support.crypto.key_files import named_files, split_keys, text_beside
from reconciler.support.file_stamps import Reread

VARIABLE = "FIVREC_JWT_KEY"
FILE_VARIABLE = "FIVREC_JWT_KEY_FILE"
FILE_NAME = "jwt.key"
MIN_BYTES = 32
"""RFC 7518, 3.2: a key of HS256 is at least as long as its hash."""

_FILE_LIMIT = 64 * 1024
_HINT = "make one with `fivrec key generate` and keep it where only fivrec reads it"


@dataclass(frozen=True, slots=True)
class TokenKey:
    """One key; its id goes into the tokens' header (kid) and reveals nothing of it."""

    id: str
    material: Secret


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """The first signs, all verify. `read` returns those that count now. `made` is the file of a key that was just
    created."""

    read: Callable[[], tuple[TokenKey, ...]]
    made: Path | None = None

    @property
    def keys(self) -> tuple[TokenKey, ...]:
        return self.read()

    def by_id(self, kid: object) -> TokenKey | None:
        return next((key for key in self.keys if key.id == kid), None)


def reread_token_keys(environ: Mapping[str, str], beside: Path | None, said: Callable[[str], None]) -> TokenKeys:
    """Like `load_token_keys`, for a server: files are read again when they change, and tokens that a removed key signed
    are no longer valid."""
    files = named_files(environ, FILE_VARIABLE)
    if not files:
        return load_token_keys(environ, beside)
    return TokenKeys(Reread(files, lambda: load_token_keys(environ, None).keys, said).value)


def load_token_keys(environ: Mapping[str, str], beside: Path | None) -> TokenKeys:
    """Raises MissingSetting (78) if there is no key, or one is shorter than 32 bytes. `beside`: the place where one is
    created if needed."""
    text = environ.get(VARIABLE, "")
    files = named_files(environ, FILE_VARIABLE)
    keys = [*_parse(text, VARIABLE)]
    for name in files:
        keys += _parse(_read(name), f"{FILE_VARIABLE}, {name}")
    if keys:
        known = tuple({key.id: key for key in keys}.values())
        return TokenKeys(lambda: known)
    if text.strip() or files or beside is None:
        raise MissingSetting(f"no key for tokens: neither {VARIABLE} nor {FILE_VARIABLE} holds one", hint=_HINT)
    path = beside / FILE_NAME
    text, made = text_beside(path, VARIABLE)
    found = _parse(text, str(path))
    if not found:
        raise MissingSetting(f"{path} holds no key", hint=f"remove it, and a new one is made; or set {VARIABLE}")
    return TokenKeys(lambda: found, path if made else None)


def _parse(text: str, where: str) -> tuple[TokenKey, ...]:
    return tuple(_key(word, number, where) for number, word in enumerate(split_keys(text), start=1))


def _key(word: str, number: int, where: str) -> TokenKey:
    material = word.encode("utf-8", "surrogateescape")
    if len(material) < MIN_BYTES:
        raise MissingSetting(f"{where}: key {number} has less than {MIN_BYTES} bytes", hint=_HINT)
    return TokenKey(hashlib.sha256(b"fivrec jwt " + material).hexdigest()[:8], Secret(word))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_FILE_LIMIT).decode("utf-8", "surrogateescape")
    except OSError as exc:
        raise MissingSetting(f"{FILE_VARIABLE}: {path} can't be read: {exc.strerror}", hint=_HINT) from exc
