"""Where encryption keys come from: variables, files, or one made beside an embedded database. Encrypts nothing."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from reconciler.model.errors import MissingSetting
from reconciler.support.crypto.keyring import KEY_BYTES, EncryptionKey, KeyRing
from reconciler.support.file_stamps import Reread
from reconciler.support.files import write_private

VARIABLE = "FIVREC_ENCRYPTION_KEY"
FILE_VARIABLE = "FIVREC_ENCRYPTION_KEY_FILE"
FILE_NAME = "encryption.key"
_FILE_LIMIT = 64 * 1024
_HINT = "make one with `fivrec key generate` and keep it where only fivrec reads it"


def generate_key() -> str:
    """A new key as the variables take it: base64url of 32 random bytes."""
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def is_set(environ: Mapping[str, str]) -> bool:
    """Whether the environment names keys; they may be malformed."""
    return any(environ.get(name) for name in (VARIABLE, FILE_VARIABLE))


def load_keys(environ: Mapping[str, str], embedded_dir: Path | None) -> tuple[tuple[EncryptionKey, ...], Path | None]:
    """The keys named, those of the variable before those of the files, and the path of one made just now."""
    keys = list(_parse(environ.get(VARIABLE, ""), VARIABLE))
    for path in _named_files(environ):
        found = _parse(_read(path), f"{FILE_VARIABLE}, {path}")
        if not found:
            raise MissingSetting(f"{FILE_VARIABLE}: {path} holds no key", hint=_HINT)
        keys += found
    if keys:
        return tuple(dict.fromkeys(keys)), None
    if embedded_dir is None:
        raise MissingSetting(f"no encryption key: neither {VARIABLE} nor {FILE_VARIABLE} is set", hint=_HINT)
    return _beside(embedded_dir)


def reread_ring(environ: Mapping[str, str], said: Callable[[str], None]) -> KeyRing:
    """The ring of the keys that the environment names, its files read again when they change; for services.

    MissingSetting if there is no key, or one is malformed, at first.
    """
    files = _named_files(environ)
    return (
        RereadRing(Reread(files, lambda: load_keys(environ, None)[0], said)) if files else KeyRing.from_environ(environ)
    )


class RereadRing(KeyRing):
    """A key that is put in front encrypts from then on; one that is taken out decrypts no more."""

    __slots__ = ("_source",)
    _source: Reread[tuple[EncryptionKey, ...]]

    def __init__(self, source: Reread[tuple[EncryptionKey, ...]]) -> None:
        object.__setattr__(self, "_source", source)
        object.__setattr__(self, "made", None)

    @property
    def keys(self) -> tuple[EncryptionKey, ...]:
        return self._source.value()


def exposed_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The key files named that the group or others may read, each once. What is no regular file is the caller's own
    affair: a pipe of the shell's has the mode that it has."""
    return tuple(path for path in dict.fromkeys(_named_files(environ)) if _is_exposed(path))


def _named_files(environ: Mapping[str, str]) -> list[Path]:
    return [Path(name.strip()) for name in environ.get(FILE_VARIABLE, "").split(",") if name.strip()]


def _is_exposed(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # ValueError: a NUL in its name
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o044)


def _parse(text: str, where: str) -> tuple[EncryptionKey, ...]:
    words = [word for part in text.split(",") for word in part.split()]
    return tuple(_key(word, number, where) for number, word in enumerate(words, start=1))


def _key(word: str, number: int, where: str) -> EncryptionKey:
    malformed = MissingSetting(f"{where}: key {number} is not base64url of {KEY_BYTES} bytes", hint=_HINT)
    try:
        padded = word.rstrip("=") + "=" * (-len(word.rstrip("=")) % 4)
        material = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        # The cause would quote a part of the key.
        raise malformed from None
    if len(material) != KEY_BYTES:
        raise malformed
    return EncryptionKey(material)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_LIMIT + 1)
        if len(content) <= _FILE_LIMIT:
            return content.decode("ascii")
    except OSError as exc:
        raise MissingSetting(f"{FILE_VARIABLE}: {path} can't be read: {exc.strerror}", hint=_HINT) from exc
    except UnicodeDecodeError:
        pass
    raise MissingSetting(f"{FILE_VARIABLE}: {path} holds no keys", hint=_HINT) from None


def _beside(folder: Path) -> tuple[tuple[EncryptionKey, ...], Path | None]:
    """The key beside an embedded database."""
    path = folder / FILE_NAME
    text, made = text_beside(path, VARIABLE)
    keys = _parse(text, str(path))
    if not keys:
        raise MissingSetting(f"{path} holds no key", hint=f"put the key back, or set {VARIABLE}")
    return keys, path if made else None


def text_beside(path: Path, variable: str) -> tuple[str, bool]:
    """A key file beside an embedded database, and whether it was made just now. It appears whole or not at all, also
    when two runs make it at once."""
    made = False
    try:
        if not path.exists():
            made = _make(path)
        return path.read_text(encoding="ascii"), made
    except OSError as exc:
        raise MissingSetting(f"{path} can't be made or read: {exc.strerror}", hint=f"set {variable}") from exc


def _make(path: Path) -> bool:
    # As root the embedded server runs as another user, who must get through this folder; what is in it is 0600.
    path.parent.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    try:
        write_private(path, generate_key() + "\n", exclusive=True)
    except FileExistsError:
        return False
    return True
