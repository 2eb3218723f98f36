"""Record histories of the released behaviour: `python -m tests.histories.record`. A recorded file is never changed.

Each is played on a plain real server (the time-skipping one counts rejected updates), and kept as the CLI's own JSON.
"""

import asyncio
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from domain import audit
from domain.case import (
    ActionKind,
    AppealAbout,
    Basis,
    CaseId,
    Direction,
    Grade,
    LinkKind,
    Officer,
    OrganisationCode,
)
from domain.commands import (
    Adjudicate,
    AdoptTerms,
    AnswerOrder,
    AnyCommand,
    Cancel,
    CheckIn,
    DecideAppeal,
    DecideExtension,
    DecideSuspension,
    Dispatch,
    DisputeCheckIn,
    Extend,
    FileAppeal,
    Instruct,
    LinkCase,
    Object,
    Rate,
    Refuse,
    Release,
    Reopen,
    ReportDone,
    Resume,
    Rework,
    Sign,
    Suspend,
    TakeAction,
    Transfer,
    Watch,
)
from domain.district import AdoptionScope
from domain.events import Entry
from domain.lifecycle import decide, fold
from domain.ports import CaseStart
from domain.restart import from_ledger
from tests.sample import (
    ADMINISTRATOR,
    CALENDAR,
    COORDINATOR,
    DISPATCHER,
    ECOLOGY,
    FULL_POLICY,
    FULL_TERMS,
    HEADS,
    HOUSING,
    LEADER,
    LISTED,
    MARKET,
    OFFICERS,
    OTHER_SUPERVISOR,
    POLICE,
    SUPERVISOR,
    TERMS,
    TOWN,
    TOWN_APPROVER,
    TOWN_OFFICER,
    limit,
    shown,
)
from tests.workflows.cases import Cases, Running
from workflows import names

HERE = Path(__file__).parent
VERSION = "0.3.0"
STEPS = ("sign", "check_in", "confirm", "action", "done")


async def recorded(case: Running) -> str:
    """Return the history without what names the machine that it was recorded on."""
    content = json.loads((await case.handle.fetch_history()).to_json())
    _forget_machine(content)
    return json.dumps(content, ensure_ascii=False, indent=1)


def _forget_machine(content: Any) -> None:
    if isinstance(content, dict):
        for key in ("stackTrace", "identity"):
            if key in content:
                content[key] = ""
    for each in (
        content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    ):
        _forget_machine(each)


async def straight(cases: Cases) -> str:
    """Three departments, no trouble."""
    case = await cases.call()
    await (await case.dispatch()).each(*STEPS, "rate")
    await case.handle.result()
    return await recorded(case)


async def refused(cases: Cases) -> str:
    """The dispatcher sends the call back."""
    case = await cases.call()
    await case.do(Refuse(by=DISPATCHER, reason="镇街自办事项"))
    await case.handle.result()
    return await recorded(case)


async def disputed_and_cancelled(cases: Cases) -> str:
    """A disputed check-in, then the caller withdraws."""
    case = await cases.call()
    await case.dispatch(ECOLOGY)
    await case.each("sign", "check_in", departments=(ECOLOGY,))
    await case.do(DisputeCheckIn(by=TOWN_OFFICER, department=ECOLOGY, reason="无人到场"))
    await case.do(Cancel(by=TOWN_OFFICER, reason="已自行解决"))
    await case.handle.result()
    return await recorded(case)


async def rework(cases: Cases) -> str:
    """Sent back once by rating, once before it."""
    case = await cases.call()
    await case.dispatch(ECOLOGY, POLICE)
    both = (ECOLOGY, POLICE)
    await case.each(*STEPS, departments=both)
    await case.do(Rate(by=TOWN_OFFICER, department=ECOLOGY, grade=Grade.DISSATISFIED, solved=False))
    await case.each("action", "done", departments=(ECOLOGY,))
    await case.do(Rework(by=TOWN_OFFICER, department=POLICE, reason="现场未清理"))
    await case.each("action", "done", departments=(POLICE,))
    await case.each("rate", departments=both)
    await case.handle.result()
    return await recorded(case)


async def late(cases: Cases) -> str:
    """Nobody acts in time: limits of a second, so that the clocks ring on a real server."""
    soon = limit(minutes=1 / 60)
    limits = TERMS.policy.limits
    hurried = limits.model_copy(
        update={
            "sign": limits.sign.model_copy(update={"routine": soon}),
            "check_in": limits.check_in.model_copy(update={"urgent": soon}),
            "confirm": soon,
            "rating": limit(minutes=2 / 60),
        }
    )
    terms = TERMS.model_copy(update={"policy": TERMS.policy.model_copy(update={"limits": hurried})})
    case = await cases.call(terms=terms)
    await case.dispatch(ECOLOGY)
    while "sign_deemed" not in case.kinds():
        await asyncio.sleep(0.1)
    await case.each("sign", "check_in", departments=(ECOLOGY,))
    while "check_in_confirmed" not in case.kinds():
        await asyncio.sleep(0.1)
    await case.each("action", "done", departments=(ECOLOGY,))
    await case.handle.result()
    return await recorded(case)


async def ledger_away(cases: Cases) -> str:
    """The database is away in the middle, and the ledger catches up."""
    case = await cases.call()
    await case.dispatch(ECOLOGY)
    cases.ledger.away = True
    await case.each("sign", "check_in", departments=(ECOLOGY,))
    cases.ledger.away = False
    await case.each("confirm", "action", "done", "rate", departments=(ECOLOGY,))
    await case.handle.result()
    return await recorded(case)


async def restarted(cases: Cases) -> str:
    """The run is terminated in the middle, and the case goes on from its ledger."""
    case = await cases.call()
    await case.dispatch(ECOLOGY)
    await case.each("sign", departments=(ECOLOGY,))
    await case.handle.terminate()
    opened = CaseStart(opened=case.entries[0], terms=TERMS, shows_awaiting_sign=True)
    handle = await cases.client.start_workflow(
        names.CASE,
        from_ledger(opened, case.entries, {}),
        id=case.handle.id,
        task_queue=cases.queue,
        result_type=str,
    )
    again = Running(handle, cases.ledger, case.case_id)
    await again.each("check_in", "confirm", "action", "done", "rate", departments=(ECOLOGY,))
    await again.handle.result()
    return await recorded(again)


async def called(cases: Cases, **changes: Any) -> Running:
    """Call as the township's approver, under every rule of the mechanism."""
    return await cases.call(terms=FULL_TERMS, caller=TOWN_APPROVER, **changes)


async def rated(case: Running, department: OrganisationCode = ECOLOGY) -> str:
    """Let one department go through to the end."""
    await case.each(*STEPS, "rate", departments=(department,))
    await case.handle.result()
    return await recorded(case)


async def released(cases: Cases) -> str:
    """The township's approver releases, the list dispatches by itself, evidence is shown."""
    policy = FULL_POLICY.model_copy(update={"automatic_dispatch": True})
    terms = FULL_TERMS.model_copy(update={"policy": policy})
    case = await cases.call(terms=terms, responsibility=LISTED)
    await case.do(Release(by=TOWN_APPROVER, note="属实"))
    while "dispatched" not in case.kinds():
        await asyncio.sleep(0.05)
    await case.each("sign", "check_in", "confirm", "action")
    await case.do(ReportDone(by=OFFICERS[ECOLOGY], department=ECOLOGY, result="完成", attachments=shown()))
    await case.each("done", departments=(POLICE, MARKET))
    await case.each("rate")
    await case.handle.result()
    return await recorded(case)


async def reviewed(cases: Cases) -> str:
    """An urgent call goes at once and is reviewed after; then it turns out to be a duplicate."""
    case = await cases.call(terms=FULL_TERMS, urgency="urgent")
    await case.dispatch(ECOLOGY)
    await case.do(Release(by=TOWN_APPROVER, justified=False, note="并非紧急"))
    await case.do(LinkCase(by=DISPATCHER, other=CaseId("sample-20260301-bbbbbb"), kind=LinkKind.DUPLICATE))
    await case.handle.result()
    return await recorded(case)


async def objected_and_transferred(cases: Cases) -> str:
    """One objection is turned down, the next goes to the group and is upheld; then a transfer."""
    case = await called(cases)
    await case.dispatch(ECOLOGY)
    objection = Object(
        by=OFFICERS[ECOLOGY], department=ECOLOGY, basis=Basis.LAW, reason="非我职责", proposed=HOUSING
    )
    await case.do(objection)
    await case.do(Adjudicate(by=DISPATCHER, department=ECOLOGY, uphold=False, reason="依清单"))
    await case.do(objection)
    await case.do(Adjudicate(by=COORDINATOR, department=ECOLOGY, uphold=True, reason="改派"))
    await case.do(Transfer(by=DISPATCHER, department=HOUSING, to=POLICE, reason="职责调整"))
    return await rated(case, POLICE)


async def extended_and_suspended(cases: Cases) -> str:
    """More time, then a pause that is ended by hand."""
    case = await called(cases)
    await case.dispatch(ECOLOGY)
    await case.each("sign", departments=(ECOLOGY,))
    await case.do(Extend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="鉴定"))
    for by in (TOWN_APPROVER, COORDINATOR):
        await case.do(DecideExtension(by=by, department=ECOLOGY, approve=True))
    until = await cases.now() + timedelta(days=100)
    await case.do(Suspend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="鉴定", until=until))
    await case.do(DecideSuspension(by=COORDINATOR, approve=True))
    await case.do(Resume(by=COORDINATOR, reason="鉴定完成"))
    await case.each(*STEPS[1:], "rate", departments=(ECOLOGY,))
    await case.handle.result()
    return await recorded(case)


async def follow_up_after_closing(cases: Cases) -> str:
    """The case closes, its workflow goes on until what others had to do has been looked at."""
    case = await called(cases)
    await case.dispatch(ECOLOGY)
    await case.each(*STEPS[:3], departments=(ECOLOGY,))
    notice = TakeAction(
        by=OFFICERS[ECOLOGY],
        department=ECOLOGY,
        kind=ActionKind.DEMOLITION_NOTICE,
        description="限期拆除",
        result="已送达",
        follow_up_on=(await cases.now() + timedelta(days=30)).date(),
    )
    await case.do(notice)
    await case.each("done", "rate", departments=(ECOLOGY,))
    looked = notice.model_copy(update={"kind": ActionKind.OTHER, "follow_up_on": None, "settles": 1})
    await case.do(looked)
    await case.handle.result()
    return await recorded(case)


async def reopened(cases: Cases) -> str:
    """The second run of a case: reopened after the first had ended."""
    case = await called(cases)
    await case.dispatch(ECOLOGY)
    await rated(case)
    case = await cases.take_up(case)
    await case.do(Reopen(by=TOWN_OFFICER, reason="违建复建"))
    await case.each("action", "done", "rate", departments=(ECOLOGY,))
    await case.handle.result()
    return await recorded(case)


async def reopened_while_ledger_away(cases: Cases) -> str:
    """Closed while the database is away, and reopened before the ledger has caught up."""
    case = await called(cases)
    await case.dispatch(ECOLOGY)
    await case.each("sign", "check_in", "confirm", "action", "done", departments=(ECOLOGY,))
    cases.ledger.away = True
    await case.each("rate", departments=(ECOLOGY,))
    await case.do(Reopen(by=TOWN_OFFICER, reason="违建复建"))
    cases.ledger.away = False
    while "reopened" not in case.kinds():
        await asyncio.sleep(0.05)
    await case.each("action", "done", "rate", departments=(ECOLOGY,))
    await case.handle.result()
    return await recorded(case)


async def appealed(cases: Cases) -> str:
    """The second run of a case: an appeal that two reviewers uphold."""
    case = await called(cases)
    await case.dispatch(ECOLOGY)
    await rated(case)
    case = await cases.take_up(case)
    await case.do(FileAppeal(by=HEADS[ECOLOGY], department=ECOLOGY, about=AppealAbout.RATING, reason="不符"))
    for by in (SUPERVISOR, OTHER_SUPERVISOR):
        await case.do(
            DecideAppeal(
                by=by, department=ECOLOGY, uphold=True, grade=Grade.BASICALLY_SATISFIED, reason="属实"
            )
        )
    await case.handle.result()
    return await recorded(case)


async def downward(cases: Cases) -> str:
    """A department asks something of a township that the list does not cover."""
    office = OFFICERS[HOUSING]
    case = await cases.call(terms=FULL_TERMS, direction=Direction.DOWN, caller_office=HOUSING, caller=office)
    await case.do(Release(by=COORDINATOR, note="准予"))
    await case.do(Dispatch(by=DISPATCHER))
    await case.do(Sign(by=TOWN_OFFICER, department=TOWN))
    await case.do(
        TakeAction(by=TOWN_OFFICER, department=TOWN, kind=ActionKind.OTHER, description="核查", result="属实")
    )
    await case.do(ReportDone(by=TOWN_OFFICER, department=TOWN, result="完成"))
    await case.do(Rate(by=office, department=TOWN, grade=Grade.SATISFIED, solved=True))
    await case.handle.result()
    return await recorded(case)


async def terms_adopted(cases: Cases) -> str:
    """A newer calendar reaches the case; a leader follows it, instructs, and gets an answer."""
    case = await called(cases)
    await case.dispatch(ECOLOGY)
    due = next(clock.due_at for clock in (await case.state()).running if clock.kind == "handling")
    newer = CALENDAR.model_copy(update={"version": "newer", "days_off": (*CALENDAR.days_off, due.date())})
    terms = FULL_TERMS.model_copy(update={"calendar": newer})
    await case.do(AdoptTerms(by=ADMINISTRATOR, scope=AdoptionScope.CALENDAR, terms=terms, reason="调整放假"))
    await case.do(Watch(by=LEADER))
    await case.do(Instruct(by=LEADER, text="今日办结", department=ECOLOGY, answer_required=True))
    await case.do(AnswerOrder(by=HEADS[ECOLOGY], department=ECOLOGY, text="已派人"))
    return await rated(case)


async def warned_and_escalated(cases: Cases) -> str:
    """Limits of seconds: a warning, every rung, an order of the ladder, an objection referred, a pause that ends."""
    second = limit(minutes=1 / 60)
    limits = FULL_POLICY.limits
    hurried = limits.model_copy(
        update={
            "check_in": limits.check_in.model_copy(update={"urgent": limit(minutes=2 / 60)}),
            "sign": limits.sign.model_copy(update={"urgent": second}),
            "objection": second,
            "answer": limit(hours=1),
        }
    )
    rungs = tuple(rung.model_copy(update={"after": second}) for rung in FULL_POLICY.ladder.department[1:])
    ladder = FULL_POLICY.ladder.model_copy(update={"department": (FULL_POLICY.ladder.department[0], *rungs)})
    policy = FULL_POLICY.model_copy(update={"limits": hurried, "ladder": ladder})
    terms = FULL_TERMS.model_copy(update={"policy": policy})
    case = await cases.call(terms=terms, caller=TOWN_APPROVER, urgency="urgent")
    await case.dispatch(ECOLOGY)
    await case.do(
        Object(by=OFFICERS[ECOLOGY], department=ECOLOGY, basis=Basis.LAW, reason="x", proposed=HOUSING)
    )
    while case.kinds().count("escalated") < 7 or "objection_referred" not in case.kinds():
        await asyncio.sleep(0.1)
    until = await cases.now() + timedelta(seconds=2)
    await case.do(Suspend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="鉴定", until=until))
    await case.do(DecideSuspension(by=COORDINATOR, approve=True))
    while "resumed" not in case.kinds():
        await asyncio.sleep(0.1)
    await case.do(Cancel(by=TOWN_OFFICER, reason="已自行解决"))
    await case.handle.result()
    return await recorded(case)


async def adopted(cases: Cases) -> str:
    """A worker died after the ledger had committed: one act is taken on, one decided again, one taken on later."""
    case = await cases.call()
    await case.dispatch(ECOLOGY, POLICE)
    sign, police = (
        Sign(by=OFFICERS[office], department=office, key=f"sign-{office}") for office in (ECOLOGY, POLICE)
    )
    case.entries.extend(_lost(case, sign))
    await case.do(police)  # what stands is not yet explained
    await case.do(sign)
    check_in = CheckIn(by=OFFICERS[POLICE], department=POLICE, officers=(Officer(name="王示例"),), key="in")
    case.entries.extend(_lost(case, check_in))
    await case.do(check_in)
    await case.each("check_in", departments=(ECOLOGY,))
    await case.each("confirm", "action", "done", "rate", departments=(ECOLOGY, POLICE))
    await case.handle.result()
    return await recorded(case)


def _lost(case: Running, command: AnyCommand) -> list[Entry]:
    """Return what a lost task made of the act."""
    last = case.entries[-1]
    events = decide(fold(case.entries), command, last.at, TERMS)
    return audit.chain(case.case_id, events, after=last, at=last.at, by=command.by, key=command.key)


PATHS = (
    straight,
    refused,
    disputed_and_cancelled,
    rework,
    late,
    ledger_away,
    restarted,
    adopted,
    released,
    reviewed,
    objected_and_transferred,
    extended_and_suspended,
    follow_up_after_closing,
    reopened,
    reopened_while_ledger_away,
    appealed,
    downward,
    terms_adopted,
    warned_and_escalated,
)


async def main() -> None:
    """Record every path that this version has no file of yet."""
    async with (
        await WorkflowEnvironment.start_local(
            data_converter=pydantic_data_converter,
            dev_server_existing_path=str(Path(sys.executable).parent / "temporal"),
            search_attributes=names.SEARCH_ATTRIBUTES,
        ) as server,
        Cases(server) as cases,
    ):
        for path in PATHS:
            file = HERE / f"{VERSION}-{path.__name__}.json"
            if not file.exists():
                file.write_text(await path(cases))


if __name__ == "__main__":
    asyncio.run(main())
