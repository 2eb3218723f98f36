"""The HTTP door: who asks, what they ask, and the answer; the rules are elsewhere."""

import asyncio
import contextlib
import hashlib
import json
import re
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import structlog
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import Field
from temporalio.service import RPCError

from adapters.codec import PayloadUnreadable
from adapters.database import StoreUnavailable
from adapters.logs import configure_logging
from adapters.queries import CaseQuery, Sort
from adapters.settings import Settings
from adapters.store import Answer, IdempotencyClash, NotFound, Store, open_store
from adapters.temporal import connect
from adapters.witnesses import LedgerWitnesses, witnesses_of
from domain import access, audit, words
from domain.calendar import SHANGHAI
from domain.case import Actor, CallDetails, CaseId, CaseState, Category, Direction, LinkKind, Stage
from domain.commands import COMMANDS, Act, AdoptTerms, AnyCommand
from domain.district import District, Item, Person, Terms
from domain.errors import Forbidden, Invalid, Refused
from domain.events import Entry
from domain.lifecycle import AFTER_THE_END, decide, evolve, open_case, overdue
from domain.opening import require_check_in_soon
from domain.policy import LimitClass, Urgency
from domain.ports import CaseStart, Contact, Intake, PendingAct, Receipt
from domain.recurrence import is_same_place
from starter import problems, views
from starter.bodies import (
    BODIES,
    AdoptionBody,
    Body,
    CallBody,
    CheckInBody,
    LinkBody,
    ReadBody,
    RowId,
    Time,
    fields_of,
)
from starter.case_client import KEY_REUSED, CaseClient, CaseNotRunning, TemporalUnavailable
from starter.executions import TemporalExecutions
from starter.identity import Directory, TokenInvalid, read
from starter.known_values import require_known
from starter.limits import BODY_WITHIN, BodyLimit, RequestLog
from starter.operations import journaled
from starter.problems import Problem, case_not_found, unauthenticated
from starter.relay import Relay

HERE = Path(__file__).parent
API = "/api/v1"
PUBLIC = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz", "/codec/login"})
"""Every route outside this list needs a token; a test holds it so."""

_CASE_ID = re.compile(r"[a-z0-9_-]{1,100}")
_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
_log = structlog.get_logger()
_bearer = HTTPBearer(auto_error=False, description="shaodao token 人员编号 签发的令牌")


@dataclass(slots=True)
class Doors:
    """What the routes work with; one for each application."""

    settings: Settings
    store: Store
    cases: CaseClient
    directory: Directory
    relay: Relay

    @property
    def witnesses(self) -> LedgerWitnesses:
        """What ledgers are held against before a case goes on from one."""
        return witnesses_of(self.settings, self.store)


def _doors(request: Request) -> Doors:
    doors: Doors = request.app.state.doors
    return doors


OurDoors = Annotated[Doors, Depends(_doors)]


async def identify(
    doors: OurDoors, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Person:
    """Return who asks, or refuse."""
    if credentials is None:
        raise unauthenticated("请在 Authorization 头中提供访问令牌:Bearer 令牌。")
    try:
        claimed = read(credentials.credentials, doors.settings.secret.get_secret_value())
    except TokenInvalid:
        raise unauthenticated("访问令牌无效或已过期,请重新取得。") from None
    person = await doors.directory.find_person(claimed)
    if person is None:
        raise unauthenticated("令牌对应的人员不存在或已停用,请联系管理员。")
    structlog.contextvars.bind_contextvars(person=person.id)
    return person


Reader = Annotated[Person, Depends(identify)]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="同一次操作重试时使用同一值:结果相同且只生效一次。",
    ),
]

_PROBLEM = {"$ref": "#/components/schemas/Problem"}

router = APIRouter(
    prefix=API,
    dependencies=[Depends(identify)],
    responses={
        status: {
            "description": problems.TITLES[status],
            "content": {problems.MEDIA_TYPE: {"schema": _PROBLEM}},
        }
        for status in (400, 401, 403, 404, 409, 413, 415, 422, 500, 503)
    },
)


# --- calling -----------------------------------------------------------------------------------------------


@router.post("/cases", status_code=201, response_model=views.CaseView, summary="吹哨(呼叫)", tags=["案件"])
async def call(body: CallBody, doors: OurDoors, person: Reader, key: Key = None) -> Response:
    """提交一个呼叫。答复 201 即已落库:此后无论何种故障都不会丢失。"""
    digest = _digest("/cases", body)
    if replayed := await _replayed(doors, person, key, digest):
        return replayed
    now, actor = _now(), person.actor()
    district = doors.directory.district(body.district)
    if district is None:
        raise Invalid("unknown_district", f"区(市)“{body.district}”不存在。")
    terms = district.terms()
    details = await _details(doors, body, actor, district, now)
    called = open_case(details, now, terms, caller=actor, catalogue_version=district.catalogue_version)
    if not access.may_call(actor, body.district, body.township, department=details.caller_office):
        raise Forbidden("role_may_not", "您只能代表本镇街吹哨,或代表本部门交办。")
    case_id = _new_case_id(district.code, now)
    opened = audit.chain(case_id, [called], after=None, at=now, by=actor, key=_scoped(person, key))[0]
    contact = Contact(name=body.contact.name, phone=body.contact.phone)
    view = views.case_view(evolve(None, opened), actor, now, terms, contact=contact)
    content = view.model_dump_json()
    intake = Intake(
        start=CaseStart(opened=opened, terms=terms), contact=contact, key=key or "", body_digest=digest
    )
    try:
        await doors.store.take_call(intake, person=person.id, status=201, body=content)
    except IdempotencyClash:
        answer = await _replayed(doors, person, key, digest)
        assert answer is not None  # noqa: S101 - the clash says that it is there
        return answer
    doors.relay.kick()
    return _json(content, 201, Location=f"{API}/cases/{case_id}")


async def _details(
    doors: Doors, body: CallBody, actor: Actor, district: District, now: datetime
) -> CallDetails:
    """Return what is called, with what the list says of it as it stands today, and what came before it."""
    item: Item | None = None
    if body.item_code is not None:
        item = doors.directory.item(district.code, body.item_code)
        if item is None:
            raise Invalid("unknown_item", f"事项“{body.item_code}”不在事项清单中,请查询 /catalogue/items。")
    content: dict[str, Any] = {
        **body.model_dump(exclude={"contact"}),
        "item_name": item.name if item else None,
        "limit_class": item.limit_class if item else LimitClass.ORDINARY,
        "responsibility": item.responsibility() if item else None,
    }
    if body.direction is Direction.DOWN and body.caller_office is None:
        content["caller_office"] = _only_office(actor)
    if body.direction is Direction.UP and body.caller_office is not None:
        raise Invalid("caller_office_not_for_up", "只有部门向镇街交办(direction=down)时填写 caller_office。")
    details = CallDetails.model_validate(content)
    require_check_in_soon(details, now, district.terms())
    rule = district.policy.recurrence
    if item is None or rule is None or details.direction is Direction.DOWN:
        return details
    since = now - rule.within.time
    earlier = await doors.store.of_item_since(district.code, item.code, since)
    same = [
        each for each in earlier if is_same_place(each.call.location, details.location, rule.radius_metres)
    ]
    recurs = tuple(each.case_id for each in same[:_RECURS_KEPT])
    return details.model_copy(update={"recurs": recurs, "raised": rule.raised if recurs else 0})


_RECURS_KEPT = 20


def _only_office(actor: Actor) -> str | None:
    offices = {post.organisation for post in actor.posts}
    return next(iter(offices)) if len(offices) == 1 else None


def _new_case_id(district: str, now: datetime) -> CaseId:
    """Return an id that one can say over the telephone: no letters that look like digits."""
    tail = "".join(secrets.choice(_LETTERS) for _ in range(6))
    return CaseId(f"{district}-{now.astimezone(SHANGHAI):%Y%m%d}-{tail}")


# --- reading -----------------------------------------------------------------------------------------------


class Filters(Body):
    """What to list; a filter that does not exist is refused, not left out."""

    district: str | None = None
    township: str | None = None
    department: str | None = None
    awaiting_sign: Annotated[str | None, Field(description="尚待该部门签收的")] = None
    stage: Stage | None = None
    category: Category | None = None
    item: str | None = None
    urgency: Urgency | None = None
    overdue: bool | None = None
    watched: Annotated[bool | None, Field(description="只看本人关注的")] = None
    text: Annotated[str | None, Field(max_length=100, description="标题、内容、地点或案件编号中的文字")] = (
        None
    )
    called_from: Annotated[Time | None, Field(description="吹哨时间不早于")] = None
    called_before: Annotated[Time | None, Field(description="吹哨时间早于")] = None
    sort: Annotated[
        str, Field(pattern=r"^-?(called_at|acted_at|next_due_at)$", description="前加 - 为降序")
    ] = "-called_at"
    cursor: Annotated[str | None, Field(max_length=500)] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


@router.get("/cases", response_model=views.CasePageView, summary="案件列表", tags=["案件"])
async def list_cases(
    doors: OurDoors, person: Reader, filters: Annotated[Filters, Query()]
) -> views.CasePageView:
    """列出本人可见的案件,按游标翻页。"""
    query = CaseQuery(
        district=filters.district,
        township=filters.township,
        department=filters.department,
        awaiting_sign=filters.awaiting_sign,
        stage=filters.stage,
        category=filters.category,
        item=filters.item,
        urgency=filters.urgency,
        overdue=filters.overdue,
        watched_by=person.id if filters.watched else None,
        text=filters.text,
        called_from=filters.called_from,
        called_before=filters.called_before,
        sort=Sort(filters.sort.removeprefix("-")),
        descending=filters.sort.startswith("-"),
        cursor=filters.cursor,
        limit=filters.limit,
    )
    page = await doors.store.cases(query, access.sight(person.actor()), _now())
    if not page.items:  # what has cases is known, though it may have left the district's folder since
        require_known(
            doors.directory,
            person,
            district=filters.district,
            township=filters.township,
            department=filters.department,
            item=filters.item,
        )
    return views.CasePageView(
        items=[views.line_view(line, doors.directory.district(line.district)) for line in page.items],
        next_cursor=page.next_cursor,
    )


@router.get("/cases/{case_id}", response_model=views.CaseView, summary="案件详情", tags=["案件"])
async def show_case(case_id: str, doors: OurDoors, person: Reader) -> Response:
    """查看案件:阶段、各部门时钟,以及本人现在可以办理的操作(allowed_acts)。"""
    state = await _visible(doors, CaseId(case_id), person)
    return _json(await _view(doors, state, person))


@router.get("/cases/{case_id}/timeline", summary="时间线", tags=["案件"])
async def show_timeline(case_id: str, doors: OurDoors, person: Reader) -> views.TimelineView:
    """案件中发生的一切:何人、何时、何事。"""
    await _visible(doors, CaseId(case_id), person)
    return views.timeline_view(await doors.store.timeline(CaseId(case_id)))


@router.get("/cases/{case_id}/audit", summary="台账(含哈希)", tags=["案件"])
async def show_audit(case_id: str, doors: OurDoors, person: Reader) -> views.AuditView:
    """案件台账原文。每条记录的 SHA-256 即其 hash,并以 previous 指向上一条。"""
    await _visible(doors, CaseId(case_id), person)
    return views.audit_view(case_id, await doors.store.raw_entries(CaseId(case_id)))


async def _visible(doors: Doors, case_id: CaseId, person: Person) -> CaseState:
    """Return the case as it is, from the store, or from its workflow while the store is away."""
    if not _CASE_ID.fullmatch(case_id):
        raise case_not_found()
    try:
        state = await doors.store.case(case_id)
    except StoreUnavailable:
        try:
            state = await doors.cases.state(case_id)
        except CaseNotRunning:
            raise case_not_found() from None
    if state is None or not access.may_see(person.actor(), state):
        raise case_not_found()
    return state


async def _terms(doors: Doors, state: CaseState) -> Terms:
    """Return the terms of the case; while the store is away the district's current ones, for showing only."""
    try:
        return await doors.store.terms_of(state.case_id)
    except (StoreUnavailable, NotFound):
        district = doors.directory.district(state.call.district)
        if district is None:
            raise
        return district.terms()


async def _view(doors: Doors, state: CaseState, person: Person) -> str:
    contact: Contact | None = None
    pending: list[PendingAct] = []
    with contextlib.suppress(StoreUnavailable):
        contact = await doors.store.contact(state.case_id)
        pending = await doors.store.pending_of(state.case_id)
    terms = await _terms(doors, state)
    return views.case_view(
        state, person.actor(), _now(), terms, contact=contact, pending=pending
    ).model_dump_json()


# --- acting ------------------------------------------------------------------------------------------------


async def _perform(
    doors: Doors, person: Person, case_id: CaseId, act: Act, body: Body, key: str | None
) -> Response:
    digest = _digest(f"/cases/{case_id}/{act}", body)
    if replayed := await _replayed(doors, person, key, digest):
        return replayed
    state = await _visible(doors, case_id, person)
    other: CaseState | None = None
    if isinstance(body, LinkBody):
        other = await _visible(doors, CaseId(body.other), person)
        if other.is_over and body.kind is LinkKind.DUPLICATE:
            raise Refused(
                "other_is_over", f"案件 {other.case_id} {words.STAGES[other.stage]},不能并入;可以关联。"
            )
    command = _command(doors, person, state, act, body, key, digest, other=other)
    try:
        receipt = await _act(doors, state, command)
    except TemporalUnavailable:
        return await _defer(doors, person, state, command)
    after = await _after(doors, case_id, receipt.sequence, recorded=receipt.recorded)
    content = await _view(doors, after, person)
    if key:
        answer = Answer(body_digest=digest, status=200, body=content)
        with contextlib.suppress(StoreUnavailable):  # the workflow itself knows the key
            await doors.store.remember(person.id, key, answer, _now())
    return _json(content)


async def _act(doors: Doors, state: CaseState, command: AnyCommand) -> Receipt:
    """Hand the act to the workflow; one that has not been started yet is started first.

    Starting is safe at any time: a workflow that runs, or has run, is never started again.
    """
    try:
        return await doors.cases.act(state.case_id, command)
    except CaseNotRunning:
        start = None if state.is_over else await doors.store.start_of(state.case_id)
        if start is not None:
            await doors.cases.start(start)
    try:
        return await doors.cases.act(state.case_id, command)
    except CaseNotRunning:
        ended = state if state.is_over else await doors.store.case(state.case_id) or state
    done = await _done_before(doors, ended, command)
    if done is not None:
        return done
    if not ended.is_over:  # its run is gone: the act is kept until reconciliation has let the case go on
        raise TemporalUnavailable("the run of an open case is gone")
    decide(ended, command, _now(), await _terms(doors, ended))
    start = await _reopening(doors, state.case_id) if command.act in AFTER_THE_END else None
    if start is None:
        raise Refused("case_over", "案件已经结束,不能再办理。")
    await doors.cases.start(start)
    return await doors.cases.act(state.case_id, command)


async def _reopening(doors: Doors, case_id: CaseId) -> CaseStart | None:
    """Return what a case that has ended starts with again, when nothing contradicts its ledger."""
    try:
        known = [
            *await doors.witnesses.of(case_id),
            *await TemporalExecutions(doors.cases).acknowledged(case_id),
        ]
    except (OSError, RPCError, PayloadUnreadable) as away:  # the act is kept until they can be asked
        raise TemporalUnavailable("archive or history cannot be read") from away
    return await doors.store.reopening(case_id, known)


async def _done_before(doors: Doors, state: CaseState, command: AnyCommand) -> Receipt | None:
    """Return the receipt of an act that was the case's last, when it is sent again under its key."""
    try:
        entries = await doors.store.entries(state.case_id)
    except StoreUnavailable:
        return None
    mine = [entry for entry in entries if entry.key == command.key]
    if not mine:
        return None
    return Receipt(sequence=mine[-1].sequence, hash=mine[-1].hash, stage=state.stage.value, recorded=True)


async def _defer(doors: Doors, person: Person, state: CaseState, command: AnyCommand) -> Response:
    """Keep the act for the relay, unless the rules refuse it already."""
    now, terms = _now(), await _terms(doors, state)
    judged = state
    for event in overdue(state, now, terms):
        entry = Entry(
            case_id=state.case_id, sequence=judged.sequence + 1, at=now, by=None, event=event, previous=""
        )
        judged = evolve(judged, entry)
    decide(judged, command, now, terms)
    await doors.store.defer_act(
        state.case_id,
        command.act.value,
        command.model_dump_json(),
        update_id=command.key,
        person=person.id,
        at=now,
    )
    await _require_kept(doors, state.case_id, command)
    _log.warning("act_deferred", case_id=state.case_id, act=command.act.value)
    content = await _view(doors, state, person)
    return _json(content, 202, Location=f"{API}/cases/{state.case_id}")


async def _require_kept(doors: Doors, case_id: CaseId, command: AnyCommand) -> None:
    """Raise unless what stands under the act's key is this very act: waiting, or done already."""
    waiting = {each.update_id: each for each in await doors.store.pending_of(case_id)}
    if command.key in waiting:
        kept = waiting[command.key].command.get("body_digest") == command.body_digest
    else:
        kept = any(entry.key == command.key for entry in await doors.store.entries(case_id))
    if not kept:
        raise KEY_REUSED


async def _after(doors: Doors, case_id: CaseId, sequence: int, *, recorded: bool) -> CaseState:
    """Return the case as it is after the act: from the store when it has caught up, else from the workflow."""
    if recorded:
        with contextlib.suppress(StoreUnavailable):
            state = await doors.store.case(case_id)
            if state is not None and state.sequence >= sequence:
                return state
    return await doors.cases.state(case_id)


def _command(
    doors: Doors,
    person: Person,
    state: CaseState,
    act: Act,
    body: Body,
    key: str | None,
    digest: str,
    *,
    other: CaseState | None = None,
) -> AnyCommand:
    fields = fields_of(body)
    if isinstance(body, CheckInBody):
        _require_known_officers(doors, state, body)
    if other is not None:
        fields["other_called_at"] = other.called_at
    wanted = COMMANDS[act].model_fields.get("department")
    if wanted is not None and wanted.is_required() and "department" not in fields:
        fields["department"] = _only_department(person, state, act)
    command: AnyCommand = COMMANDS[act].model_validate(
        {**fields, "by": person.actor(), "key": _scoped(person, key), "body_digest": digest}
    )
    return command


def _require_known_officers(doors: Doors, state: CaseState, body: CheckInBody) -> None:
    """Officers may come without an account here; one who is named by id must be one of the district's people."""
    for officer in body.officers:
        known = doors.directory.person(officer.id) if officer.id is not None else None
        if officer.id is not None and (known is None or known.district != state.call.district):
            raise Invalid("unknown_person", f"人员“{officer.id}”不在本区(市)人员名册中;可只填姓名。")


def _only_department(person: Person, state: CaseState, act: Act) -> str:
    """Return the one office that can be meant: the person's own on the case, or the only one there is."""
    assigned = {each.department for each in state.assignments}
    own = {post.organisation for post in person.posts}
    mine = own & (assigned | ({state.call.township} if act is Act.ACTION else set()))
    candidates = mine or assigned
    if len(candidates) != 1:
        raise Invalid("missing_field", "请指明部门(department)。")
    return str(candidates.pop())


def _add_act_route(act: Act, body_type: type[Body]) -> None:
    path = views.path_of(act)

    @router.post(
        f"/cases/{{case_id}}/{path}",
        response_model=views.CaseView,
        summary=words.ACTS[act],
        tags=["办理"],
        name=act.value,
        responses={
            202: {"description": "办理引擎暂不可用,操作已落库,恢复后自动补办", "model": views.CaseView}
        },
    )
    async def perform(
        case_id: str,
        doors: OurDoors,
        person: Reader,
        body: body_type,  # type: ignore[valid-type]  # FastAPI reads it when the route is made
        key: Key = None,
    ) -> Response:
        return await _perform(doors, person, CaseId(case_id), act, body, key)


for each_act, each_body in BODIES.items():
    _add_act_route(each_act, each_body)


# --- newer terms for running cases -------------------------------------------------------------------------


@router.post(
    "/policy/adoptions",
    status_code=202,
    response_model=views.AdoptionView,
    summary="在办案件适用新版政策(日历)",
    tags=["基础数据"],
)
async def adopt(body: AdoptionBody, doors: OurDoors, person: Reader, key: Key = None) -> Response:
    """对本区(市)全部在办案件适用当前装载的政策或工作日历;逐案重算时限并记入台账。"""
    digest = _digest("/policy/adoptions", body)
    if replayed := await _replayed(doors, person, key, digest):
        return replayed
    await doors.directory.refresh()  # what was loaded a moment ago is meant, not what is remembered
    actor, district = person.actor(), district_of(doors, person, body.district)
    access.require_may_adopt(actor, district.code)
    now, newer, scoped = _now(), district.terms(), _scoped(person, key)
    arguments = {"scope": body.scope, "reason": body.reason}
    async with journaled(doors.store, person, district.code, "adopt_terms", arguments) as told:
        taken = 0
        for case_id in await doors.store.running(district.code):
            held = await doors.store.terms_of(case_id)
            if held.adopting(newer, body.scope) == held:
                continue
            update_id = hashlib.sha256(f"{scoped}\n{case_id}".encode()).hexdigest()
            command = AdoptTerms(
                by=actor, key=update_id, scope=body.scope, terms=newer, reason=body.reason, body_digest=digest
            )
            await doors.store.defer_act(
                case_id,
                command.act.value,
                command.model_dump_json(),
                update_id=update_id,
                person=person.id,
                at=now,
            )
            taken += 1
        told.append(f"{taken} 件在办案件,政策 {newer.policy.version},日历 {newer.calendar.version}")
    doors.relay.kick()
    view = views.AdoptionView(
        district=district.code,
        policy_version=newer.policy.version,
        calendar_version=newer.calendar.version,
        cases=taken,
    )
    if key:
        answer = Answer(body_digest=digest, status=202, body=view.model_dump_json())
        await doors.store.remember(person.id, key, answer, now)
    return _json(view.model_dump_json(), 202)


# --- inbox, reference data ---------------------------------------------------------------------------------


@router.get("/inbox", summary="收件箱", tags=["通知"])
async def show_inbox(
    doors: OurDoors,
    person: Reader,
    *,
    unread_only: bool = False,
    before: Annotated[RowId | None, Query(description="上一页最后一条的 id")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> views.InboxView:
    """本人的通知,最新的在前。"""
    found = await doors.store.inbox(person.id, unread_only=unread_only, before=before, limit=limit)
    names = views.NoticeView.model_fields
    return views.InboxView(
        items=[views.NoticeView(**{name: getattr(each, name) for name in names}) for each in found]
    )


@router.post("/inbox/read", response_model=views.MarkedView, summary="标为已读", tags=["通知"])
async def read_notices(body: ReadBody, doors: OurDoors, person: Reader, key: Key = None) -> Response:
    """将本人的通知标为已读;marked 为其中原来未读的条数。"""
    digest = _digest("/inbox/read", body)
    if replayed := await _replayed(doors, person, key, digest):
        return replayed
    now = _now()
    content = json.dumps({"marked": await doors.store.mark_read(person.id, body.ids, now)})
    if key:
        await doors.store.remember(person.id, key, Answer(body_digest=digest, status=200, body=content), now)
    return _json(content)


@router.get("/me", summary="我是谁", tags=["基础数据"])
async def me(person: Reader) -> dict[str, Any]:
    """当前令牌对应的人员及其岗位。"""
    posts = [{**post.model_dump(), "role_label": words.ROLES[post.role]} for post in person.posts]
    return {"id": person.id, "name": person.name, "district": person.district, "posts": posts}


def district_of(doors: Doors, person: Person, code: str | None) -> District:
    """Return the district that is asked for: the reader's own, or any for the city level."""
    seen = access.sight(person.actor())
    wanted = code or person.district
    district = doors.directory.district(wanted)
    if district is None or (wanted != person.district and not seen.everything):
        raise Problem(404, "district_not_found", "没有该区(市),或您无权查看。")
    return district


@router.get("/organisations", summary="组织机构", tags=["基础数据"])
async def organisations(doors: OurDoors, person: Reader, district: str | None = None) -> dict[str, Any]:
    """镇街、部门及其 1+X+Y 层级。"""
    found = district_of(doors, person, district)
    return {
        "district": found.code,
        "name": found.name,
        "items": [each.model_dump(mode="json") for each in found.organisations],
    }


@router.get("/policy", summary="政策(时限与升级阶梯)", tags=["基础数据"])
async def policy(doors: OurDoors, person: Reader, district: str | None = None) -> dict[str, Any]:
    """当前政策及工作日历版本;在办案件沿用立案时的版本。"""
    found = district_of(doors, person, district)
    return {
        "district": found.code,
        "policy": found.policy.model_dump(mode="json"),
        "calendar": found.calendar.model_dump(mode="json"),
    }


# --- pages and probes --------------------------------------------------------------------------------------

public = APIRouter(include_in_schema=False)
_templates = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=select_autoescape())
_ONLY_US = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@public.get("/")
async def home(doors: OurDoors) -> HTMLResponse:
    """Say what this is and where to go."""
    page = _templates.get_template("home.html").render(
        districts=[district.name for district in doors.directory.districts()],
        temporal_ui_url=doors.settings.temporal_ui_url,
    )
    return HTMLResponse(page, headers=_ONLY_US)


@public.get("/docs")
async def docs() -> HTMLResponse:
    """Show the API, with our own copy of Swagger UI: closed networks reach no CDN."""
    return HTMLResponse(_templates.get_template("docs.html").render(), headers=_ONLY_US)


@public.get("/healthz")
async def healthz() -> dict[str, str]:
    """Say that the process lives."""
    return {"status": "ok"}


@public.get("/readyz")
async def readyz(doors: OurDoors) -> JSONResponse:
    """Say whether the store and Temporal answer; 503 names what does not."""
    parts = {"store": await _answers(doors.store.ping), "temporal": await _answers(_temporal_health(doors))}
    return JSONResponse(parts, 200 if all(parts.values()) else 503)


def _temporal_health(doors: Doors) -> Callable[[], Any]:
    return doors.cases.client.service_client.check_health


async def _answers(ask: Callable[[], Any]) -> bool:
    try:
        async with asyncio.timeout(3):
            await ask()
    except Exception:
        return False
    return True


# --- composition -------------------------------------------------------------------------------------------


def create_api(doors: Doors) -> FastAPI:
    """Return the application; its background work runs while it is served."""
    from starter import ops_routes  # which imports what stands here

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with contextlib.suppress(StoreUnavailable):
            await doors.directory.refresh()
        tasks = [asyncio.create_task(doors.relay.run()), asyncio.create_task(doors.directory.keep_fresh())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    app = FastAPI(
        title="哨到 shaodao",
        version="v1",
        description=(
            "镇街吹哨、部门报到。时间为 ISO 8601(带时区);错误为 RFC 9457 problem+json,"
            "code 稳定、detail 说明如何处理。每个 POST 均可带 Idempotency-Key 安全重试。"
        ),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.doors = doors
    app.include_router(router)
    app.include_router(import_module("starter.catalogue_routes").router)  # it builds on this module
    app.include_router(ops_routes.router)
    app.include_router(_audit_router())
    app.include_router(import_module("starter.figures_routes").router)  # the same
    app.include_router(public)
    import_module("starter.codec_routes").install(app, doors.settings)  # it builds on this module
    described = app.openapi()
    described["components"]["schemas"]["Problem"] = problems.SCHEMA
    app.add_api_route("/openapi.json", lambda: JSONResponse(described), include_in_schema=False)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    problems.install(app)
    app.add_middleware(BodyLimit, most=doors.settings.max_body_bytes, within=BODY_WITHIN)
    app.add_middleware(RequestLog)
    return app


def _audit_router() -> APIRouter:
    from starter.audit_routes import router as audit_router  # it takes who asks, and what they see, from here

    return audit_router


async def open_doors(settings: Settings) -> Doors:
    """Wire the doors from settings; nothing is connected before the first request."""
    store = open_store(settings)
    cases = CaseClient(await connect(), within=settings.temporal_within)
    directory = Directory(store)
    relay = Relay(
        store,
        cases,
        directory,
        anchor_every=timedelta(minutes=settings.anchor_every),
        witnesses=witnesses_of(settings, store),
    )
    return Doors(settings, store, cases, directory, relay)


async def serve() -> None:
    """Serve until SIGINT or SIGTERM."""
    settings = Settings()
    configure_logging()
    doors = await open_doors(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            create_api(doors), host=settings.host, port=settings.port, log_config=None, access_log=False
        )
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    await server.serve()
    await doors.store.close()


def _now() -> datetime:
    return datetime.now(UTC)


def _scoped(person: Person, key: str | None) -> str:
    """Return the key as the workflow knows it: nobody can take another person's, and without one it is fresh."""
    if key is None:
        return secrets.token_hex(16)
    return hashlib.sha256(f"{person.id}\n{key}".encode()).hexdigest()


def _digest(path: str, body: Body) -> str:
    content = json.dumps([path, body.model_dump(mode="json", exclude_unset=True)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


async def _replayed(doors: Doors, person: Person, key: str | None, digest: str) -> Response | None:
    """Return what this key was answered before; None when it is new, or when the store is away."""
    if key is None:
        return None
    try:
        answer = await doors.store.answered(person.id, key)
    except StoreUnavailable:
        return None
    if answer is None:
        return None
    if answer.body_digest != digest:
        raise KEY_REUSED
    headers = {"Idempotent-Replay": "true"}
    if answer.status == 201:
        headers["Location"] = f"{API}/cases/{json.loads(answer.body)['case_id']}"
    return _json(answer.body, answer.status, **headers)


def _json(content: str, status: int = 200, **headers: str) -> Response:
    return Response(content, status, headers, media_type="application/json")
