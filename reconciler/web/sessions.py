"""A browser's session: its cookie, the accounts in it, and forms that only fivrec's own pages send."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from reconciler.database.accounts import Account, TokenState
from reconciler.model.types import Desired
from reconciler.web.login import ADMIN, Denied
from reconciler.web.problems import BadRequest
from reconciler.web.service import Service
from reconciler.web.tokens import LIFE_S, SESSION_S, Grant, Session, TokenRejected

MAX_GRANTS = 64
"""Instances in one session: with names of 63 characters, 11 KiB in the request's head."""

_PIECE = 3800
"""Characters per cookie: browsers drop cookies of more than 4,096 bytes, so a long session is split over several."""
_PIECES = 6

_FORM = "application/x-www-form-urlencoded"
_MAX_PLACE = 1000


def cookie_name(service: Service) -> str:
    """With https the name itself binds the cookie to this host (RFC 6265bis, 4.1.3)."""
    return "__Host-fivrec" if service.secure else "fivrec"


def _cookie_names(service: Service) -> tuple[str, ...]:
    name = cookie_name(service)
    return (name, *(f"{name}-{number}" for number in range(1, _PIECES)))


def read_session(service: Service, request: Request) -> Session | None:
    whole = "".join(request.cookies.get(name, "") for name in _cookie_names(service))
    try:
        return service.tokens.read_session(whole)
    except TokenRejected:
        return None


def session_is_open(service: Service, session: Session) -> bool:
    """Whether its eight hours are not over."""
    return (service.tokens.now() - session.since).total_seconds() <= SESSION_S


async def standing_in(service: Service, session: Session, desired: Desired) -> TokenState | None:
    """The account's standing in one instance; None if the session's account may no longer see it."""
    grant = next((item for item in session.grants if item.instance == desired.instance), None)
    if grant is None:
        return None
    standing = await service.standing(desired, grant.user_id, session.jti)
    account = standing.account
    if account is None or standing.revoked or account.role != ADMIN:
        return None
    return standing if service.tokens.matches_mark(grant.mark, account) else None


def granted(service: Service, session: Session) -> tuple[Desired, ...]:
    """The instances of the session that are served, in order."""
    names = {grant.instance for grant in session.grants}
    return tuple(item for name, item in service.instances.items() if name in names)


def with_grant(service: Service, session: Session | None, desired: Desired, account: Account) -> str:
    """The cookie's value after a login: the session with this account added, limited to what a cookie can contain.

    If it has other accounts, the session keeps its jti, so that signing out ends them too and an earlier sign-out still
    counts; and it keeps the time of its first login, which limits its length.
    """
    others = tuple(item for item in session.grants if item.instance != desired.instance) if session else ()
    others = others[-(MAX_GRANTS - 1) :]
    grants = (*others, Grant(desired.instance, account.id, service.tokens.mark(account)))
    if session is None or not others:
        return service.tokens.issue_session(grants)
    return service.tokens.issue_session(grants, since=session.since, jti=session.jti)


def put_cookie(service: Service, request: Request, response: Response, value: str) -> None:
    """As many cookies as it needs; those of a longer previous session are removed."""
    for number, name in enumerate(_cookie_names(service)):
        piece = value[number * _PIECE : (number + 1) * _PIECE]
        if piece:
            _set(service, response, name, piece)
        elif name in request.cookies:
            _drop(service, response, name)


def _set(service: Service, response: Response, name: str, value: str) -> None:
    response.set_cookie(
        name,
        value,
        max_age=LIFE_S,
        path="/",
        secure=service.secure,
        httponly=True,
        samesite="strict",
    )


def _drop(service: Service, response: Response, name: str) -> None:
    response.delete_cookie(name, path="/", secure=service.secure, httponly=True, samesite="strict")


def renew(service: Service, session: Session, request: Request, response: Response) -> None:
    """A session in use is extended by 15 minutes, with the same jti, until its time is over."""
    value = service.tokens.issue_session(session.grants, since=session.since, jti=session.jti)
    put_cookie(service, request, response, value)


def drop_cookie(service: Service, request: Request, response: Response) -> None:
    for name in _cookie_names(service):
        if name == cookie_name(service) or name in request.cookies:
            _drop(service, response, name)


def login_page(place: str, **known: str) -> str:
    """The address of the login that leads to this page."""
    query = known if place == "/" else {**known, "next": place}
    return f"/login?{urlencode(query)}" if query else "/login"


def page_after_login(text: str) -> str:
    """Returns the text if it is the address of a page of this server, otherwise "/": no login leads to another site."""
    own = text.startswith(("/?", "/instances/")) and len(text) <= _MAX_PLACE
    return text if own and text.isascii() and text.isprintable() else "/"


def form_token(service: Service, session: Session) -> str:
    """The token of this session with its current accounts."""
    return service.tokens.digest(*_of_form(session))


def _of_form(session: Session) -> tuple[str, ...]:
    return ("form", session.jti, *(f"{item.instance} {item.user_id}" for item in session.grants))


async def checked_form(service: Service, request: Request, session: Session | None) -> Mapping[str, str]:
    """The form's fields. Raises Denied `cross_site` if another site sent it, or the token is not this session's."""
    form = await read_form(request)
    if session is not None and not service.tokens.is_digest(form.get("csrf", ""), *_of_form(session)):
        raise cross_site()
    return form


async def read_form(request: Request) -> Mapping[str, str]:
    """The form's fields. Raises Denied `cross_site` if another site sent it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    text = (await request.body()).decode("utf-8", "replace") if kind == _FORM else ""
    try:
        fields = parse_qs(text, max_num_fields=20)
    except ValueError as exc:
        raise BadRequest([("", "the form has more than 20 fields")]) from exc
    if not _is_ours(request):
        raise cross_site()
    return {name: values[0] for name, values in fields.items()}


def _is_ours(request: Request) -> bool:
    """By Sec-Fetch-Site if the browser sends it, otherwise by Origin (a page can set neither)."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def cross_site() -> Denied:
    return Denied("the form came from another site, or is too old", hint="open the page again", code="cross_site")
