"""Envelopes, fingerprints and Connect's answers, mutated by the ten thousand: values or known errors, nothing else.

Plain seeded mutation, as it tries a hundred times more in the same time than a shrinking search; a failure prints its
seed. FIVREC_FUZZ sets how many inputs in all (100,000).
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable

import pytest

from reconciler.connect.errors import ConnectFault
from reconciler.connect.responses import databases_from_body, plans_from_body, status_from_body
from reconciler.model.errors import FivrecError
from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import EncryptionKey, KeyRing, is_envelope, read_key_id

COUNT = int(os.environ.get("FIVREC_FUZZ", "100000"))
RING = KeyRing((EncryptionKey(bytes(range(32))),))
PLACE = ("client-abc-123", "instance_config", "instance_key")
KEY = Secret("zqKeyCanary7x")
STATUS = {
    "instanceId": "client-abc-123",
    "status": "active",
    "billingStatus": "paid",
    "enabledFeatures": {"chat": True},
}
PLAN = {"id": "x", "name": "X", "price": 2900, "currency": "BRL", "billingInterval": "monthly", "features": ["a"]}
DATABASE = {"id": "db", "name": "Main", "type": "postgresql", "host": "h", "port": 5432, "database": "d"}
PIECES = (
    b"null",
    b"[]",
    b"{}",
    b"1e999",
    b"-0",
    b"NaN",
    b'"\\ud800"',
    b"\xff",
    b"\0",
    b":",
    b"[" * 2000,
    b'"id":',
    b"9" * 400,
)


def mutated(rng: random.Random, content: bytes) -> bytes:
    found = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(found) + 1)
        match rng.randrange(4):
            case 0:
                found[at:at] = rng.choice(PIECES)
            case 1:
                del found[at : at + rng.randint(1, 12)]
            case 2:
                found[at : at + 1] = rng.randbytes(1)
            case _:
                found[at:at] = found[: rng.randint(0, 20)]
    return bytes(found)


def open_envelope(content: bytes) -> None:
    text = content.decode("utf-8", "replace")
    read_key_id(text)
    RING.matches(text, KEY, "config.instance_key")
    if is_envelope(text):
        RING.decrypt(text, *PLACE)


def answers() -> list[tuple[bytes, Callable[[bytes], object]]]:
    envelope = RING.encrypt(KEY, *PLACE).encode()
    return [
        (envelope, open_envelope),
        (RING.fingerprint(KEY, "config.instance_key").encode(), open_envelope),
        (json.dumps(STATUS).encode(), lambda body: status_from_body(body, instance="client-abc-123", key=KEY)),
        (json.dumps([PLAN, {**PLAN, "id": "y"}]).encode(), plans_from_body),
        (json.dumps([DATABASE]).encode(), databases_from_body),
    ]


@pytest.mark.slow
def test_nothing_but_values_and_foreseen_errors(record_property: Callable[[str, object], None]) -> None:
    seed = int(os.environ.get("FIVREC_TEST_SEED", "20261123"))
    rng = random.Random(seed)
    refused = tried = 0
    for content, read in answers():
        for _ in range(COUNT // 5):
            body = mutated(rng, content)
            tried += 1
            try:
                read(body)
            except (FivrecError, ConnectFault) as exc:
                refused += 1
                assert "zqKeyCanary7x" not in f"{exc}", (seed, body)  # noqa: PT017 (either end is right)
            except Exception as exc:
                raise AssertionError(f"seed {seed}: {read.__name__} on {body!r}") from exc
    assert 0 < refused < tried
    record_property("envelopes and answers", f"{tried} tried, {refused} refused, seed {seed}")


def test_an_envelope_that_was_changed_anywhere_does_not_open() -> None:
    envelope = RING.encrypt(KEY, *PLACE)
    head = len("fivenc:v1:00000000:")
    for index in range(head, len(envelope) - 2):
        changed = envelope[:index] + ("A" if envelope[index] != "A" else "B") + envelope[index + 1 :]
        with pytest.raises(FivrecError):
            RING.decrypt(changed, *PLACE)
