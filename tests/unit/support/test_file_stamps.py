"""Files that are read again: when they changed, and that an unreadable one is never replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.model.errors import MissingSetting
from reconciler.model.secret import Secret
from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.keyring import reread_ring
from reconciler.support.file_stamps import Reread, stamps
from reconciler.web.token_keys import reread_token_keys


def test_a_changed_file_is_read_again_a_broken_one_warned_of(tmp_path: Path) -> None:
    path, read, said = tmp_path / "number", [], []

    def load() -> int:
        read.append(1)
        if not path.read_text().isdigit():
            raise MissingSetting("it is no number")
        return int(path.read_text())

    path.write_text("1")
    number = Reread((path,), load, said.append)
    assert [number.value(), number.value(), len(read)] == [1, 1, 1]
    path.write_text("22")
    assert [number.value(), number.value(), len(read)] == [22, 22, 2]
    path.write_text("broken")
    assert [number.value(), number.value(), len(read)] == [22, 22, 3]
    assert said == ["⚠️ it is no number; what was read before counts until it can be read"]
    path.write_text("4444")
    assert number.value() == 4444


def test_a_pipe_in_a_files_place_is_not_waited_for(tmp_path: Path) -> None:
    path, said = tmp_path / "number", []
    path.write_text("1")
    number = Reread((path,), lambda: int(path.read_text()), said.append)
    path.unlink()
    os.mkfifo(path)
    assert [number.value(), number.value()] == [1, 1]
    counts = "what was read before counts until it can be read"
    assert said == [f"⚠️ {path} is a pipe or a device, which can't be read again; {counts}"]
    path.unlink()
    path.write_text("22")
    assert number.value() == 22


def test_a_pipe_given_as_a_file_is_read_once(tmp_path: Path) -> None:
    """As in a shell's `<(pass show key)`: writing to it and reading from it change its times."""
    reading, writing = os.pipe()
    path, said, key = Path(f"/dev/fd/{reading}"), [], generate_key()
    before = stamps((path,))
    os.write(writing, key.encode())
    os.close(writing)
    ring = reread_ring({"FIVREC_ENCRYPTION_KEY_FILE": str(path)}, said.append)
    assert (stamps((path,)), ring.keys, said) == (before, ring.keys, [])
    envelope = ring.encrypt(Secret("s"), "i", "t", "c")
    assert ring.decrypt(envelope, "i", "t", "c") == Secret("s")
    os.close(reading)


def test_a_ring_follows_its_file(tmp_path: Path) -> None:
    path, old, new = tmp_path / "keys", generate_key(), generate_key()
    path.write_text(old)
    ring = reread_ring({"FIVREC_ENCRYPTION_KEY_FILE": str(path)}, lambda _: None)
    envelope = ring.encrypt(Secret("s"), "i", "t", "c")
    path.write_text(f"{new}\n{old}\n")
    assert (ring.decrypt(envelope, "i", "t", "c"), ring.is_current(envelope)) == (Secret("s"), False)
    path.write_text(new)
    with pytest.raises(MissingSetting) as caught:
        ring.decrypt(envelope, "i", "t", "c")
    assert caught.value.code == "key_retired"


def test_token_keys_follow_their_file(tmp_path: Path) -> None:
    path, old, new = tmp_path / "keys", "o" * 32, "n" * 32
    path.write_text(old)
    keys = reread_token_keys({"FIVREC_JWT_KEY_FILE": str(path)}, None, lambda _: None)
    (first,) = keys.keys
    path.write_text(f"{new},{old}")
    assert keys.by_id(first.id) == first
    path.write_text(new)
    assert keys.by_id(first.id) is None
