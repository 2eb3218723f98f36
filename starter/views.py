"""What the world reads. Times carry the offset of Asia/Shanghai; every code has its Chinese word beside it."""

import json
from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, PlainSerializer

from adapters.queries import CaseLine, TimelineLine
from domain import audit, words
from domain.access import sees_contact
from domain.calendar import SHANGHAI
from domain.case import Actor, Assignment, CaseState, Clock, Former, Rating, Stage
from domain.commands import Act
from domain.district import District, Terms
from domain.lifecycle import allowed_acts
from domain.ports import Contact, PendingAct
from domain.work import missing_evidence
from workflows import names

LocalTime = Annotated[
    datetime, PlainSerializer(lambda moment: moment.astimezone(SHANGHAI).isoformat(), return_type=str)
]


class ClockView(BaseModel):
    """One clock; `light` is green, yellow, red, or paused. Net time is gross time without the pauses."""

    kind: str
    kind_label: str
    department: str | None
    round: int
    started_at: LocalTime
    due_at: LocalTime
    estimated: bool
    yellow_at: LocalTime | None
    ended_at: LocalTime | None
    paused_at: LocalTime | None
    light: str
    escalation_level: int
    gross_seconds: int
    net_seconds: int


class CheckInView(BaseModel):
    """Who came, and whether it counts."""

    officers: list[str]
    arrived_at: LocalTime
    confirmed_at: LocalTime | None
    by_silence: bool
    disputed: str | None


class RatingView(BaseModel):
    """The caller's judgement."""

    grade: str
    grade_label: str
    solved: bool
    response: int | None
    action: int | None
    result: int | None
    comment: str
    at: LocalTime


class AssignmentView(BaseModel):
    """One department on the case."""

    department: str
    department_name: str
    role: str
    status: str
    status_label: str
    dispatched_at: LocalTime
    signed_at: LocalTime | None
    sign_deemed_at: LocalTime | None
    check_in: CheckInView | None
    done_at: LocalTime | None
    result: str | None
    rating: RatingView | None
    corrected_rating: RatingView | None
    past_ratings: list[RatingView]
    round: int
    resident: bool
    bound_by_ruling: bool
    exempted: bool
    clocks: list[ClockView]


class ActionView(BaseModel):
    """One measure on site."""

    kind: str
    kind_label: str
    department: str
    description: str
    result: str
    attachments: list[dict[str, Any]]
    follow_up_on: date | None
    settles: int | None
    at: LocalTime


class FormerView(BaseModel):
    """A department that was on the case; `by` says whether a ruling released it or it was transferred."""

    department: str
    department_name: str
    by: str
    by_label: str
    left_at: LocalTime
    reason: str
    successor: str | None
    in_figures: bool


class ObjectionView(BaseModel):
    """异议."""

    number: int
    department: str
    basis: str
    basis_label: str
    reason: str
    proposed: str
    objected_at: LocalTime
    before_group: bool
    decided_at: LocalTime | None
    upheld: bool | None
    ruling: str


class ExtensionView(BaseModel):
    """延期; `township` and `group` say how each has decided."""

    number: int
    department: str
    reason: str
    add: str
    asked_at: LocalTime
    township: bool | None
    group: bool | None
    decided_at: LocalTime | None
    granted: bool | None


class SuspensionView(BaseModel):
    """挂账."""

    number: int
    department: str | None
    reason: str
    until: LocalTime
    asked_at: LocalTime
    approved: bool | None
    approved_by: str
    began_at: LocalTime | None
    ended_at: LocalTime | None


class FollowUpView(BaseModel):
    """后续跟踪."""

    number: int
    department: str
    on: date
    action: int
    settled_at: LocalTime | None


class OrderView(BaseModel):
    """督办单."""

    number: int
    department: str
    text: str
    issued_at: LocalTime
    answered_at: LocalTime | None
    answer: str


class VerdictView(BaseModel):
    """One reviewer's decision."""

    name: str
    uphold: bool
    grade: str | None
    solved: bool | None
    reason: str
    at: LocalTime


class AppealView(BaseModel):
    """申诉."""

    number: int
    department: str
    about: str
    about_label: str
    reason: str
    appealed_at: LocalTime
    verdicts: list[VerdictView]
    decided_at: LocalTime | None
    upheld: bool | None


class LinkView(BaseModel):
    """A case that belongs to this one."""

    other: str
    kind: str
    kind_label: str
    note: str
    at: LocalTime


class InstructionView(BaseModel):
    """批示."""

    by: str
    text: str
    department: str | None
    at: LocalTime


class ClosureView(BaseModel):
    """How it ended, this time or before it was reopened."""

    stage: str
    at: LocalTime
    reason: str
    unrated: list[str]


class ResponsibilityView(BaseModel):
    """What the list said of the item when the case was opened; `missing_evidence` is what the lead still has to show."""

    lead: str
    cooperating: list[str]
    township_duty: str
    basis: str
    closing_condition: str
    evidence: list[str]
    missing_evidence: list[str]
    flow: list[str]


class AdoptionView(BaseModel):
    """How many running cases take newer terms on."""

    district: str
    policy_version: str
    calendar_version: str
    cases: int


class AllowedAct(BaseModel):
    """An act that the reader may do now."""

    act: str
    label: str
    department: str | None


class PendingActView(BaseModel):
    """An act that was acknowledged and waits for the engine."""

    act: str
    label: str
    accepted_at: LocalTime


class LocationView(BaseModel):
    """Where it is."""

    address: str
    longitude: str | None
    latitude: str | None


class ContactView(BaseModel):
    """Whom to ask; masked for those who do not work on the case."""

    name: str
    phone: str
    masked: bool


class CaseView(BaseModel):
    """The whole case, as this reader may see it."""

    case_id: str
    district: str
    township: str
    township_name: str
    stage: str
    stage_label: str
    direction: str
    caller_office: str | None
    category: str
    category_label: str
    urgency: str
    urgency_label: str
    title: str
    description: str
    item_code: str | None
    item_name: str | None
    limit_class: str
    location: LocationView
    contact: ContactView
    requested_check_in_at: LocalTime | None
    requested_departments: list[str]
    attachments: list[dict[str, Any]]
    called_at: LocalTime
    called_by: str
    acted_at: LocalTime
    closed_at: LocalTime | None
    outcome: str | None
    unrated: list[str]
    overdue: bool
    escalation_level: int
    next_due_at: Annotated[LocalTime | None, Field(description="下一个尚未到的时限;没有则为 null")]
    overdue_since: Annotated[LocalTime | None, Field(description="已超过的时限中最早的一个;没有则为 null")]
    plan: str | None
    assignments: list[AssignmentView]
    clocks: list[ClockView]
    actions: list[ActionView]
    responsibility: ResponsibilityView | None
    urgency_justified: bool | None
    recurs: list[str]
    former: list[FormerView]
    objections: list[ObjectionView]
    extensions: list[ExtensionView]
    suspensions: list[SuspensionView]
    follow_ups: list[FollowUpView]
    orders: list[OrderView]
    appeals: list[AppealView]
    links: list[LinkView]
    instructions: list[InstructionView]
    watchers: int
    watching: bool
    past_closures: list[ClosureView]
    allowed_acts: list[AllowedAct]
    pending_acts: list[PendingActView]
    policy_version: str
    calendar_version: str
    sequence: int
    temporal_workflow_id: str


class CaseLineView(BaseModel):
    """One row of a list."""

    case_id: str
    district: str
    township: str
    township_name: str
    stage: str
    stage_label: str
    category: str
    urgency: str
    item_code: str | None
    lead: str | None
    title: str
    called_at: LocalTime
    acted_at: LocalTime
    closed_at: LocalTime | None
    next_due_at: Annotated[LocalTime | None, Field(description="下一个尚未到的时限;没有则为 null")]
    overdue_since: Annotated[LocalTime | None, Field(description="已超过的时限中最早的一个;没有则为 null")]
    escalation_level: int
    policy_version: str
    overdue: bool


class CasePageView(BaseModel):
    """Some rows, and where the next page begins."""

    items: list[CaseLineView]
    next_cursor: str | None


class TimelineLineView(BaseModel):
    """One thing that happened."""

    sequence: int
    at: LocalTime
    kind: str
    actor: str
    actor_name: str
    text: str


class TimelineView(BaseModel):
    """Everything that happened, oldest first."""

    items: list[TimelineLineView]


class AuditEntryView(BaseModel):
    """One entry of the ledger as it stands: `entry` is the text that the hash is taken over."""

    sequence: int
    entry: str
    hash: str


class AuditView(BaseModel):
    """The ledger of a case. SHA-256 of each `entry` is its `hash`; each names the hash before as `previous`."""

    case_id: str
    chain_whole: bool
    head: str
    entries: list[AuditEntryView]


class NoticeView(BaseModel):
    """One notice in the reader's inbox."""

    id: int
    case_id: str
    title: str
    text: str
    created_at: LocalTime
    read_at: LocalTime | None


class MarkedView(BaseModel):
    """How many of the notices had been unread."""

    marked: int


class InboxView(BaseModel):
    """Notices, newest first."""

    items: list[NoticeView]


def case_view(
    state: CaseState,
    reader: Actor,
    now: datetime,
    terms: Terms,
    *,
    contact: Contact | None,
    pending: Sequence[PendingAct] = (),
) -> CaseView:
    """Return the case for this reader."""
    call, share, closure = state.call, terms.policy.yellow_share, state.closure
    shown = [_clock(clock, now, share) for clock in state.clocks]
    return CaseView(
        case_id=state.case_id,
        district=call.district,
        township=call.township,
        township_name=terms.name(call.township),
        stage=state.stage.value,
        stage_label=words.STAGES[state.stage],
        direction=call.direction.value,
        caller_office=call.caller_office,
        category=call.category.value,
        category_label=words.CATEGORIES[call.category],
        urgency=call.urgency.value,
        urgency_label=words.URGENCIES[call.urgency],
        title=call.title,
        description=call.description,
        item_code=call.item_code,
        item_name=call.item_name,
        limit_class=state.limit_class.value,
        location=LocationView(
            address=call.location.address,
            longitude=str(call.location.longitude) if call.location.longitude is not None else None,
            latitude=str(call.location.latitude) if call.location.latitude is not None else None,
        ),
        contact=_contact(contact, masked=not sees_contact(reader, state)),
        requested_check_in_at=call.requested_check_in_at,
        requested_departments=list(call.departments),
        attachments=[each.model_dump() for each in call.attachments],
        called_at=state.called_at,
        called_by=state.caller.name,
        acted_at=state.acted_at,
        closed_at=closure.at if closure else None,
        outcome=closure.reason if closure else None,
        unrated=list(closure.unrated) if closure else [],
        overdue=state.is_overdue(now),
        escalation_level=state.escalation_level,
        next_due_at=state.coming_deadline(now),
        overdue_since=state.next_deadline if state.next_deadline and state.next_deadline < now else None,
        plan=state.plan,
        assignments=[_assignment(each, shown, terms) for each in state.assignments],
        clocks=[clock for clock in shown if clock.department is None],
        actions=[
            ActionView(
                kind=action.kind.value,
                kind_label=words.ACTIONS[action.kind],
                department=action.department,
                description=action.description,
                result=action.result,
                attachments=[each.model_dump() for each in action.attachments],
                follow_up_on=action.follow_up_on,
                settles=action.settles,
                at=action.at,
            )
            for action in state.actions
        ],
        responsibility=_responsibility(state),
        urgency_justified=state.urgency_justified,
        recurs=list(call.recurs),
        former=[_former(each, terms) for each in state.former],
        objections=[
            ObjectionView(**each.model_dump(), basis_label=words.BASES[each.basis])
            for each in state.objections
        ],
        extensions=[
            ExtensionView(**{**each.model_dump(), "add": str(each.add)}) for each in state.extensions
        ],
        suspensions=[SuspensionView(**each.model_dump()) for each in state.suspensions],
        follow_ups=[FollowUpView(**each.model_dump()) for each in state.follow_ups],
        orders=[OrderView(**each.model_dump()) for each in state.orders],
        appeals=[
            AppealView(**each.model_dump(), about_label=words.APPEALS[each.about]) for each in state.appeals
        ],
        links=[LinkView(**each.model_dump(), kind_label=words.LINKS[each.kind]) for each in state.links],
        instructions=[InstructionView(**each.model_dump()) for each in state.instructions],
        watchers=len(state.watchers),
        watching=reader.id in state.watchers,
        past_closures=[ClosureView(**each.model_dump()) for each in state.past_closures],
        allowed_acts=[
            AllowedAct(act=path_of(act), label=words.ACTS[act], department=department)
            for act, department in allowed_acts(state, reader, now, terms)
        ],
        pending_acts=[
            PendingActView(
                act=path_of(Act(each.act)), label=words.ACTS[Act(each.act)], accepted_at=each.accepted_at
            )
            for each in pending
        ],
        policy_version=state.policy_version,
        calendar_version=state.calendar_version,
        sequence=state.sequence,
        temporal_workflow_id=names.case_workflow_id(state.case_id),
    )


def path_of(act: Act) -> str:
    """Return the act as it stands in an address: `check-in`."""
    return act.value.replace("_", "-")


def line_view(line: CaseLine, district: District | None) -> CaseLineView:
    """Return a row of a list.

    Args:
        district: as it is now, for the township's name; without it the code stands in its place.
    """
    found = (each.name for each in district.organisations if each.code == line.township) if district else ()
    labels = {
        "stage_label": words.STAGES[Stage(line.stage)],
        "township_name": next(iter(found), line.township),
    }
    values = {name: getattr(line, name) for name in CaseLineView.model_fields if name not in labels}
    return CaseLineView(**values, **labels)


def timeline_view(lines: Sequence[TimelineLine]) -> TimelineView:
    """Return the timeline from the read model."""
    values = TimelineLineView.model_fields
    return TimelineView(
        items=[TimelineLineView(**{name: getattr(line, name) for name in values}) for line in lines]
    )


def audit_view(case_id: str, ledger: Sequence[tuple[str, str]]) -> AuditView:
    """Return the ledger as it stands, and whether its chain is whole; judged on the stored texts themselves."""
    entries: list[AuditEntryView] = []
    whole, previous = True, audit.GENESIS
    for number, (text, hash_) in enumerate(ledger, start=1):
        try:
            entry = json.loads(text)
            follows = (entry["sequence"], entry["previous"], entry["case_id"]) == (number, previous, case_id)
        except (ValueError, KeyError, TypeError):
            follows = False
        whole = whole and follows and audit.digest(text) == hash_
        entries.append(AuditEntryView(sequence=number, entry=text, hash=hash_))
        previous = hash_
    return AuditView(case_id=case_id, chain_whole=whole, head=previous, entries=entries)


def _responsibility(state: CaseState) -> ResponsibilityView | None:
    listed = state.call.responsibility
    if listed is None:
        return None
    return ResponsibilityView(**listed.model_dump(), missing_evidence=list(missing_evidence(state)))


def _former(each: Former, terms: Terms) -> FormerView:
    department = each.assignment.department
    return FormerView(
        department=department,
        department_name=terms.name(department),
        by=each.by.value,
        by_label=words.LEAVING[each.by],
        left_at=each.left_at,
        reason=each.reason,
        successor=each.successor,
        in_figures=each.in_figures,
    )


def _assignment(each: Assignment, shown: Sequence[ClockView], terms: Terms) -> AssignmentView:
    check_in = each.check_in
    return AssignmentView(
        department=each.department,
        department_name=terms.name(each.department),
        role="lead" if each.lead else "cooperating",
        status=each.status,
        status_label=words.STATUSES[each.status],
        dispatched_at=each.dispatched_at,
        signed_at=each.signed_at,
        sign_deemed_at=each.sign_deemed_at,
        check_in=CheckInView(
            officers=[officer.name for officer in check_in.officers],
            arrived_at=check_in.arrived_at,
            confirmed_at=check_in.confirmed_at,
            by_silence=check_in.by_silence,
            disputed=check_in.disputed,
        )
        if check_in
        else None,
        done_at=each.done_at,
        result=each.result,
        rating=_rating(each.rating) if each.rating else None,
        corrected_rating=_rating(each.corrected) if each.corrected else None,
        past_ratings=[_rating(rating) for rating in each.past_ratings],
        round=each.round,
        resident=each.resident,
        bound_by_ruling=each.bound,
        exempted=each.exempted,
        clocks=[clock for clock in shown if clock.department == each.department],
    )


def _rating(rating: Rating) -> RatingView:
    return RatingView(
        grade=rating.grade.value,
        grade_label=words.GRADES[rating.grade],
        solved=rating.solved,
        response=rating.response,
        action=rating.action,
        result=rating.result,
        comment=rating.comment,
        at=rating.at,
    )


def _clock(clock: Clock, now: datetime, share: float) -> ClockView:
    light = "red" if clock.is_red(now) else "yellow" if clock.is_yellow(now, share) else "green"
    if clock.paused_at is not None and clock.runs:
        light = "paused"
    return ClockView(
        kind=clock.kind.value,
        kind_label=words.CLOCKS[clock.kind],
        department=clock.department,
        round=clock.round,
        started_at=clock.started_at,
        due_at=clock.due_at,
        estimated=clock.estimated,
        yellow_at=clock.yellow_at,
        ended_at=clock.ended_at,
        paused_at=clock.paused_at,
        light=light,
        escalation_level=max(clock.fired, default=0),
        gross_seconds=int(clock.gross(now).total_seconds()),
        net_seconds=int(clock.net(now).total_seconds()),
    )


def _contact(contact: Contact | None, *, masked: bool) -> ContactView:
    name, phone = (contact.name, contact.phone) if contact else ("", "")
    if masked:
        name = name[:1] + "*" * (len(name) - 1)
        phone = phone[:3] + "****" + phone[-4:] if len(phone) > _SHORT_PHONE else "*" * len(phone)
    return ContactView(name=name, phone=phone, masked=masked)


_SHORT_PHONE = 7
