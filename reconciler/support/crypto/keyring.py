"""The key ring: encrypts instance keys at rest, fingerprints secrets. Where the keys come from is in key_files.py.

An envelope is `fivenc:v1:<key id>:<base64 of nonce and ciphertext>`, AES-256-GCM, bound to its instance, table and
column: moved anywhere else it does not decrypt. Encryption and fingerprints use separate subkeys.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.model.errors import MissingSetting
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.support.crypto.key_files import (
    FILE_NAME,
    KEY_BYTES,
    KEY_ID_DIGITS,
    EncryptionKey,
    is_set,
    load_keys,
    named_files,
)
from reconciler.support.file_stamps import Reread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "fivenc:v1:"
FINGERPRINT_PREFIX = "hmac:v1:"
_NONCE_BYTES = 12
_TAG_BYTES = 16
_PARTS = 4
_KEYS_HINT = "set FIVREC_ENCRYPTION_KEY or FIVREC_ENCRYPTION_KEY_FILE"
_PUT_BACK = (
    "put the file back, from a backup or a copy of its folder, or set FIVREC_ENCRYPTION_KEY to the key; if it is lost: "
    "fivrec docs keys#if-a-key-is-lost"
)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys: the first encrypts, all decrypt. `made` is the file of a key that was just made, `beside` the one beside an
    embedded database, if no variable names keys. `lost`: that file is missing, although databases exist. `source`
    replaces the `given` keys: one that is put in front encrypts from then on, one that is removed no longer decrypts.
    """

    given: tuple[EncryptionKey, ...]
    made: Path | None = None
    beside: Path | None = None
    lost: bool = False
    source: Reread[tuple[EncryptionKey, ...]] | None = None

    @property
    def keys(self) -> tuple[EncryptionKey, ...]:
        return self.given if self.source is None else self.source.value()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], embedded_dir: Path | None = None) -> KeyRing:
        """Returns the ring that the environment names; if it names none, the one in `embedded_dir`, made there once.

        Raises MissingSetting (78) if there is no key, or one is malformed.
        """
        keys, made = load_keys(environ, embedded_dir)
        return cls(keys, made, None if embedded_dir is None or is_set(environ) else embedded_dir / FILE_NAME)

    @classmethod
    def passing(cls, beside: Path | None = None, *, lost: bool = False) -> KeyRing:
        """Returns a ring with one key that is stored nowhere: for a dry run before the first apply makes a key, and if
        the key is `lost`, which encrypts nothing."""
        return cls((EncryptionKey(os.urandom(KEY_BYTES)),), None, beside, lost)

    def encrypt(self, secret: Secret, instance: str, table: str, column: str) -> str:
        """Returns the envelope of `secret` for this place, with a new nonce."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key = self._first()
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(key.subkey("encryption")).encrypt(
            nonce, secret.reveal().encode(), _place(key.id, instance, table, column)
        )
        return f"{PREFIX}{key.id}:{base64.b64encode(nonce + sealed).decode()}"

    def decrypt(self, envelope: str, instance: str, table: str, column: str) -> Secret:
        """Returns the secret in an envelope. Raises MissingSetting `key_retired` if its key is not in the ring,
        `key_mismatch` if it was sealed for another place, changed, or is malformed."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        where = f"{table}.{column} of {instance}"
        key_id, sealed = _parts(envelope, where)
        key = next((key for key in self.keys if key.id == key_id), None)
        if key is None:
            raise _retired(where, key_id, self)
        try:
            clear = AESGCM(key.subkey("encryption")).decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _place(key_id, instance, table, column)
            )
            return Secret(clear.decode())
        except (InvalidTag, UnicodeDecodeError) as exc:
            raise _mismatch(where, f"does not decrypt with key {key_id}") from exc

    def fingerprint(self, secret: Secret, purpose: str) -> str:
        """Returns a keyed digest that only shows whether a secret has changed: `hmac:v1:<key id>:<hex>`."""
        return _fingerprint(self._first(), secret, purpose)

    def matches(self, fingerprint: str, secret: Secret, purpose: str) -> bool:
        """Whether `fingerprint` was made from this secret with any key of the ring."""
        parts = fingerprint.split(":")
        if len(parts) != _PARTS or not fingerprint.isascii():
            return False
        return any(
            hmac.compare_digest(_fingerprint(key, secret, purpose), fingerprint)
            for key in self.keys
            if key.id == parts[2]
        )

    @property
    def first_id(self) -> str:
        """The id of the key that encrypts."""
        return self._first().id

    def is_current(self, text: str) -> bool:
        """Whether an envelope or a fingerprint was made with the first key: if not, `key rotate` has work to do."""
        return read_key_id(text) == self.first_id

    def _first(self) -> EncryptionKey:
        if not self.keys:
            raise MissingSetting("no encryption key is given", hint=_KEYS_HINT)
        if self.lost:
            raise MissingSetting(
                f"{self.beside} is gone, and no new key is made beside databases that exist", hint=_PUT_BACK
            )
        return self.keys[0]


def reread_ring(environ: Mapping[str, str], said: Callable[[str], None]) -> KeyRing:
    """Returns the ring of the keys that the environment names, for services: it reads the files again if they change.

    Raises MissingSetting if there is no key, or one is malformed, at the first reading.
    """
    if files := named_files(environ):
        return KeyRing((), source=Reread(files, lambda: load_keys(environ, None)[0], said))
    return KeyRing.from_environ(environ)


def read_key_id(text: str) -> str | None:
    """Returns the id of the key that an envelope or a fingerprint was made with, or None if it can't be read."""
    parts = text.split(":")
    known = text.startswith((PREFIX, FINGERPRINT_PREFIX)) and len(parts) == _PARTS
    return parts[2] if known and _is_key_id(parts[2]) else None


def _is_key_id(text: str) -> bool:
    return len(text) == KEY_ID_DIGITS and all(digit in "0123456789abcdef" for digit in text)


def is_envelope(text: str) -> bool:
    return text.startswith(PREFIX)


def _place(key_id: str, instance: str, table: str, column: str) -> bytes:
    # JSON keeps the parts apart: no two places have the same text.
    return json.dumps([PREFIX, key_id, instance, table, column]).encode()


def _parts(envelope: str, where: str) -> tuple[str, bytes]:
    key_id, colon, text = envelope.removeprefix(PREFIX).partition(":")
    try:
        sealed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise _mismatch(where, "is not an envelope of fivrec") from exc
    if not is_envelope(envelope) or not colon or len(sealed) < _NONCE_BYTES + _TAG_BYTES:
        raise _mismatch(where, "is not an envelope of fivrec")
    return key_id, sealed


def _fingerprint(key: EncryptionKey, secret: Secret, purpose: str) -> str:
    content = json.dumps([purpose, secret.reveal()]).encode()
    return f"{FINGERPRINT_PREFIX}{key.id}:{hmac.digest(key.subkey('fingerprint'), content, 'sha256').hex()}"


def _retired(where: str, key_id: str, ring: KeyRing) -> MissingSetting:
    # A key id from a database is shown only if it looks like one.
    shown = key_id if _is_key_id(key_id) else "that is no key id"
    given = ", ".join(key.id for key in ring.keys)
    said = f"{where} is encrypted with key {shown},"
    if ring.beside is None:
        said = f"{said} which is not given (given: {given})"
        hint = (
            f"give that key too ({_KEYS_HINT}): in front if it is the new one of a rotation; else behind the current "
            "one, then run `fivrec key rotate`"
        )
    elif ring.beside.exists():
        said = f"{said} and {ring.beside} holds another one ({given})"
        hint = (
            f"add that key to {ring.beside} as a further line, from a backup or a copy of its folder, then run "
            "`fivrec key rotate`; if it is lost: fivrec docs keys#if-a-key-is-lost"
        )
    else:
        said, hint = f"{said} and {ring.beside} is gone", _PUT_BACK
    return MissingSetting(said, code="key_retired", hint=hint)


def _mismatch(where: str, what: str) -> MissingSetting:
    return MissingSetting(
        f"{where} {what}: it was changed, or moved here from another row, column or instance",
        code="key_mismatch",
        hint="put the row back from a backup, or remove its value and let apply write it again",
    )
