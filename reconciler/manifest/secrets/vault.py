"""Read secrets from HashiCorp Vault or OpenBao, KV version 2, for `{vault: "mount/path#field"}`. Writes none.

One login per run, one read per path. Address and credentials are those of Vault's own tools: VAULT_ADDR, VAULT_TOKEN or
~/.vault-token, VAULT_NAMESPACE, VAULT_CACERT, VAULT_CAPATH, VAULT_CLIENT_CERT, VAULT_CLIENT_KEY; and VAULT_ROLE_ID with
VAULT_SECRET_ID for AppRole. OpenBao's BAO_ names work too. VAULT_SKIP_VERIFY does not: certificates are always checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from reconciler.model.errors import SourceError, extra_hint
from reconciler.support.network import url_problem

TIMEOUT_S: Final = 10
_SET: Final = "set VAULT_ADDR, and VAULT_TOKEN or VAULT_ROLE_ID and VAULT_SECRET_ID"


class Vault:
    """The server that the environment names."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._client: Any = None
        self._issued = False
        self._down: SourceError | None = None
        self._read: dict[tuple[str, str], Mapping[str, Any] | SourceError | None] = {}

    def fetch(self, reference: str) -> str | None:
        """Returns the field's text; None if path or field does not exist, or is empty. Raises SourceError with the
        reason if Vault refuses."""
        place, _, name = reference.rpartition("#")
        mount, _, path = place.partition("/")
        if (mount, path) not in self._read:
            self._read[mount, path] = self._data(mount, path)
        data = self._read[mount, path]
        if isinstance(data, SourceError):
            raise data
        value = data.get(name) if data is not None else None
        if value is not None and not isinstance(value, str):
            raise SourceError(f"the field {name} of {place} in Vault is not text", "store it as text")
        return value or None

    def close(self) -> None:
        """Revoke a token that was issued for this run."""
        if self._client is None:
            return
        with suppress(Exception):  # it expires by itself
            self._client.logout(revoke_token=self._issued)
        self._client = None

    def _data(self, mount: str, path: str) -> Mapping[str, Any] | SourceError | None:
        """The fields of one secret, or the reason why there are none. A failure of the server is not retried."""
        if self._down is not None:
            return self._down
        from hvac import exceptions
        from requests import RequestException

        what = f"{mount}/{path} in Vault can't be read"
        try:
            return self._fields(mount, path)
        except exceptions.InvalidPath:
            return None
        except exceptions.Forbidden:
            hint = f"is the token still valid (`vault token lookup`), and may it read {mount}/data/{path}?"
            return SourceError(f"{what}: permission denied", hint)
        except (exceptions.VaultError, RequestException) as exc:
            # Their messages may contain what was sent or received.
            self._down = SourceError(f"{what}: {_reason(exc)}", "see `vault status`")
        except SourceError as exc:
            self._down = exc
        return self._down

    def _fields(self, mount: str, path: str) -> Mapping[str, Any]:
        kv = self._open().secrets.kv.v2
        found = kv.read_secret_version(path=path, mount_point=mount, raise_on_deleted_version=True)
        match found:
            case {"data": {"data": dict(data)}}:
                return data
            case _:
                what = f"{mount}/{path} in Vault can't be read"
                raise SourceError(f"{what}: the answer is not that of a KV 2 engine", "is it KV version 1?")

    def _open(self) -> Any:
        if self._client is not None:
            return self._client
        from hvac import Client, exceptions

        token, role = self._token(), self._get("ROLE_ID")
        if token is None and role is None:
            raise SourceError("there is no token for Vault", _SET)
        pair = (self._get("CLIENT_CERT"), self._get("CLIENT_KEY"))
        client = Client(
            url=self._address(),
            token=token or "",
            namespace=self._get("NAMESPACE"),
            verify=self._get("CACERT") or self._get("CAPATH") or True,
            cert=pair if all(pair) else None,
            timeout=TIMEOUT_S,
            allow_redirects=False,
        )
        if token is None:
            try:
                client.auth.approle.login(role_id=role, secret_id=self._get("SECRET_ID"))
            except (exceptions.InvalidRequest, exceptions.Forbidden):
                raise SourceError("Vault refuses the AppRole's role id or secret id", _SET) from None
            self._issued = True
        self._client = client
        return client

    def _address(self) -> str:
        address = self._get("ADDR")
        if address is None:
            raise SourceError("VAULT_ADDR is not set", _SET)
        if (problem := url_problem(address, production=False)) is not None:
            raise SourceError(f"VAULT_ADDR {problem}", "such as https://vault.example.com:8200")
        return address

    def _token(self) -> str | None:
        if token := self._get("TOKEN"):
            return token
        home = self._environ.get("HOME")
        with suppress(OSError, UnicodeDecodeError):
            return (Path(home) / ".vault-token").read_text(encoding="ascii").strip() or None if home else None
        return None

    def _get(self, name: str) -> str | None:
        return self._environ.get(f"VAULT_{name}") or self._environ.get(f"BAO_{name}") or None


def open_vault(environ: Mapping[str, str]) -> Vault:
    """Raises SourceError if the library for it is not installed."""
    try:
        import hvac  # noqa: F401
    except ImportError:
        raise SourceError("hvac, which reads from Vault, is not installed", extra_hint("vault")) from None
    return Vault(environ)


def _reason(exc: Exception) -> str:
    from hvac import exceptions
    from requests import exceptions as requests

    match exc:
        case exceptions.VaultDown():
            return "Vault is sealed, or down"
        case exceptions.Unauthorized():
            return "the token is not valid"
        case requests.SSLError():
            return "its certificate is not trusted (VAULT_CACERT)"
        case requests.Timeout():
            return f"no answer within {TIMEOUT_S} s"
        case requests.ConnectionError():
            return "no connection"
        case _:
            return f"{type(exc).__name__}"
