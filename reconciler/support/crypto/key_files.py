"""Where encryption keys come from: variables, files, or one made beside an embedded database. Encrypts nothing."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from reconciler.model.errors import MissingSetting
from reconciler.model.records import dataclass
from reconciler.support.files import ConfinedFileError, keep_out_of_git, read_regular, write_private

KEY_BYTES = 32
KEY_ID_DIGITS = 8
VARIABLE = "FIVREC_ENCRYPTION_KEY"
FILE_VARIABLE = "FIVREC_ENCRYPTION_KEY_FILE"
FILE_NAME = "encryption.key"
_FILE_LIMIT = 64 * 1024
_HINT = (
    "set the key that fivrec had before (if it is lost: `fivrec docs keys`); before the first apply make one with "
    "`fivrec key generate` and keep it where only fivrec reads it"
)


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    """One key of 32 bytes, known by the first 8 hex digits of its SHA-256."""

    material: bytes

    @property
    def id(self) -> str:
        return hashlib.sha256(self.material).hexdigest()[:KEY_ID_DIGITS]

    def __repr__(self) -> str:
        return f"EncryptionKey({self.id})"

    def subkey(self, purpose: str) -> bytes:
        """HKDF-SHA256 (RFC 5869) without salt, one block: keys for different purposes reveal nothing of each other."""
        extracted = hmac.digest(bytes(hashlib.sha256().digest_size), self.material, "sha256")
        return hmac.digest(extracted, f"fivrec {purpose}".encode() + b"\x01", "sha256")


def generate_key() -> str:
    """Returns a new key in the variables' format: base64url of 32 random bytes."""
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()


def is_set(environ: Mapping[str, str]) -> bool:
    """Whether the environment names keys; they may be malformed."""
    return any(environ.get(name) for name in (VARIABLE, FILE_VARIABLE))


def load_keys(environ: Mapping[str, str], embedded_dir: Path | None) -> tuple[tuple[EncryptionKey, ...], Path | None]:
    """Returns the named keys, the variable's before the files', and the path of a key that was just made, if any."""
    keys = list(_parse(environ.get(VARIABLE, ""), VARIABLE))
    for path in named_files(environ):
        found = _parse(_read(path), f"{FILE_VARIABLE}, {path}")
        if not found:
            raise MissingSetting(f"{FILE_VARIABLE}: {path} holds no key", hint=_HINT)
        keys += found
    if keys:
        return tuple(dict.fromkeys(keys)), None
    if embedded_dir is None:
        raise MissingSetting(f"no encryption key: neither {VARIABLE} nor {FILE_VARIABLE} is set", hint=_HINT)
    return _key_beside(embedded_dir)


def exposed_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Returns the named key files that the group or others may read, each once. Only regular files count: a pipe of the
    shell's has the mode that it has."""
    return tuple(path for path in dict.fromkeys(named_files(environ)) if _is_exposed(path))


def named_files(environ: Mapping[str, str], variable: str = FILE_VARIABLE) -> list[Path]:
    """Returns the files that a variable names, separated by commas."""
    return [Path(name.strip()) for name in environ.get(variable, "").split(",") if name.strip()]


def split_keys(text: str) -> list[str]:
    """Returns the keys in a variable or a file, separated by commas or white space."""
    return [word for part in text.split(",") for word in part.split()]


def _is_exposed(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # ValueError: a NUL in its name
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o044)


def _parse(text: str, where: str) -> tuple[EncryptionKey, ...]:
    return tuple(_key(word, number, where) for number, word in enumerate(split_keys(text), start=1))


def _key(word: str, number: int, where: str) -> EncryptionKey:
    malformed = MissingSetting(f"{where}: key {number} is not base64url of {KEY_BYTES} bytes", hint=_HINT)
    try:
        padded = word.rstrip("=") + "=" * (-len(word.rstrip("=")) % 4)
        material = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        # The cause would quote part of the key.
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


def _key_beside(folder: Path) -> tuple[tuple[EncryptionKey, ...], Path | None]:
    path = folder / FILE_NAME
    text, made = text_beside(path, VARIABLE)
    keys = _parse(text, str(path))
    if not keys:
        raise MissingSetting(f"{path} holds no key", hint=f"put the key back, or set {VARIABLE}")
    return keys, path if made else None


def text_beside(path: Path, variable: str) -> tuple[str, bool]:
    """Returns the text of a key file beside an embedded database, and whether it was just made. The file appears whole
    or not at all, even if two runs make it at once."""
    made = False
    try:
        if not path.exists():
            made = _make(path)
        return read_regular(path, _FILE_LIMIT).decode("ascii"), made
    except OSError as exc:
        raise MissingSetting(f"{path} can't be made or read: {exc.strerror}", hint=f"set {variable}") from exc
    except ConfinedFileError as exc:  # a link that came with a repository may lead anywhere
        raise MissingSetting(f"{path} {exc.reason}", hint=f"{exc.hint}; or set {variable}") from exc
    except UnicodeDecodeError:
        raise MissingSetting(f"{path} holds no key", hint=f"put the key back, or set {variable}") from None


def _make(path: Path) -> bool:
    # Started by root, the embedded server runs as another user, who must get through this folder; its files are 0600.
    path.parent.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    keep_out_of_git(path.parent)
    try:
        write_private(path, generate_key() + "\n", exclusive=True)
    except FileExistsError:
        return False
    return True
