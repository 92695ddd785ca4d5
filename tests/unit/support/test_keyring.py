"""The key ring: envelopes, what they are bound to, and where keys come from."""

from __future__ import annotations

import base64
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.errors import MissingSetting
from reconciler.model.secret import Secret, Unencrypted
from reconciler.support.crypto.key_files import FILE_NAME, exposed_files, generate_key
from reconciler.support.crypto.keyring import EncryptionKey, KeyRing, is_envelope, read_key_id

PLACE = ("client-abc-123", "instance_config", "instance_key")


def ring(*keys: str) -> KeyRing:
    return KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": ",".join(keys or (generate_key(),))})


@given(st.text())
def test_decryption_returns_the_encrypted_secret(text: str) -> None:
    keys = ring()
    envelope = keys.encrypt(Secret(text), *PLACE)
    assert keys.decrypt(envelope, *PLACE) == Secret(text)


def test_an_envelope_names_its_key_and_hides_its_content() -> None:
    keys = ring()
    envelope = keys.encrypt(Secret("the-instance-key"), *PLACE)
    head, version, key_id, body = envelope.split(":")
    assert (head, version, key_id) == ("fivenc", "v1", keys.keys[0].id)
    assert b"the-instance-key" not in base64.b64decode(body)
    assert is_envelope(envelope)
    assert keys.is_current(envelope)


def test_the_same_secret_never_gives_the_same_envelope() -> None:
    keys = ring()
    assert len({keys.encrypt(Secret("x"), *PLACE) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "place",
    [
        ("other", "instance_config", "instance_key"),
        ("client-abc-123", "users", "instance_key"),
        ("client-abc-123", "instance_config", "password"),
        ("client-abc-123instance_config", "", "instance_key"),
    ],
)
def test_an_envelope_moved_elsewhere_does_not_decrypt(place: tuple[str, str, str]) -> None:
    keys = ring()
    envelope = keys.encrypt(Secret("canary"), *PLACE)
    with pytest.raises(MissingSetting) as raised:
        keys.decrypt(envelope, *place)
    assert raised.value.code == "key_mismatch"
    assert "canary" not in str(raised.value)


def test_any_changed_byte_is_noticed() -> None:
    keys = ring()
    head, _, body = keys.encrypt(Secret("canary"), *PLACE).rpartition(":")
    sealed = base64.b64decode(body)
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(MissingSetting, match="does not decrypt"):
            keys.decrypt(f"{head}:{base64.b64encode(changed).decode()}", *PLACE)


@given(st.text())
def test_a_malformed_envelope_is_a_foreseen_error(text: str) -> None:
    with pytest.raises(MissingSetting):
        ring().decrypt(f"fivenc:v1:{text}", *PLACE)


def test_a_former_key_decrypts_and_the_first_encrypts() -> None:
    old, new = generate_key(), generate_key()
    envelope = ring(old).encrypt(Secret("x"), *PLACE)
    both = ring(new, old)
    assert both.decrypt(envelope, *PLACE) == Secret("x")
    assert not both.is_current(envelope)
    assert both.is_current(both.encrypt(Secret("x"), *PLACE))


def test_a_retired_key_is_named() -> None:
    old, new = ring(), ring()
    envelope = old.encrypt(Secret("x"), *PLACE)
    with pytest.raises(MissingSetting) as raised:
        new.decrypt(envelope, *PLACE)
    assert raised.value.code == "key_retired"
    assert raised.value.exit_code == 78
    assert old.keys[0].id in raised.value.message


def test_a_fingerprint_matches_its_secret_and_purpose_only() -> None:
    old, new = generate_key(), generate_key()
    made = ring(old).fingerprint(Secret("senha"), "admin.password")
    later = ring(new, old)
    assert later.matches(made, Secret("senha"), "admin.password")
    assert not later.matches(made, Secret("Senha"), "admin.password")
    assert not later.matches(made, Secret("senha"), "config.instance_key")
    assert not ring(new).matches(made, Secret("senha"), "admin.password")
    assert not later.matches("None", Secret("senha"), "admin.password")
    assert not later.matches("hmac:v1:é:x", Secret("senha"), "admin.password")


def test_subkeys_are_hkdf_and_differ_by_purpose() -> None:
    key = EncryptionKey(os.urandom(32))
    reference = HKDF(SHA256(), 32, salt=None, info=b"fivrec encryption").derive(key.material)
    assert key.subkey("encryption") == reference
    assert key.subkey("fingerprint") != reference


def test_no_key_is_a_missing_setting_that_says_how_to_make_one() -> None:
    with pytest.raises(MissingSetting) as raised:
        KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": ""})
    assert raised.value.exit_code == 78
    assert "fivrec key generate" in raised.value.hint


@pytest.mark.parametrize(
    "word", ["canary", "canary-é", "A" * 42, "A" * 44, base64.urlsafe_b64encode(b"x" * 31).decode(), "canary/+=="]
)
def test_a_malformed_key_is_named_by_its_place_never_quoted(word: str) -> None:
    with pytest.raises(MissingSetting) as raised:
        ring(generate_key(), word)
    assert "key 2" in raised.value.message
    assert word not in raised.value.message
    assert raised.value.__cause__ is None


def test_keys_come_from_files_too_behind_those_of_the_variable(tmp_path: Path) -> None:
    first, second, third = generate_key(), generate_key(), generate_key()
    (tmp_path / "one").write_text(f"{second}\n{third}\n")
    environ = {"FIVREC_ENCRYPTION_KEY": first, "FIVREC_ENCRYPTION_KEY_FILE": str(tmp_path / "one")}
    assert KeyRing.from_environ(environ).keys == ring(first, second, third).keys


def test_a_key_file_that_is_larger_than_any_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large"
    for spaces, fits in ((64 * 1024 - 44, True), (64 * 1024 - 43, False)):
        path.write_text(generate_key() + " " * spaces)
        environ = {"FIVREC_ENCRYPTION_KEY_FILE": str(path)}
        if fits:
            assert len(KeyRing.from_environ(environ).keys) == 1
        else:
            with pytest.raises(MissingSetting, match="holds no keys"):
                KeyRing.from_environ(environ)


@pytest.mark.parametrize("text", ["fivenc:v1:{id}", "fivenc:v1:{id}:a:b", "fivenc:v2:{id}:a", "fivenc:v1:{id}0:a"])
def test_what_is_no_envelope_was_made_with_no_key(text: str) -> None:
    keys = ring()
    envelope = keys.encrypt(Secret("x"), *PLACE)
    assert (read_key_id(envelope), keys.is_current(envelope)) == (keys.first_id, True)
    assert (read_key_id(text.format(id=keys.first_id)), keys.is_current(text.format(id=keys.first_id))) == (None, False)


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingSetting, match="nowhere"):
        KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY_FILE": str(tmp_path / "nowhere")})


def test_a_key_file_that_others_may_read_has_its_own_error(tmp_path: Path) -> None:
    modes = {"own": 0o600, "group": 0o640, "all": 0o604}
    for name, mode in modes.items():
        (tmp_path / name).write_text(generate_key())
        (tmp_path / name).chmod(mode)
    named = ",".join(str(tmp_path / name) for name in (*modes, "group", "nowhere"))
    environ = {"FIVREC_ENCRYPTION_KEY_FILE": f"{named},/dev/null"}
    assert exposed_files(environ) == (tmp_path / "group", tmp_path / "all")
    assert exposed_files({}) == ()


def test_beside_an_embedded_database_a_key_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(lambda _: KeyRing.from_environ({}, folder), range(8)))
    assert {item.keys for item in rings} == {rings[0].keys}
    assert [item.made for item in rings if item.made] == [folder / FILE_NAME]
    assert (folder / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]
    assert KeyRing.from_environ({}, folder).made is None


def test_nothing_prints_a_key() -> None:
    key = generate_key()
    material = base64.urlsafe_b64decode(key)
    for text in (repr(ring(key)), str(ring(key)), repr(ring(key).keys[0])):
        assert key not in text
        assert repr(material) not in text


def test_an_unencrypted_value_equals_no_secret() -> None:
    found = Unencrypted("key")
    assert found != Secret("key")
    assert Secret("key") != found
    assert repr(found) == "(sensitive)"


def test_a_lost_key_beside_a_database_is_reported_with_its_place(tmp_path: Path) -> None:
    made = KeyRing.from_environ({}, tmp_path)
    envelope = made.encrypt(Secret("x"), *PLACE)
    path = tmp_path / FILE_NAME
    path.unlink()
    lost = KeyRing.passing(path, lost=True)
    with pytest.raises(MissingSetting) as raised:
        lost.decrypt(envelope, *PLACE)
    of = f"instance_config.instance_key of client-abc-123 is encrypted with key {made.first_id},"
    assert (raised.value.code, raised.value.message) == ("key_retired", f"{of} and {path} is gone")
    assert raised.value.hint.startswith("put the file back, from a backup or a copy of its folder")
    for use in (lambda: lost.encrypt(Secret("x"), *PLACE), lambda: lost.fingerprint(Secret("x"), "purpose")):
        with pytest.raises(MissingSetting, match="is gone, and no new key is made beside databases that exist"):
            use()
    other = KeyRing.from_environ({}, tmp_path)
    with pytest.raises(MissingSetting) as raised:
        other.decrypt(envelope, *PLACE)
    assert raised.value.message == f"{of} and {path} holds another one ({other.first_id})"
    assert "as a further line" in raised.value.hint


@pytest.mark.parametrize("content", [b"\xff\xfe", "chave é".encode(), b"", b"\n"])
def test_a_damaged_key_beside_a_database_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(MissingSetting, match="holds no key"):
        KeyRing.from_environ({}, tmp_path)


def test_a_pipe_in_place_of_the_key_is_not_waited_for(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / FILE_NAME
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    with pytest.raises(MissingSetting, match=f"{FILE_NAME} is not a regular file"):
        KeyRing.from_environ({}, tmp_path)
