"""The audit key: random, one per database, sealed by the encryption keys. Signs entries; decides nothing.

It outlives the encryption keys: rotating them only seals it again, so that old entries can still be verified.
"""

from __future__ import annotations

import base64
import os

from reconciler.model.errors import MissingSetting
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import SealedKey
from reconciler.planning.audit_check import Signatures
from reconciler.support.crypto.key_files import KEY_BYTES, EncryptionKey
from reconciler.support.crypto.keyring import KeyRing

TABLE, COLUMN = "fivrec.audit_key", "sealed"
PURPOSE = "audit_log"


@dataclass(frozen=True, slots=True)
class AuditKey:
    """An opened key. `since`, the number of the first entry that it signed, is sealed too: nobody can move it."""

    since: int
    ring: KeyRing

    @classmethod
    def make(cls, since: int) -> AuditKey:
        return cls(since, KeyRing((EncryptionKey(os.urandom(KEY_BYTES)),)))

    @classmethod
    def open(cls, stored: SealedKey, keys: KeyRing, instance: str) -> AuditKey:
        """Open a sealed key. Raises MissingSetting `key_retired`, or `key_mismatch` if it is another instance's."""
        text = keys.decrypt(stored.sealed, instance, TABLE, COLUMN).reveal()
        since, _, material = text.partition(":")
        if not since.isdecimal():
            raise MissingSetting(f"{TABLE}.{COLUMN} of {instance} holds no audit key", code="key_mismatch")
        return cls(int(since), KeyRing((EncryptionKey(base64.b64decode(material)),)))

    def seal(self, keys: KeyRing, instance: str) -> SealedKey:
        """Raises MissingSetting if there is no encryption key."""
        material = base64.b64encode(self.ring.keys[0].material).decode()
        return SealedKey(instance, keys.encrypt(Secret(f"{self.since}:{material}"), instance, TABLE, COLUMN))

    def sign(self, entry_hash: str) -> str:
        """Returns `hmac:v1:<key id>:<hex>`, the format of fingerprints."""
        return self.ring.fingerprint(Secret(entry_hash), PURPOSE)

    def signatures(self) -> Signatures:
        """Returns what verifies the entries that this key signed."""
        return Signatures(self.since, self._fits)

    def _fits(self, entry_hash: str, signature: str) -> bool:
        return self.ring.matches(signature, Secret(entry_hash), PURPOSE)
