"""The trust of Fi.V Connect's client: CA files that are read again when they change, and TLS sessions to resume."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from time import monotonic
from typing import Any

from reconciler.connect.errors import ConnectFault, untrusting
from reconciler.model.errors import MissingSetting
from reconciler.support.file_stamps import refuse_streams, stamps

_SESSIONS = 64
FOLDERS_S = 10.0
"""Seconds between looks at the files in the folders of SSL_CERT_DIR: there may be hundreds."""


class Context(ssl.SSLContext):
    """A client's context that resumes sessions: a second connection to a host needs no key exchange with certificates.
    asyncio has no parameter for a session."""

    sessions: dict[str, ssl.SSLSession]

    def wrap_bio(self, *args: Any, **more: Any) -> ssl.SSLObject:
        return super().wrap_bio(*args, **{**more, "session": self.sessions.get(more.get("server_hostname") or "")})

    def keep_session(self, place: str, session: ssl.SSLSession | None) -> bool:
        """Whether there was a session to keep."""
        if session is None or not session.has_ticket:
            return False
        if len(self.sessions) >= _SESSIONS:
            self.sessions.clear()
        self.sessions[place] = session
        return True


class Trust:
    """The context for new connections; `changed` is called when a CA file has changed.

    Raises MissingSetting if `ca_file` can't be used, before any request. The file is read once, because it may be a
    pipe.
    """

    def __init__(self, ca_file: str | None, changed: Callable[[], None] = lambda: None) -> None:
        self._ca_file = ca_file
        self._changed = changed
        self._inside: tuple[object, ...] = ()
        self._look_at = 0.0
        self._stamps = self._seen() if ca_file is not None else ()
        self._context = load_context(ca_file) if ca_file is not None else None

    def refresh(self) -> None:
        """Drop the context if one of its files has changed: a CA that is no longer trusted must stop working."""
        if self._context is not None and self._seen() != self._stamps:
            self._context = None
            self._changed()

    def context(self) -> Context:
        """Raises ConnectFault if the CA file can't be used now."""
        self.refresh()
        if self._context is None:
            seen = self._seen()
            try:
                refuse_streams(_files(self._ca_file))
                self._context = load_context(self._ca_file)
            except MissingSetting as error:
                raise untrusting(error.message) from error
            self._stamps = seen
        return self._context

    def extend(self, context: Context) -> None:
        """Make another context trust the file's content too. From a pipe, which can't be read again, only its CAs."""
        own = self.context()
        try:
            refuse_streams(_files(self._ca_file))
            context.load_verify_locations(cafile=self._ca_file)
        except (MissingSetting, OSError, ssl.SSLError):
            if known := b"".join(own.get_ca_certs(binary_form=True)):
                context.load_verify_locations(cadata=known)

    def _seen(self) -> tuple[object, ...]:
        """A file that is changed in place does not change its folder."""
        if monotonic() >= self._look_at:
            folders = () if self._ca_file is not None else _folders()
            self._inside = stamps(path for folder in folders for path in _inside(folder))
            self._look_at = monotonic() + FOLDERS_S
        return (*stamps(_files(self._ca_file)), *self._inside)


class WiderTrust:
    """The system's CAs together with those of a trust that has a file of its own: for servers other than Connect, which
    that file may not cover. `changed` is called when either has changed."""

    def __init__(self, own: Trust | WiderTrust, changed: Callable[[], None]) -> None:
        self._own = own
        self._usual = Trust(None)
        self._changed = changed
        self._parts: tuple[Context | None, Context] | None = None
        self._context: Context | None = None

    def refresh(self) -> None:
        if self._context is not None:
            self.context()

    def context(self) -> Context:
        try:
            own = self._own.context()
        except ConnectFault:
            own = None  # a file that can't be read now takes nothing away from the system's CAs
        parts = own, self._usual.context()
        if self._context is None or parts != self._parts:
            joined = load_context(None)
            if own is not None:
                self._own.extend(joined)
            if self._context is not None:
                self._changed()
            self._parts, self._context = parts, joined
        return self._context

    def extend(self, context: Context) -> None:
        self._own.extend(context)


def load_context(ca_file: str | None) -> Context:
    """The system's CAs, which SSL_CERT_FILE and SSL_CERT_DIR may name, or only those of `ca_file`."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        is_content = isinstance(error, ssl.SSLError) or not error.strerror
        reason = "it holds no PEM certificate" if is_content else error.strerror
        raise MissingSetting(
            f"the CA file {ca_file} can't be used: {reason}",
            hint="give --ca-file a readable file of PEM certificates",
            code="connect_tls",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.__class__ = Context  # as create_default_context does, with everything that a newer Python sets
    assert isinstance(context, Context)  # noqa: S101 (for the type checker)
    context.sessions = {}
    return context


def _files(ca_file: str | None) -> tuple[str, ...]:
    if ca_file is not None:
        return (ca_file,)
    usual = ssl.get_default_verify_paths()
    file = os.environ.get(usual.openssl_cafile_env) or usual.openssl_cafile
    return tuple(path for path in (file, *(_folders() or (usual.openssl_capath,))) if path)


def _folders() -> tuple[str, ...]:
    """The files of SSL_CERT_DIR. A change of the system's own files also changes their folder."""
    return tuple(filter(None, os.environ.get("SSL_CERT_DIR", "").split(os.pathsep)))


def _inside(folder: str) -> tuple[str, ...]:
    try:
        return tuple(f"{folder}/{name}" for name in sorted(os.listdir(folder)))  # noqa: PTH208 (hundreds, at each start)
    except OSError:
        return ()
