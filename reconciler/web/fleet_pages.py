"""The fleet's page for people who sign in at the identity provider: its routes, and who may use which. A request
without such a session is served as if there were no provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from reconciler.model.records import dataclass
from reconciler.model.types import ErrorInfo
from reconciler.planning.audit import Actor
from reconciler.web import page
from reconciler.web.access_log import address_of, facts_of
from reconciler.web.calls import in_time
from reconciler.web.fleet_access import FleetAccess
from reconciler.web.fleet_board import FleetBoard
from reconciler.web.fleet_items import CHOICES, as_json, build_items, count_items
from reconciler.web.fleet_sessions import FleetSession
from reconciler.web.login import Denied, record_call
from reconciler.web.oidc import ProviderUnavailable, SignInRefused
from reconciler.web.openapi import checked_query, fleet_operation
from reconciler.web.operations import check_now
from reconciler.web.overview import read_detail
from reconciler.web.pages import COMPRESSED, Pages, language_of
from reconciler.web.problems import build_response
from reconciler.web.roles import NoRole, Role, person_from
from reconciler.web.service import Service
from reconciler.web.sessions import cross_site, drop_cookie, page_after_login, read_form, read_session
from reconciler.web.translations import load_translations

_ANSWER = ("state", "code", "iss", "error")
"""The parameters of the provider's answer that are used (RFC 6749, 4.1.2; RFC 9207)."""


@dataclass(frozen=True, slots=True)
class FleetPages:
    """The handlers of one server; `pages` serves requests without a session of the fleet."""

    pages: Pages
    access: FleetAccess
    board: FleetBoard

    def routes(self) -> list[Route]:
        routes = self.pages.build_routes(
            ("/", self.fleet, "GET"),
            ("/logout", self.leave, "POST"),
            ("/events", self.events, "GET"),
            ("/instances/{instance}", self.instance, "GET"),
            ("/instances/{instance}/check", self.check, "POST"),
            ("/sso/login", self.begin, "GET"),
            ("/sso/callback", self.enter, "GET"),
            ("/sso/logout", self.end_of_provider, "GET"),
        )
        return [*routes, Route("/fleet/instances", self.data, methods=["GET"], middleware=COMPRESSED)]

    @property
    def service(self) -> Service:
        return self.pages.service

    async def begin(self, request: Request) -> Response:
        """Redirect to the provider; if it can't be reached, a page says so and the log has the reason."""
        try:
            return await self._begun(request)
        except ProviderUnavailable as exc:
            return self._unavailable(request, exc)

    async def _begun(self, request: Request) -> Response:
        begun, cookie = self.access.sessions.begin(
            _callback(request), page_after_login(request.query_params.get("next", ""))
        )
        response = RedirectResponse(await self.access.provider.authorization_url(begun), 303)
        response.headers["Cache-Control"] = "no-store"
        self.access.sessions.put_sign_in(response, cookie)
        return response

    async def enter(self, request: Request) -> Response:
        """The provider's answer. Anything invalid is refused with one sentence; the log has the reason."""
        try:
            response = await self._entered(request)
        except (SignInRefused, NoRole) as exc:
            facts_of(request).login_failed = True
            said = f"🔐 sign-in at the identity provider refused: {ErrorInfo.of(exc).words}"
            self.service.run.log.warning("serve", said, error=exc.code, address=address_of(request))
            response = self.pages.show_error(request, exc)
        except ProviderUnavailable as exc:
            response = self._unavailable(request, exc)
        self.access.sessions.drop(response, self.access.sessions.sign_in_cookie)
        return response

    def _unavailable(self, request: Request, exc: ProviderUnavailable) -> Response:
        self.service.run.log.warning("serve", f"🔐 {ErrorInfo.of(exc).words}", error=exc.code)
        return self.pages.show_error(request, exc)

    async def _entered(self, request: Request) -> Response:
        sessions, query = self.access.sessions, request.query_params
        if any(len(query.getlist(name)) > 1 for name in _ANSWER):
            raise SignInRefused("a parameter is given more than once")
        answer = {name: query[name] for name in _ANSWER if name in query}
        cookie = request.cookies.get(sessions.sign_in_cookie, "")
        begun = sessions.redeem(cookie, answer.get("state", ""), _callback(request))
        claims = await self.access.provider.redeem(begun, answer)
        person = person_from(claims, self.access.provider.client.issuer, self.access.rule)
        facts_of(request).actor = str(person)
        before, sid = sessions.read(request), claims.get("sid")
        if before is not None:
            sessions.end(before)
        # A page that continues by itself: a redirect would still be the provider's navigation, without strict cookies.
        response = self.pages.show(request, "onward.html", 200, place=begun.place, said="signed_in")
        sessions.put(response, sessions.open(person, sid if isinstance(sid, str) else None))
        return response

    async def end_of_provider(self, request: Request) -> Response:
        """OpenID Connect Front-Channel Logout 1.0: the provider's page calls this when its session ends. Entra ID names
        no issuer; there is only one here."""
        query, issuer = request.query_params, self.access.provider.client.issuer
        if query.get("iss", issuer) == issuer and query.get("sid"):
            self.access.sessions.end_of_provider(query["sid"])
        return Response(status_code=200, headers={"Cache-Control": "no-store"}, media_type="text/html")

    async def leave(self, request: Request) -> Response:
        session = self.access.sessions.read(request)
        if session is None:
            return await self.pages.leave(request)
        await self._checked_form(request, session)
        self._noted(request, session)
        self.access.sessions.end(session)
        beside = read_session(self.service, request)
        if beside is not None:
            await self.pages.give_back_all(request, beside)
        back_to = str(request.base_url.replace(path="/login"))
        place = await self.access.provider.end_session_url(back_to) or "/login"
        # No redirect: the form's answer may only lead to this site (form-action).
        response = self.pages.show(request, "onward.html", 200, place=place, said="signed_out")
        self.access.sessions.drop(response, self.access.sessions.cookie)
        drop_cookie(self.service, request, response)
        return response

    async def fleet(self, request: Request) -> Response:
        session = self.access.sessions.read(request)
        if session is None:
            return await self.pages.fleet(request)
        self._noted(request, session)
        words = load_translations(language_of(request))
        items = build_items(await self.board.entries(), self.access.links, words)
        query = request.query_params
        wanted = {name: query.get(name, "") for name, known in CHOICES.items() if query.get(name) in known}
        context: dict[str, Any] = {
            "items": items,
            "counts": count_items(items),
            "choices": CHOICES,
            "q": query.get("q", ""),
            "wanted": wanted,
            "fitting": sum(item.fits(query.get("q", ""), wanted) for item in items),
            "poll": 2 if self.board.reading else 15,
        }
        return self._inside(request, session, "fleet_all.html", events="", **context)

    async def data(self, request: Request) -> Response:
        """GET /fleet/instances: the page's rows as JSON."""
        facts_of(request).route = "/fleet/instances"
        return await in_time(self.service.run, self._data(request), build_response)

    async def _data(self, request: Request) -> Response:
        session = self.access.sessions.read(request)
        if session is None:
            raise Denied("a session of the fleet's page is needed", hint="sign in at /sso/login", code="token_required")
        self._noted(request, session)
        query = checked_query(fleet_operation(), request.query_params)
        items = build_items(await self.board.entries(), self.access.links)
        wanted = {name: query[name] or "" for name in CHOICES}
        found = [as_json(item) for item in items if item.fits(query["q"] or "", wanted)]
        return JSONResponse(found, headers={"Cache-Control": "no-store"})

    async def instance(self, request: Request, said: str = "") -> Response:
        """Allowed while the instance is locked: the lock is for the instance's own users."""
        session = self.access.sessions.read(request)
        if session is None:
            return await self.pages.instance(request)
        self._noted(request, session)
        desired = self.pages.find(request.path_params["instance"])
        detail = await read_detail(desired, self.service.run)
        context = page.instance(detail, language_of(request))
        links = self.access.links
        return self._inside(
            request,
            session,
            "instance.html",
            events=f"/events?instance={desired.instance}",
            said=said,
            source=links.link(desired.origin.declared_at) if links else None,
            commands=self.access.commands(desired.instance) if _may_check(session) else (),
            **context,
        )

    async def check(self, request: Request) -> Response:
        """A manual status check: recorded under the person's name and issuer before it is made."""
        session = self.access.sessions.read(request)
        if session is None:
            return await self.pages.check(request)
        self._noted(request, session)
        await self._checked_form(request, session)
        if not _may_check(session):
            raise Denied("only operators may check", hint="ask for an operator's group", code="operator_only")
        desired, address = self.pages.find(request.path_params["instance"]), address_of(request)
        actor = Actor(f"{session.person} (sso, {address})")
        run = replace(self.service.run_for(address), id=facts_of(request).id, actor=actor)
        await record_call(desired, run, "POST /instances/check", "checkStatus", address)
        report = await check_now(desired, run)
        await self.board.refresh(desired)
        if report.error is not None:
            return await self.instance(request, said=report.error.message)
        return RedirectResponse(f"/instances/{desired.instance}", 303)

    async def events(self, request: Request) -> Response:
        session = self.access.sessions.read(request)
        if session is None:
            return await self.pages.events(request)
        watched = frozenset({self.pages.find(request.query_params.get("instance", "")).instance})
        await self.pages.live.look_first(watched)

        async def counts() -> bool:
            return self.access.sessions.is_open(session)

        return self.pages.live.stream(request, watched, session=session.csrf, counts=counts)

    def _inside(
        self, request: Request, session: FleetSession, template: str, *, events: str, **context: Any
    ) -> Response:
        person = {"person": session.person, "role": session.person.role.name.lower()}
        return self.pages.show(
            request,
            template,
            200,
            events=events,
            csrf=session.csrf,
            link=page.link_to,
            more_instances=False,
            may_check=_may_check(session),
            **person,
            **context,
        )

    async def _checked_form(self, request: Request, session: FleetSession) -> Mapping[str, str]:
        form = await read_form(request)
        if not self.access.sessions.is_form(session, form.get("csrf", "")):
            raise cross_site()
        return form

    @staticmethod
    def _noted(request: Request, session: FleetSession) -> None:
        """Name the viewer in the access log's event."""
        facts_of(request).actor = str(session.person)


def _may_check(session: FleetSession) -> bool:
    return session.person.role >= Role.OPERATOR


def _callback(request: Request) -> str:
    """By the host that the browser used: the provider accepts only registered addresses."""
    return str(request.base_url.replace(path="/sso/callback"))
