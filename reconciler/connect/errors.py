"""What can go wrong between fivrec and Fi.V Connect, in the words of the seed's troubleshooting.

Nothing of an answer is ever quoted: it may echo the instance key.
"""

from __future__ import annotations

import math
import os
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from reconciler.model.errors import ConnectError

TOO_MANY_REQUESTS, SERVER_ERRORS = 429, 5
_YEAR_S = 366 * 86400
KEY_HINT = "set what config.instance_key refers to (usually FIV_APP_API_KEY) to the key that the Connect panel shows"
_INSTANCE_HINT = "configure the instance at the Connect panel, or correct `instance` or `connect_api_url`"
_SERVER_HINT = "look at Fi.V Connect's logs and status; fivrec asks again at the next run"
_BUSY_HINT = "Connect answers fewer requests than it gets: run again later, with lower --forks"
PROXY_HINT = "see that HTTPS_PROXY is right and that the proxy lets fivrec through, or name Connect's host in NO_PROXY"
_CA_HINT = "give the CA that signed it with --ca-file or SSL_CERT_FILE"


_DATES: Final = "compare this machine's clock; if it is right, the server needs a new certificate"
_NAME: Final = "see that connect_api_url has the host that the certificate names"
_VERDICTS: Final = {9: _DATES, 10: _DATES, 62: _NAME, 64: _NAME}
"""By OpenSSL's X509_V_ERR_…: not yet valid, expired, another name, another address. Another CA would not help."""


def _ca_hint() -> str:
    """OpenSSL silently ignores a file that does not exist."""
    named = os.environ.get("SSL_CERT_FILE")
    if named and not (os.path.isfile(named) and os.access(named, os.R_OK)):  # noqa: PTH113 (a name with a NUL is not there either)
        return f"SSL_CERT_FILE names {named}, which is not a readable file"
    return _CA_HINT


class ConnectFault(ConnectError):
    """`passing`: another attempt may help. `wait_s`: how long Connect asked to wait. `elapsed_ms`: the last
    attempt's."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        hint: str = "",
        passing: bool = False,
        wait_s: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.passing = passing
        self.wait_s = wait_s
        self.elapsed_ms: int | None = None


def of_its_content(error: ConnectError) -> bool:
    """Whether Connect refused a request because of its content: another request may be accepted."""
    refused = isinstance(error, ConnectFault) and error.code == "connect_http_error" and not error.passing
    return refused or error.code == "connect_invalid_report"


def asked_to_wait(error: ConnectError) -> float:
    """How many seconds Connect asked to wait."""
    return (isinstance(error, ConnectFault) and error.wait_s) or 0.0


def status_fault(status: int, headers: Mapping[str, str], *, receipt: bool = False) -> ConnectFault | None:
    """The fault for a status; None for 200, and for any 2xx if only a receipt is expected."""
    match status, status // 100:
        case 200, _:
            return None
        case _, 2:
            return None if receipt else partial_answer(f"Fi.V Connect API returned {status}, and only 200 is an answer")
        case 401 | 403, _:
            return ConnectFault(
                f"Missing instance key: Fi.V Connect API returned {status}",
                code="connect_denied",
                hint=KEY_HINT,
            )
        case 404, _:
            return ConnectFault(
                "Instance not configured: Fi.V Connect API returned 404",
                code="connect_not_configured",
                hint=_INSTANCE_HINT,
            )
        case _, 3:
            return ConnectFault(
                f"Fi.V Connect API returned {status}: a redirect, which fivrec does not follow with a key",
                code="connect_redirect",
                hint="set connect_api_url to the address that answers itself",
            )
        case _:
            return _http_error(status, headers)


def _http_error(status: int, headers: Mapping[str, str]) -> ConnectFault:
    passing = status == TOO_MANY_REQUESTS or status // 100 == SERVER_ERRORS
    wait_s = _retry_after(headers) if passing else None
    return ConnectFault(
        f"Fi.V Connect API returned {status}",
        code="connect_http_error",
        hint=_later_hint(status, wait_s),
        passing=passing,
        wait_s=wait_s,
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The header of RFC 9110 10.2.3 in seconds. A date is relative to the answer's own: both are from Connect's clock.
    An answer without a date counts as sent now (6.6.1)."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        said = parsedate_to_datetime(headers["date"]) if "date" in headers else datetime.now(UTC)
        return max(0.0, (parsedate_to_datetime(value) - said).total_seconds())
    except (ValueError, TypeError, OverflowError):  # TypeError: one has a time zone and the other does not
        return None


def _later_hint(status: int, wait_s: float | None) -> str:
    if wait_s is None:
        return _BUSY_HINT if status == TOO_MANY_REQUESTS else _SERVER_HINT
    return f"Connect asks to wait {_span(wait_s)}: run again after that; `fivrec watch` waits by itself"


def _span(seconds: float) -> str:
    """A time span in words, rounded up: 45 seconds, 2 minutes, 1 hour 30 minutes, more than a year."""
    left = max(1, math.ceil(seconds))
    if left > _YEAR_S:
        return "more than a year"
    parts: list[str] = []
    for name, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}" + ("s" if count > 1 else ""))
    return " ".join(parts[:2])


def network_fault(error: OSError, place: str) -> ConnectFault:
    """`place` is host:port."""
    match error:
        case ssl.SSLCertVerificationError():
            return ConnectFault(
                f"the certificate of {place} is not trusted: {error.verify_message}",
                code="connect_tls",
                hint=_VERDICTS.get(error.verify_code) or _ca_hint(),
            )
        case ssl.SSLError() if not isinstance(error, ssl.SSLEOFError):
            return ConnectFault(
                f"no TLS connection with {place}: {(error.reason or 'handshake failed').lower()}",
                code="connect_tls",
                hint="see that connect_api_url names a port that speaks TLS 1.2 or newer",
            )
        case ConnectionRefusedError():
            return unreachable(f"{place} refused the connection")
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError() | ssl.SSLError():
            return unreachable(f"{place} closed the connection before it answered")
        case _:
            return unreachable(f"no connection to {place}: {error.strerror or type(error).__name__}")


def unreachable(message: str) -> ConnectFault:
    return ConnectFault(
        f"Fi.V Connect can't be reached: {message}",
        code="connect_unreachable",
        hint="see that connect_api_url is right and that Connect runs; what came from it stays as it is",
        passing=True,
    )


def proxy_fault(place: str, what: str, *, passing: bool = False) -> ConnectFault:
    return ConnectFault(
        f"{place} does not open a connection to Fi.V Connect: {what}",
        code="connect_proxy",
        hint=PROXY_HINT,
        passing=passing,
    )


def untrusting(message: str) -> ConnectFault:
    """The CA file is broken now but was not when the run began. It may be in the middle of being written."""
    return ConnectFault(message, code="connect_tls", hint=_CA_HINT, passing=True)


def refused_address(host: str, reason: str) -> ConnectFault:
    return ConnectFault(
        f"{host} resolves to {reason}, which is never Fi.V Connect",
        code="connect_address_refused",
        hint="correct connect_api_url, or the name server that answered so",
    )


def too_slow(seconds: float, proxy: str) -> ConnectFault:
    """`proxy`: the proxy that has not opened its tunnel, if it is the slow side."""
    if proxy:
        return proxy_fault(proxy, f"it did not answer within {seconds:g} s")
    return ConnectFault(
        f"Fi.V Connect did not answer completely within {seconds:g} s",
        code="connect_timeout",
        hint=_SERVER_HINT,
    )


def invalid_answer(what: str) -> ConnectFault:
    hint = "see that connect_api_url is the API's address and not a page's; if it is, tell the people who run it"
    return _unusable(what, hint)


def partial_answer(what: str) -> ConnectFault:
    hint = "it is not the whole answer, so fivrec ignored it; tell the people who run Connect, or the proxy"
    return _unusable(what, hint)


def echoed_key() -> ConnectFault:
    hint = "nothing of the answer was stored or shown; tell the people who run Connect, and have the key replaced"
    return _unusable("it holds the instance key", hint)


def _unusable(what: str, hint: str) -> ConnectFault:
    return ConnectFault(f"Fi.V Connect's answer can't be used: {what}", code="connect_invalid_answer", hint=hint)


def too_large(limit: int) -> ConnectFault:
    return ConnectFault(
        f"Fi.V Connect's answer is larger than {limit // 1024} KiB",
        code="connect_too_large",
        hint="see that connect_api_url is the API's address",
    )
