"""A small district made in code, and a way to play a case on the rules alone."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Self

from domain import audit, clocks
from domain.calendar import SHANGHAI, CalendarData, Limit
from domain.case import (
    ActionKind,
    Actor,
    Assignment,
    Attachment,
    CallDetails,
    CaseId,
    CaseState,
    Category,
    Grade,
    Location,
    Officer,
    OrganisationCode,
    PersonId,
    Post,
    Responsibility,
    Role,
)
from domain.commands import (
    AnyCommand,
    CheckIn,
    ConfirmCheckIn,
    Dispatch,
    Rate,
    Release,
    ReportDone,
    Sign,
    TakeAction,
)
from domain.district import District, Item, Organisation, OrganisationKind, Person, Station, Terms, Tier
from domain.events import Entry, Event
from domain.lifecycle import decide, evolve, open_case, overdue, terms_after
from domain.policy import (
    AppealLimit,
    ByUrgency,
    CheckInLimit,
    ExtensionLimit,
    Ladder,
    LimitClass,
    Limits,
    Order,
    Policy,
    QuietHours,
    Receiver,
    Recurrence,
    ReopenLimit,
    Rung,
    SuspensionLimit,
    YellowWarning,
)

DISTRICT = "sample"
TOWN, OTHER_TOWN = OrganisationCode("town"), OrganisationCode("other-town")
ECOLOGY, POLICE, MARKET = (OrganisationCode(code) for code in ("ecology", "police", "market"))
DEPARTMENTS = (ECOLOGY, POLICE, MARKET)
HOUSING = OrganisationCode("housing")
"""A department that is called to no case by itself: somebody to hand a matter to."""


def limit(**amount: float) -> Limit:
    """Return a limit as a policy file writes it: `limit(working_hours=2)`."""
    return Limit.model_validate(amount)


def shanghai(text: str) -> datetime:
    """Return the moment that a clock in Shandong shows: '2026-03-04 09:00'."""
    return datetime.fromisoformat(text).replace(tzinfo=SHANGHAI).astimezone(UTC)


POLICY = Policy(
    version="sample-1",
    limits=Limits(
        dispatch=ByUrgency(routine=limit(working_minutes=30), urgent=limit(minutes=15)),
        sign=ByUrgency(routine=limit(working_minutes=30), urgent=limit(minutes=15)),
        check_in=CheckInLimit(cut_off=time(15, 30), next_day_by=time(10), urgent=limit(hours=2)),
        confirm=limit(working_hours=2),
        handling={
            LimitClass.SIMPLE: limit(working_days=1),
            LimitClass.ORDINARY: limit(working_days=3),
            LimitClass.HARD: limit(working_days=5),
            LimitClass.COMPLEX: limit(working_days=15),
        },
        rating=limit(working_days=3),
    ),
    ladder=Ladder(
        department=(
            Rung(
                level=1,
                after=limit(minutes=0),
                order=Order.REMINDER,
                receivers=(Receiver.DUTY_OFFICER, Receiver.DEPARTMENT_HEAD),
            ),
            Rung(
                level=2,
                after=limit(working_hours=2),
                order=Order.SUPERVISION,
                receivers=(Receiver.DEPARTMENT_HEAD,),
            ),
            Rung(level=3, after=limit(working_days=1), order=Order.REPORT, receivers=(Receiver.COORDINATOR,)),
        ),
        dispatch=(
            Rung(level=1, after=limit(minutes=0), order=Order.REMINDER, receivers=(Receiver.DISPATCHER,)),
        ),
        case=(Rung(level=1, after=limit(minutes=0), order=Order.REMINDER, receivers=(Receiver.TOWNSHIP,)),),
    ),
)
CALENDAR = CalendarData(
    version="sample-2026",
    office_hours=((time(8, 30), time(12)), (time(13, 30), time(17, 30))),
    days_off=(date(2026, 1, 1), date(2026, 1, 2), *(date(2026, 10, day) for day in (1, 2, 5, 6, 7))),
    make_up_days=(date(2026, 1, 4), date(2026, 9, 20), date(2026, 10, 10)),
    published_until=date(2026, 12, 31),
)


def _office(code: str, name: str, kind: OrganisationKind, tier: Tier | None = None) -> Organisation:
    return Organisation(code=code, name=name, kind=kind, tier=tier)


ORGANISATIONS = (
    _office("town", "示例镇", OrganisationKind.TOWNSHIP),
    _office("other-town", "另一镇", OrganisationKind.TOWNSHIP),
    _office("ecology", "生态环境分局", OrganisationKind.DEPARTMENT, Tier.ON_CALL),
    _office("police", "公安分局", OrganisationKind.DEPARTMENT, Tier.RESIDENT),
    _office("market", "市场监管局", OrganisationKind.DEPARTMENT, Tier.RESIDENT),
    _office("housing", "住建局", OrganisationKind.DEPARTMENT, Tier.ON_CALL),
    _office("platform", "响应平台", OrganisationKind.PLATFORM),
    _office("coordination", "区协调小组", OrganisationKind.COORDINATION_GROUP),
    _office("city", "市协调小组", OrganisationKind.CITY),
)
TERMS = Terms(policy=POLICY, calendar=CALENDAR, organisations=ORGANISATIONS)
"""The straight path only: what a case opened under the first release carries."""

_GROUP_IS_LATE = Rung(
    level=1, after=limit(minutes=0), order=Order.REMINDER, receivers=(Receiver.COORDINATOR,)
)
FULL_POLICY = POLICY.model_copy(
    update={
        "version": "sample-2",
        "limits": POLICY.limits.model_copy(
            update={
                "release": limit(working_hours=1),
                "review": limit(working_days=1),
                "admission": limit(working_days=1),
                "objection": limit(working_hours=1),
                "ruling": limit(working_days=1),
                "answer": limit(working_hours=4),
                "follow_up": limit(working_days=1),
                "extension": ExtensionLimit(most=2),
                "suspension": SuspensionLimit(longest=limit(days=365)),
                "reopen": ReopenLimit(within=limit(days=7)),
                "appeal": AppealLimit(within=limit(working_days=5), review=limit(working_days=5)),
            }
        ),
        "ladder": POLICY.ladder.model_copy(
            update={
                "order": (_GROUP_IS_LATE,),
                "township": (
                    Rung(
                        level=1,
                        after=limit(minutes=0),
                        order=Order.REMINDER,
                        receivers=(Receiver.TOWNSHIP,),
                    ),
                ),
                "group": (_GROUP_IS_LATE,),
            }
        ),
        "warning": YellowWarning(receivers=(Receiver.DUTY_OFFICER,)),
        "quiet_hours": QuietHours(start=time(22), end=time(7)),
        "recurrence": Recurrence(within=limit(days=90)),
    }
)
FULL_TERMS = Terms(
    policy=FULL_POLICY,
    calendar=CALENDAR,
    organisations=ORGANISATIONS,
    stations=(Station(department=POLICE, township=TOWN),),
)
"""Every step of the mechanism."""
LISTED = Responsibility(
    lead=ECOLOGY,
    cooperating=(POLICE, MARKET),
    township_duty="排查上报,配合现场整治",
    basis="《中华人民共和国环境保护法》",
    closing_condition="污染源已关停或拆除",
    evidence=("现场照片", "处置文书"),
    flow=("吹哨", "派单", "报到", "整治", "评价"),
)


def shown(*names: str) -> tuple[Attachment, ...]:
    """Return attachments that show these pieces of evidence; all that the item asks for when none is named."""
    return tuple(
        Attachment(name=f"{name}.jpg", sha256="0" * 64, size=1, evidence=name)
        for name in names or LISTED.evidence
    )


def actor(role: Role, organisation: str, *, township: str | None = None, district: str = DISTRICT) -> Actor:
    """Return somebody with one post."""
    post = Post(
        role=role,
        organisation=OrganisationCode(organisation),
        township=OrganisationCode(township) if township else None,
        city=organisation == "city",
    )
    name = f"{organisation}-{role.value}"
    return Actor(id=PersonId(name), name=name, district=district, posts=(post,))


TOWN_OFFICER = actor(Role.TOWNSHIP_OFFICER, "town")
TOWN_APPROVER = actor(Role.TOWNSHIP_APPROVER, "town")
OTHER_TOWN_OFFICER = actor(Role.TOWNSHIP_OFFICER, "other-town")
DISPATCHER = actor(Role.DISPATCHER, "platform")
COORDINATOR = actor(Role.COORDINATOR, "coordination")
OFFICERS = {department: actor(Role.DEPARTMENT_OFFICER, department) for department in DEPARTMENTS}
OFFICERS[HOUSING] = actor(Role.DEPARTMENT_OFFICER, HOUSING)
HEADS = {department: actor(Role.DEPARTMENT_HEAD, department) for department in (*DEPARTMENTS, HOUSING)}
RESIDENT = actor(Role.RESIDENT_OFFICER, POLICE, township=TOWN)
LEADER = actor(Role.LEADER, "city")
SUPERVISOR = actor(Role.SUPERVISOR, "city")
OTHER_SUPERVISOR = SUPERVISOR.model_copy(update={"id": PersonId("other-supervisor"), "name": "另一督查"})
ADMINISTRATOR = actor(Role.ADMINISTRATOR, "platform")
CITIZEN = actor(Role.CITIZEN, TOWN)
GRID_WORKER = actor(Role.GRID_WORKER, TOWN)


def call_details(**changes: Any) -> CallDetails:
    """Return what a township says when it calls; `changes` replace fields."""
    details = CallDetails(
        district=DISTRICT,
        township=TOWN,
        category=Category.ENFORCEMENT,
        title="小造纸厂排污",
        description="多次下达关停通知,业主拒不执行。",
        location=Location(address="示例镇示例路1号"),
    )
    return CallDetails.model_validate({**details.model_dump(), **changes})


def opening(
    at: datetime,
    *,
    case_id: str = "sample-20260304-aaaaaa",
    terms: Terms = TERMS,
    caller: Actor = TOWN_OFFICER,
    **changes: Any,
) -> Entry:
    """Return the first entry of a case."""
    called = open_case(call_details(**changes), at, terms, caller=caller)
    return audit.chain(CaseId(case_id), [called], after=None, at=at, by=caller)[0]


class Play:
    """A case played on the rules: clocks first, then the act, as the workflow does it."""

    def __init__(
        self, at: str | datetime = "2026-03-04 09:00", *, terms: Terms = TERMS, **changes: Any
    ) -> None:
        self.now = shanghai(at) if isinstance(at, str) else at
        self.terms = terms
        self.entries: list[Entry] = [opening(self.now, terms=terms, **changes)]
        self.state: CaseState = evolve(None, self.entries[0])

    def at(self, moment: str | datetime) -> Self:
        """Let it become this moment, and the clocks do what they have to."""
        self.now = shanghai(moment) if isinstance(moment, str) else moment
        self._append(overdue(self.state, self.now, self.terms), by=None)
        return self

    def later(self, **length: float) -> Self:
        """Let time pass."""
        return self.at(self.now + timedelta(**length))

    def do(self, command: AnyCommand) -> Self:
        """Do the act now, or raise what the rules say."""
        self.at(self.now)
        self._append(decide(self.state, command, self.now, self.terms), by=command.by)
        self.terms = terms_after(self.entries[-1], self.terms)
        return self.at(self.now)

    def release(self) -> Self:
        """Let the township's approver release the call."""
        return self.do(Release(by=TOWN_APPROVER))

    def dispatch(self, *departments: OrganisationCode) -> Self:
        """Dispatch to these; the first leads."""
        lead, *others = departments or DEPARTMENTS
        return self.do(Dispatch(by=DISPATCHER, lead=lead, cooperating=tuple(others)))

    def dispatch_as_listed(self) -> Self:
        """Dispatch as the list says; a downward call to the township that it names."""
        return self.do(Dispatch(by=DISPATCHER))

    def sign(self, *departments: OrganisationCode) -> Self:
        """Sign for these, or for all that are on the case."""
        for department in departments or self.state.departments():
            self.do(Sign(by=OFFICERS[department], department=department))
        return self

    def check_in(self, *departments: OrganisationCode, confirm: bool = True) -> Self:
        """Let these, or all, check in now, and the township confirm."""
        for department in departments or self.state.departments():
            self.do(
                CheckIn(by=OFFICERS[department], department=department, officers=(Officer(name="王示例"),))
            )
            if confirm:
                self.do(ConfirmCheckIn(by=TOWN_OFFICER, department=department))
        return self

    def act(self, *departments: OrganisationCode) -> Self:
        """Let these, or all, record an action."""
        for department in departments or self.state.departments():
            self.do(
                TakeAction(
                    by=OFFICERS[department],
                    department=department,
                    kind=ActionKind.DEMOLITION,
                    description="拆除设备",
                    result="已拆除",
                )
            )
        return self

    def done(self, *departments: OrganisationCode) -> Self:
        """Let these, or all, report done."""
        for department in departments or self.state.departments():
            listed = self.state.call.responsibility
            leads = self.assignment(department).lead
            attachments = shown(*listed.evidence) if listed and leads else ()
            self.do(
                ReportDone(
                    by=OFFICERS[department],
                    department=department,
                    result="办理完成",
                    attachments=attachments,
                )
            )
        return self

    def rate(self, *departments: OrganisationCode, solved: bool = True) -> Self:
        """Let the township rate these, or all."""
        grade = Grade.SATISFIED if solved else Grade.DISSATISFIED
        for department in departments or self.state.departments():
            self.do(Rate(by=TOWN_OFFICER, department=department, grade=grade, solved=solved))
        return self

    def until_rating(self) -> Self:
        """Play the straight path until all report done."""
        return self.dispatch().sign().check_in().act().done()

    @property
    def events(self) -> list[Event]:
        """What has happened, without who and when."""
        return [entry.event for entry in self.entries]

    def kinds(self) -> list[str]:
        """The kinds of what has happened."""
        return [event.kind for event in self.events]

    def assignment(self, department: OrganisationCode) -> Assignment:
        """The department's assignment; it must be there."""
        assignment = self.state.assignment(department)
        assert assignment is not None
        return assignment

    def next_due(self) -> datetime | None:
        """When a clock does something next."""
        return clocks.next_due(self.state, self.terms)

    def _append(self, events: Sequence[Event], *, by: Actor | None) -> None:
        for entry in audit.chain(self.state.case_id, events, after=self.entries[-1], at=self.now, by=by):
            self.entries.append(entry)
            self.state = evolve(self.state, entry)


def person(
    code: str,
    role: Role,
    organisation: str,
    *,
    township: str | None = None,
    on_duty: bool = False,
    district: str = DISTRICT,
) -> Person:
    """Return somebody of a district with one post."""
    post = actor(role, organisation, township=township, district=district).posts[0]
    return Person(
        id=PersonId(code), name=code, district=district, posts=(post,), on_duty=on_duty, phone="19900000000"
    )


def district(code: str = DISTRICT, prefix: str = "", policy: Policy = POLICY) -> District:
    """Return a whole district with everybody whom the mechanism needs."""
    people = [
        person(f"{prefix}town-officer", Role.TOWNSHIP_OFFICER, "town", district=code),
        person(f"{prefix}town-approver", Role.TOWNSHIP_APPROVER, "town", district=code),
        person(f"{prefix}other-officer", Role.TOWNSHIP_OFFICER, "other-town", district=code),
        person(f"{prefix}dispatcher", Role.DISPATCHER, "platform", district=code),
        person(f"{prefix}coordinator", Role.COORDINATOR, "coordination", district=code),
        person(f"{prefix}city-coordinator", Role.COORDINATOR, "city", district=code),
        person(f"{prefix}leader", Role.LEADER, "city", district=code),
        person(f"{prefix}auditor", Role.AUDITOR, "platform", district=code),
        person(f"{prefix}administrator", Role.ADMINISTRATOR, "platform", district=code),
        person(f"{prefix}citizen", Role.CITIZEN, "town", district=code),
        person(f"{prefix}grid-worker", Role.GRID_WORKER, "town", district=code),
        person(f"{prefix}supervisor", Role.SUPERVISOR, "city", district=code),
        person(f"{prefix}second-supervisor", Role.SUPERVISOR, "city", district=code),
        person(f"{prefix}channel", Role.INTEGRATION, "platform", district=code),
        person(f"{prefix}police-resident", Role.RESIDENT_OFFICER, "police", township="town", district=code),
        person(
            f"{prefix}police-elsewhere", Role.RESIDENT_OFFICER, "police", township="other-town", district=code
        ),
    ]
    for department in (*DEPARTMENTS, HOUSING):
        people += [
            person(
                f"{prefix}{department}-officer",
                Role.DEPARTMENT_OFFICER,
                department,
                on_duty=True,
                district=code,
            ),
            person(f"{prefix}{department}-second", Role.DEPARTMENT_OFFICER, department, district=code),
            person(f"{prefix}{department}-head", Role.DEPARTMENT_HEAD, department, district=code),
        ]
    return District(
        code=code,
        name="示例区",
        policy=policy,
        calendar=CALENDAR,
        organisations=ORGANISATIONS,
        people=tuple(people),
        items=(
            Item(
                code="paper-mill",
                field="生态环境",
                category=Category.ENFORCEMENT,
                name="小造纸厂排污",
                keywords=("造纸", "排污"),
                primary=ECOLOGY,
                cooperating=(POLICE,),
                limit_class=LimitClass.HARD,
            ),
            Item(
                code="scattered",
                field="生态环境",
                category=Category.ENFORCEMENT,
                name="散乱污企业联合整治",
                primary=LISTED.lead,
                cooperating=LISTED.cooperating,
                township_duty=LISTED.township_duty,
                basis=LISTED.basis,
                closing_condition=LISTED.closing_condition,
                evidence=LISTED.evidence,
                flow=LISTED.flow,
                limit_class=LimitClass.ORDINARY,
            ),
        ),
        catalogue_version="sample-1",
    )
