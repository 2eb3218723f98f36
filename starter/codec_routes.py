"""The codec server: what operators and auditors see of encrypted payloads in the Temporal UI and its command line.

Temporal's remote codec protocol has `decode` and `encode`. Only `decode` is here: who could encode could write acts in
anybody's name; acts go through the doors, where rules and the ledger are.

Who asks is known by the bearer token that every route takes, or by a session cookie, because the Temporal UI cannot
send our token: one logs in at /codec/login, and the UI is told to send credentials along. The cookie is good for this
one purpose, cannot be read by scripts, is sent by pages of the same site only, and counts only when the request comes
from the configured address of the Temporal UI.
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import structlog
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from google.protobuf import json_format
from pydantic import BaseModel
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send
from temporalio.api.common.v1 import Payload, Payloads

from adapters.codec import PayloadUnreadable, district_of, is_encrypted
from adapters.decodings import Decoding
from adapters.settings import Settings
from domain.case import Role
from domain.district import Person
from starter.api import _ONLY_US, API, Doors, OurDoors, Reader, _templates, identify, router
from starter.bodies import RowId
from starter.identity import DistrictUnbound, TokenInvalid, issue, read
from starter.problems import Problem, unauthenticated

READS = frozenset({Role.AUDITOR, Role.SUPERVISOR, Role.ADMINISTRATOR})
"""Auditors and supervisors read every case of their scope anyway; administrators run the engine, and must see what it
stumbles over. Nobody else needs payloads: the doors show cases, and mask what is to be masked."""

AUDITS = frozenset({Role.AUDITOR})
"""Who sees who looked."""

COOKIE = "shaodao_codec"
SESSION = timedelta(hours=8)
_PURPOSE = "shaodao-codec"
_PATH = "/codec"
_log = structlog.get_logger()
_bearer = HTTPBearer(auto_error=False)


def install(app: FastAPI, settings: Settings) -> None:
    """Add the routes, and CORS for the Temporal UI's address and nothing else."""
    app.include_router(codec)
    app.include_router(audit)
    app.add_middleware(CodecCors, origin=origin_of(settings.temporal_ui_url))


# --- who asks, and what they may see -----------------------------------------------------------------------


async def identify_for_codec(
    request: Request,
    doors: OurDoors,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Person:
    """Return who asks: by bearer token from anywhere, by session from the Temporal UI only."""
    session = request.cookies.get(COOKIE)
    if credentials is not None or session is None:
        return await identify(doors, credentials)
    ui = origin_of(doors.settings.temporal_ui_url)
    if ui is None or request.headers.get("origin") != ui:
        raise unauthenticated("解密会话只接受来自 Temporal 界面(SHAODAO_TEMPORAL_UI_URL)的请求。")
    try:
        claimed = read(session, doors.settings.secret.get_secret_value(), purpose=_PURPOSE)
    except TokenInvalid:
        raise unauthenticated("解密会话已过期,请重新登录 /codec/login。") from None
    return await _known(doors, claimed)


async def _known(doors: Doors, claimed: str) -> Person:
    person = await doors.directory.find_person(claimed)
    if person is None:
        raise unauthenticated("令牌对应的人员不存在或已停用,请联系管理员。")
    structlog.contextvars.bind_contextvars(person=person.id)
    return person


Decoder = Annotated[Person, Depends(identify_for_codec)]


def origin_of(url: str | None) -> str | None:
    """Return scheme, host and port of an address, as browsers write an origin."""
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme and parts.netloc else None


def sees_every_district(person: Person, roles: frozenset[Role]) -> bool:
    """Whether the person has such a post at city level."""
    return any(post.city for post in person.posts if post.role in roles)


_UPKEEP = re.compile(r"(archive|reconcile)(/operator|-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)?")


def may_decode(person: Person, workflows: Sequence[str]) -> bool:
    """Whether the person may see payloads of these workflows: those of the own district, or all at city level.

    Archiving and reconciliation hold figures only, and are open to every district: they are the operators' own. What
    else no district's workflow is said to own is for the city level.
    """
    if sees_every_district(person, READS):
        return True
    if not any(post.role in READS for post in person.posts):
        return False
    return all(
        district_of(workflow) == person.district or _UPKEEP.fullmatch(workflow) for workflow in workflows
    )


# --- decoding ----------------------------------------------------------------------------------------------

codec = APIRouter(prefix=_PATH, include_in_schema=False)


@codec.post("/decode", dependencies=[Depends(identify_for_codec)])
async def decode(request: Request, doors: OurDoors, person: Decoder) -> Response:
    """Decrypt payloads: allowed, then written down, then done; what was never encrypted comes back as it is."""
    payloads = await _payloads(request)
    sealed = [payload for payload in payloads if is_encrypted(payload)]
    workflows = tuple(sorted({_field(payload, "workflow-id") for payload in sealed}))
    if not may_decode(person, workflows):
        _log.warning("decoding_refused", workflows=workflows)
        raise Problem(
            403, "may_not_decode", "您的岗位不能解密,或载荷不属于本区(市);由督查、审计、管理员办理。"
        )
    if sealed:
        await doors.store.record_decoding(
            Decoding(
                at=datetime.now(UTC),
                person=person.id,
                district=person.district,
                namespace=request.headers.get("x-namespace", "")[:200],
                workflows=workflows,
                keys=tuple(sorted({_field(payload, "key-id") for payload in sealed})),
                payloads=len(sealed),
                digest=digest_of(sealed),
            )
        )
    return _answer(await _decoded(doors, payloads))


async def _decoded(doors: Doors, payloads: list[Payload]) -> list[Payload]:
    decoder = doors.cases.client.data_converter.payload_codec
    if decoder is None:
        return payloads
    try:
        return await decoder.decode(payloads)
    except PayloadUnreadable as unreadable:
        _log.exception("payload_unreadable", code=unreadable.code)
        if unreadable.code == "payload_key_missing":
            raise Problem(422, "payload_key_missing", unreadable.detail) from None
        raise Problem(422, "payload_altered", unreadable.detail) from None


async def _payloads(request: Request) -> list[Payload]:
    try:
        return list(json_format.Parse(await request.body(), Payloads(), ignore_unknown_fields=True).payloads)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError):
        raise Problem(400, "malformed_json", "请求体应为 Temporal 的 Payloads(JSON)。") from None


def _answer(payloads: list[Payload]) -> Response:
    content = json_format.MessageToJson(Payloads(payloads=payloads), indent=None)
    return Response(content, media_type="application/json", headers={"Cache-Control": "no-store"})


def digest_of(payloads: Sequence[Payload]) -> str:
    """Return the SHA-256 (hex) of encrypted payloads, in order."""
    digest = hashlib.sha256()
    for payload in payloads:
        digest.update(payload.data)
    return digest.hexdigest()


def _field(payload: Payload, name: str) -> str:
    return payload.metadata[name].decode("utf-8", "replace") if name in payload.metadata else ""


# --- logging in from a browser -----------------------------------------------------------------------------


@codec.get("/login")
async def login_page(request: Request, doors: OurDoors) -> HTMLResponse:
    """Show the form, or that one is logged in already."""
    return _page(request, doors)


@codec.post("/login")
async def log_in(request: Request, doors: OurDoors) -> Response:
    """Take a token for a session that is good for decoding and nothing else, or end the session."""
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Problem(403, "foreign_form", "请在本站的登录页提交。")
    form = parse_qs((await request.body()).decode("utf-8", "replace"))
    if "leave" in form:
        return _logged_out()
    secret = doors.settings.secret.get_secret_value()
    try:
        person = await _known(doors, read(form.get("token", [""])[0].strip(), secret))
    except (TokenInvalid, Problem):
        return _page(request, doors, failed="令牌无效或已过期,请重新取得。", status=401)
    except DistrictUnbound as unbound:
        return _page(request, doors, failed=unbound.detail, status=503)
    if not any(post.role in READS for post in person.posts):
        return _page(request, doors, failed="您的岗位不能解密;由督查、审计、管理员办理。", status=403)
    answer = RedirectResponse(f"{_PATH}/login", 303)
    answer.set_cookie(
        COOKIE,
        issue(person.id, days=SESSION / timedelta(days=1), secret=secret, purpose=_PURPOSE),
        max_age=int(SESSION.total_seconds()),
        path=_PATH,
        httponly=True,
        samesite="strict",
        secure=_is_https(request, doors),
    )
    return answer


def _logged_out() -> Response:
    answer = RedirectResponse(f"{_PATH}/login", 303)
    answer.delete_cookie(COOKIE, path=_PATH)
    return answer


def _is_https(request: Request, doors: Doors) -> bool:
    """Whether the site is served over TLS; a proxy before us may end it, the UI's address then says so."""
    return request.url.scheme == "https" or (doors.settings.temporal_ui_url or "").startswith("https:")


def _page(request: Request, doors: Doors, *, failed: str = "", status: int = 200) -> HTMLResponse:
    session = request.cookies.get(COOKIE)
    try:
        person = read(session or "", doors.settings.secret.get_secret_value(), purpose=_PURPOSE)
    except TokenInvalid:
        person = ""
    page = _templates.get_template("codec.html").render(
        person=person,
        failed=failed,
        endpoint=str(request.base_url).rstrip("/") + _PATH,
        ui=doors.settings.temporal_ui_url,
        hours=int(SESSION.total_seconds() // 3600),
    )
    return HTMLResponse(page, status, headers={**_ONLY_US, "Cache-Control": "no-store"})


# --- who looked --------------------------------------------------------------------------------------------

audit = APIRouter(prefix=API, dependencies=[Depends(identify)], responses=router.responses)


class DecodingView(BaseModel):
    """One decryption."""

    id: int
    at: datetime
    person: str
    district: str
    namespace: str
    workflows: list[str]
    keys: list[str]
    payloads: int
    digest: str


class DecodingsView(BaseModel):
    """Decryptions, newest first."""

    items: list[DecodingView]


@audit.get("/codec/decodings", summary="解密记录", tags=["审计"])
async def list_decodings(
    doors: OurDoors,
    person: Reader,
    before: Annotated[RowId | None, Query(description="上一页最后一条的 id")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> DecodingsView:
    """何人、何时经解密服务查看了哪些流程的载荷,最新的在前;digest 为密文的 SHA-256,可与历史核对。"""
    if not any(post.role in AUDITS for post in person.posts):
        raise Problem(403, "role_may_not", "解密记录由审计人员查看。")
    everywhere = sees_every_district(person, AUDITS)
    found = await doors.store.decodings(
        district=None if everywhere else person.district, before=before, limit=limit
    )
    names = [name for name in DecodingView.model_fields if name != "id"]
    return DecodingsView(
        items=[
            DecodingView.model_validate({"id": number, **{name: getattr(each, name) for name in names}})
            for number, each in found
        ]
    )


class CodecCors:
    """Lets the Temporal UI's pages read the codec server's answers, and no other page; the API has no CORS at all."""

    def __init__(self, app: ASGIApp, origin: str | None) -> None:
        self._app = app
        self._allowing: Any = CORSMiddleware(
            app,
            allow_origins=[origin] if origin else [],
            allow_methods=["POST"],
            allow_headers=["Content-Type", "X-Namespace", "Authorization"],
            allow_credentials=True,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        concerned = scope["type"] == "http" and scope["path"] == f"{_PATH}/decode"
        await (self._allowing if concerned else self._app)(scope, receive, send)
