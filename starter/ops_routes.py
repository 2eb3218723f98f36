"""The doors of operators, and of those who read the archive."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Response
from google.protobuf.json_format import MessageToJson
from pydantic import BaseModel, Field, StrictBool, StrictInt, model_validator
from pydantic_core import PydanticCustomError

from activities.archive import (
    read_history,
    read_ledger,
    read_manifest,
    read_terms,
    verify,
    verify_run,
)
from adapters.archive import open_archive
from adapters.store import Answer
from adapters.upkeep import ArchivedVersion
from domain import words
from domain.case import CaseId, Role
from domain.district import Person
from domain.errors import DomainError, Forbidden
from domain.events import Entry
from domain.ports import Archive, ArchivedRun, Manifest
from starter.api import API, Doors, Key, OurDoors, Reader, _digest, _json, _replayed, _visible, identify
from starter.api import router as cases_router
from starter.bodies import Body, StrictRowId
from starter.executions import TemporalExecutions
from starter.operations import Operations, journaled
from starter.problems import Problem, case_not_found
from starter.run_timeline import run_timeline

router = APIRouter(prefix=API, dependencies=[Depends(identify)], responses=cases_router.responses)
_T = TypeVar("_T")

_RUNS = frozenset({Role.ADMINISTRATOR})
_LOOKS = frozenset({Role.ADMINISTRATOR, Role.COORDINATOR})
_READS_ARCHIVE = frozenset({Role.AUDITOR, Role.SUPERVISOR})
Id = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,100}$")]
Reason = Annotated[str, Field(min_length=1, max_length=500, description="原因,记入运维日志")]


def _scope(person: Person, roles: frozenset[Role]) -> str | None:
    """Return the district that the person's post reaches; None for the city level, which reaches all.

    Raises:
        Forbidden: the person holds none of the roles.
    """
    held = [post for post in person.posts if post.role in roles]
    if not held:
        raise Forbidden("role_may_not", "此操作由系统管理员或相应岗位人员办理。")
    return None if any(post.city for post in held) else person.district


def _operations(doors: Doors) -> Operations:
    return Operations(
        doors.store,
        TemporalExecutions(doors.cases),
        doors.witnesses,
        doors.cases.client,
        doors.cases.task_queue,
        open_archive(doors.settings.archive) if doors.settings.archive else None,
    )


async def _district_of(doors: Doors, case_id: str, scope: str | None) -> str:
    """Return the case's district; a case outside the scope does not exist."""
    district = await doors.store.district_of(CaseId(case_id))
    if district is None or scope not in {None, district}:
        raise case_not_found()
    return district


async def _once(
    doors: Doors,
    person: Person,
    key: str | None,
    path: str,
    body: Body,
    effect: Callable[[], Awaitable[BaseModel]],
) -> Response:
    """Do it, or give the answer that the same request had before."""
    digest = _digest(path, body)
    if answered := await _replayed(doors, person, key, digest):
        return answered
    content = (await effect()).model_dump_json()
    if key:
        answer = Answer(body_digest=digest, status=200, body=content)
        await doors.store.remember(person.id, key, answer, datetime.now(UTC))
    return _json(content)


# --- operators ---------------------------------------------------------------------------------------------


class FindingView(BaseModel):
    """Something that does not get on."""

    kind: str
    case_id: str
    cause: str
    advice: str
    since: datetime | None
    attempts: int
    error: str
    notice_id: int | None


class StuckView(BaseModel):
    """Everything that does not get on."""

    items: list[FindingView]


@router.get("/ops/stuck", summary="受阻的案件、操作、通知", tags=["运维"])
async def stuck(
    doors: OurDoors, person: Reader, case_id: Annotated[Id | None, Query(description="只查一个案件")] = None
) -> StuckView:
    """列出不能继续的事项:原因与处理办法。指定案件时直接询问办理引擎。"""
    scope = _scope(person, _LOOKS)
    if case_id is not None:
        await _district_of(doors, case_id, scope)
    found = await _operations(doors).stuck(district=scope, case_id=CaseId(case_id) if case_id else None)
    return StuckView(
        items=[
            FindingView(
                kind=each.kind,
                case_id=each.case_id,
                cause=each.cause,
                advice=each.advice,
                since=each.since,
                attempts=each.attempts,
                error=each.error,
                notice_id=each.id,
            )
            for each in found
        ]
    )


class CountView(BaseModel):
    """How many it concerned."""

    count: int


class ResendBody(Body):
    """One notice, or all of a case."""

    notice_id: StrictRowId | None = None
    case_id: Id | None = None

    @model_validator(mode="after")
    def _one(self) -> "ResendBody":
        if (self.notice_id is None) == (self.case_id is None):
            raise PydanticCustomError("one_of_notice_or_case", "either")
        return self


@router.post("/ops/resend", response_model=CountView, summary="重发通知", tags=["运维"])
async def resend(body: ResendBody, doors: OurDoors, person: Reader, key: Key = None) -> Response:
    """重发一条通知,或一个案件的全部通知。"""
    scope = _scope(person, _LOOKS)
    district = await _district_of(doors, body.case_id, scope) if body.case_id else person.district

    async def effect() -> CountView:
        arguments = body.model_dump(exclude_none=True)
        async with journaled(doors.store, person, district, "resend", arguments) as told:
            count = await _operations(doors).resend(
                district=scope,
                notice=body.notice_id,
                case_id=CaseId(body.case_id) if body.case_id else None,
            )
            if not count:
                raise Problem(404, "notice_not_found", "没有该通知,或不在您的管辖范围内。")
            told.append(f"{count} 条")
        return CountView(count=count)

    return await _once(doors, person, key, "/ops/resend", body, effect)


class RebuildBody(Body):
    """Which cases; none for all."""

    case_ids: Annotated[list[Id], Field(max_length=1000, default_factory=list)]


@router.post("/ops/rebuild", response_model=CountView, summary="重建读模型", tags=["运维"])
async def rebuild(body: RebuildBody, doors: OurDoors, person: Reader, key: Key = None) -> Response:
    """按台账重建列表、时钟、时间线;不指明案件则全部重建。count 为台账条数。"""
    scope = _scope(person, _RUNS)
    for case_id in body.case_ids:
        await _district_of(doors, case_id, scope)

    async def effect() -> CountView:
        async with journaled(doors.store, person, person.district, "rebuild", body.model_dump()) as told:
            case_ids = [CaseId(case_id) for case_id in body.case_ids]
            count = await _operations(doors).rebuild(district=scope, case_ids=case_ids)
            told.append(f"{count} 条")
        return CountView(count=count)

    return await _once(doors, person, key, "/ops/rebuild", body, effect)


class ResetBody(Body):
    """Which case, and to where."""

    case_id: Id
    before_deploy: Annotated[
        str | None, Field(min_length=1, max_length=200, description="版本(build id)")
    ] = None
    to_event: Annotated[StrictInt | None, Field(ge=2, le=1_000_000, description="历史事件编号")] = None
    from_ledger: Annotated[StrictBool, Field(description="不看历史,按台账继续")] = False
    despite_anchor: Annotated[
        StrictBool, Field(description="台账与锚定或归档不符,仍按台账继续;须已由审计人员查明")
    ] = False
    reason: Reason

    @model_validator(mode="after")
    def _one(self) -> "ResetBody":
        ways = (self.before_deploy is not None, self.to_event is not None, self.from_ledger)
        if sum(ways) != 1:
            raise PydanticCustomError("one_way_back", "one way")
        return self


class ResetView(BaseModel):
    """How it was done."""

    mode: Annotated[str, Field(description="history:流程历史回退;ledger:按台账继续")]
    kept: Annotated[int, Field(description="回退点之后、台账中保持原样的条数")]
    repeated: Annotated[int, Field(description="台账没有、交由补办的操作数")]


@router.post("/ops/reset", response_model=ResetView, summary="重置案件的办理流程", tags=["运维"])
async def reset(body: ResetBody, doors: OurDoors, person: Reader, key: Key = None) -> Response:
    """把案件退回到有问题的版本之前。台账只增不改:回退点之后已记入台账的,保持原样,案件按台账继续。"""
    scope = _scope(person, _RUNS)
    district = await _district_of(doors, body.case_id, scope)

    async def effect() -> ResetView:
        arguments = body.model_dump(exclude_none=True)
        async with journaled(doors.store, person, district, "reset", arguments) as told:
            outcome = await _reading(
                _operations(doors).reset(
                    CaseId(body.case_id),
                    before_deploy=body.before_deploy,
                    to_event=body.to_event,
                    despite_anchor=body.despite_anchor,
                    reason=f"{person.name}({person.id}):{body.reason}",
                )
            )
            view = ResetView(mode=outcome.mode, kept=outcome.kept, repeated=outcome.repeated)
            told.append(
                "流程历史退回,其后的操作重新办理"
                if view.mode == "history"
                else f"按台账继续,保持原样 {view.kept} 条,补办 {view.repeated} 项"
            )
        return view

    return await _once(doors, person, key, "/ops/reset", body, effect)


class ReconcileBody(Body):
    """How to compare."""

    restart_many: Annotated[StrictBool, Field(description="缺失很多时也恢复")] = False


class BegunView(BaseModel):
    """That it has begun."""

    begun_at: datetime


@router.post("/ops/reconcile", response_model=BegunView, summary="立即核对", tags=["运维"])
async def reconcile(body: ReconcileBody, doors: OurDoors, person: Reader, key: Key = None) -> Response:
    """核对在办案件与办理流程,缺失的按台账恢复。结果见 GET。"""
    _scope(person, _RUNS)

    async def effect() -> BegunView:
        begun_at = datetime.now(UTC)
        async with journaled(doors.store, person, person.district, "reconcile", body.model_dump()):
            await _operations(doors).reconcile(restart_many=body.restart_many)
        return BegunView(begun_at=begun_at)

    return await _once(doors, person, key, "/ops/reconcile", body, effect)


class DifferenceView(BaseModel):
    """One case about which SQL and Temporal do not agree."""

    case_id: str
    kind: str
    detail: str
    done: str


class ReconciliationView(BaseModel):
    """The newest comparison; null when there is none yet."""

    at: datetime | None
    ended_at: datetime | None
    open_cases: int
    held: bool
    items: list[DifferenceView]


@router.get("/ops/reconciliation", summary="最近一次核对结果", tags=["运维"])
async def reconciliation(doors: OurDoors, person: Reader) -> ReconciliationView:
    """在办案件与办理流程的差异,限本人管辖范围。held:缺失过多,未自动恢复。"""
    scope = _scope(person, _LOOKS)
    report = await doors.store.reconciliation()
    if report is None:
        return ReconciliationView(at=None, ended_at=None, open_cases=0, held=False, items=[])
    items = [
        DifferenceView.model_validate(each, from_attributes=True)
        for each in report.differences
        if scope in {None, each.district}
    ]
    return ReconciliationView(
        at=report.at, ended_at=report.ended_at, open_cases=report.open_cases, held=report.held, items=items
    )


class ArchiveNowBody(Body):
    """How to archive; nothing needs to be said."""

    renew_many: Annotated[StrictBool, Field(description="归档中缺失很多时也重新归档")] = False


@router.post("/ops/archive", response_model=BegunView, summary="立即归档", tags=["运维"])
async def archive_now(body: ArchiveNowBody, doors: OurDoors, person: Reader, key: Key = None) -> Response:
    """归档已结束的案件;平时由日程自动进行。"""
    _scope(person, _RUNS)
    _archive(doors)

    async def effect() -> BegunView:
        begun_at = datetime.now(UTC)
        async with journaled(doors.store, person, person.district, "archive", body.model_dump()):
            await _operations(doors).archive(renew_many=body.renew_many)
        return BegunView(begun_at=begun_at)

    return await _once(doors, person, key, "/ops/archive", body, effect)


class ArchiveLagView(BaseModel):
    """How far the archive has got."""

    location: str | None
    unarchived: int
    oldest_closed_at: datetime | None
    retention: timedelta


@router.get("/ops/archive", summary="归档进度", tags=["运维"])
async def archive_lag(doors: OurDoors, person: Reader) -> ArchiveLagView:
    """尚未归档的已结束案件数及其中最早的办结时间;retention 为办理引擎保留历史的时长。"""
    _scope(person, _LOOKS)
    count, oldest = await doors.store.archive_lag()
    retention = await TemporalExecutions(doors.cases).retention()
    location = (doors.settings.archive or "").partition("?")[0] or None
    return ArchiveLagView(location=location, unarchived=count, oldest_closed_at=oldest, retention=retention)


class OperationView(BaseModel):
    """One line of the journal."""

    operation: str
    at: datetime
    person: str
    person_name: str
    district: str
    name: str
    arguments: dict[str, Any]
    outcome: str
    detail: str


class JournalView(BaseModel):
    """The newest lines first."""

    items: list[OperationView]


@router.get("/ops/journal", summary="运维日志", tags=["运维"])
async def journal(
    doors: OurDoors, person: Reader, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> JournalView:
    """何人、何时、做了什么、结果如何;只增不改。每项操作两行:开始与结束。"""
    scope = _scope(person, _LOOKS | _READS_ARCHIVE)
    found = await doors.store.operations(district=scope, limit=limit)
    return JournalView(items=[OperationView.model_validate(each, from_attributes=True) for each in found])


# --- the archive -------------------------------------------------------------------------------------------


class ArchivedView(BaseModel):
    """One version of a case in the archive."""

    case_id: str
    district: str
    entries: int
    archived_at: datetime
    runs: int
    complete: Annotated[bool, Field(description="办理流程的全部运行历史都在")]
    location: str
    sha256: str


class ArchivedRunView(BaseModel):
    """One run in the archive."""

    case_id: str
    run_id: str
    status: str
    started_at: datetime
    closed_at: datetime
    events: int
    size: Annotated[int, Field(description="字节")]
    sha256: str
    location: str


class ArchivedRunsView(BaseModel):
    """Some runs, by id; the last one's is where the next page begins."""

    items: list[ArchivedRunView]


class RunLineView(BaseModel):
    """One event of a run, as people read it."""

    event_id: int
    at: datetime
    who: str
    text: str


class RunTimelineView(BaseModel):
    """A run, oldest event first."""

    run: ArchivedRunView
    items: list[RunLineView]


class ArchivedPageView(BaseModel):
    """Some, by case id; the last case id is where the next page begins."""

    items: list[ArchivedView]


class CaseArchiveView(BaseModel):
    """What the archive has of a case."""

    versions: list[ArchivedView]
    runs: Annotated[list[ArchivedRunView], Field(description="已归档的运行,含案件办结之前结束的")]
    manifest: Annotated[Manifest | None, Field(description="最新版本的清单,从归档读出")]
    ledger: Annotated[list[dict[str, str]], Field(description="最新版本的台账,从归档读出;text 为一句话说明")]
    problem: Annotated[str | None, Field(description="逐一校验的结果;null 表示无误或未校验")]


@router.get("/archive", summary="已归档案件", tags=["归档"])
async def archived_cases(
    doors: OurDoors,
    person: Reader,
    after: Annotated[str, Query(max_length=100, pattern=r"^[a-z0-9_-]*$")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> ArchivedPageView:
    """按案件编号列出已归档的案件。"""
    scope = _scope(person, _READS_ARCHIVE)
    found = await doors.store.archived_cases(district=scope, after=after, limit=limit)
    return ArchivedPageView(items=[_view(each) for each in found])


@router.get("/cases/{case_id}/archive", summary="案件归档", tags=["归档"])
async def case_archive(
    case_id: str,
    doors: OurDoors,
    person: Reader,
    *,
    check: Annotated[bool, Query(description="逐一校验归档文件")] = False,
) -> CaseArchiveView:
    """案件的归档版本、运行、清单与台账;内容直接从归档读出,不依赖办理引擎。未办结的案件只有运行。"""
    versions, runs = await _archived(doors, person, case_id)
    archive = _archive(doors)
    found = CaseArchiveView(
        versions=[_view(each) for each in versions],
        runs=[_run_view(CaseId(case_id), run) for run in runs],
        manifest=None,
        ledger=[],
        problem=await _problem(archive, CaseId(case_id), versions, runs) if check else None,
    )
    if found.problem or not versions:
        return found
    manifest = await _reading(read_manifest(archive, versions[-1].manifest))
    ledger = await _reading(read_ledger(archive, manifest))
    terms = await _reading(read_terms(archive, manifest))
    told = [
        {"entry": text, "hash": hash_, "text": words.sentence(Entry.model_validate_json(text), terms)}
        for text, hash_ in ledger
    ]
    return found.model_copy(update={"manifest": manifest, "ledger": told})


@router.get("/archive/runs", summary="已归档的运行", tags=["归档"])
async def archived_runs(
    doors: OurDoors,
    person: Reader,
    case_id: Annotated[Id | None, Query(description="只列一个案件")] = None,
    after: Annotated[str, Query(max_length=100, pattern=r"^[a-z0-9-]*$")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> ArchivedRunsView:
    """按运行编号(即按开始时间)列出已归档的运行,含未办结案件中先行结束的(续接、终止、重置)。"""
    scope = _scope(person, _READS_ARCHIVE)
    found = await doors.store.runs_page(
        district=scope, case_id=CaseId(case_id) if case_id else None, after=after, limit=limit
    )
    return ArchivedRunsView(items=[_run_view(of, run) for of, run in found])


@router.get("/cases/{case_id}/archive/runs/{run_id}", summary="归档的运行历史", tags=["归档"])
async def archived_run(case_id: str, run_id: str, doors: OurDoors, person: Reader) -> Response:
    """一次运行的完整事件历史(Temporal 的 JSON 格式);载荷保持原样,加密的仍为密文。"""
    archive = _archive(doors)
    run = await _run(doors, person, archive, case_id, run_id)
    return _json(MessageToJson(await _reading(read_history(archive, run))))


@router.get("/cases/{case_id}/archive/runs/{run_id}/timeline", summary="归档运行的时间线", tags=["归档"])
async def archived_run_timeline(
    case_id: str, run_id: str, doors: OurDoors, person: Reader
) -> RunTimelineView:
    """一次运行中何时、何人、何事;从归档的历史读出。"""
    archive = _archive(doors)
    run = await _run(doors, person, archive, case_id, run_id)
    history = await _reading(read_history(archive, run))
    lines = await run_timeline(history.events, doors.cases.client.data_converter)
    return RunTimelineView(
        run=_run_view(CaseId(case_id), run),
        items=[RunLineView.model_validate(each, from_attributes=True) for each in lines],
    )


async def _run(doors: Doors, person: Person, archive: Archive, case_id: str, run_id: str) -> ArchivedRun:
    """Return the run: as the table names it, or else a manifest in the archive."""
    versions, runs = await _archived(doors, person, case_id)
    for version in reversed(versions):
        runs = [*runs, *(await _reading(read_manifest(archive, version.manifest))).runs]
    found = next((run for run in runs if run.run_id == run_id), None)
    if found is None:
        raise Problem(404, "not_archived", "归档中没有该案件的此项内容。")
    return found


async def _problem(
    archive: Archive, case_id: CaseId, versions: Sequence[ArchivedVersion], runs: Sequence[ArchivedRun]
) -> str | None:
    for kept in (*(version.manifest for version in versions), *(run.kept for run in runs)):
        if not kept.name.startswith(f"cases/{case_id}/"):
            return f"登记的归档文件不属于本案:{kept.name}。"
    try:
        for version in versions:
            await verify(archive, version.manifest)
        for run in runs:
            await verify_run(archive, run)
    except DomainError as error:
        return error.detail
    except FileNotFoundError as missing:
        return f"登记或清单所载的归档文件缺失:{missing.filename}。"
    except OSError:
        raise Problem(503, "archive_unavailable", "归档暂不可用,请联系管理员。") from None
    return None


async def _archived(
    doors: Doors, person: Person, case_id: str
) -> tuple[list[ArchivedVersion], list[ArchivedRun]]:
    """Return the case's versions and runs in the archive; an open case has runs only."""
    _scope(person, _READS_ARCHIVE)
    state = await _visible(doors, CaseId(case_id), person)
    versions = await doors.store.archived(state.case_id)
    runs = sorted(await doors.store.archived_runs(state.case_id), key=lambda run: run.started_at)
    if not versions and not runs:
        raise Problem(404, "not_archived", "归档中没有该案件的此项内容。")
    return versions, runs


async def _reading(read: Awaitable[_T]) -> _T:
    """Say so when the archive is away; damage is told as what it is."""
    try:
        return await read
    except OSError:
        raise Problem(503, "archive_unavailable", "归档暂不可用或文件缺失,请联系管理员。") from None


def _archive(doors: Doors) -> Archive:
    if doors.settings.archive is None:
        raise Problem(404, "no_archive", "未设置归档位置(SHAODAO_ARCHIVE),请联系管理员。")
    return open_archive(doors.settings.archive)


def _run_view(case_id: CaseId, run: ArchivedRun) -> ArchivedRunView:
    return ArchivedRunView(
        case_id=case_id,
        run_id=run.run_id,
        status=run.status,
        started_at=run.started_at,
        closed_at=run.closed_at,
        events=run.events,
        size=run.kept.size,
        sha256=run.kept.sha256,
        location=run.kept.location,
    )


def _view(version: ArchivedVersion) -> ArchivedView:
    return ArchivedView(
        case_id=version.case_id,
        district=version.district,
        entries=version.entries,
        archived_at=version.at,
        runs=version.runs,
        complete=version.complete,
        location=version.manifest.location,
        sha256=version.manifest.sha256,
    )
