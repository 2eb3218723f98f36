"""Record histories of the released behaviour: `python -m tests.histories.record`. A recorded file is never changed.

Each is played on a plain real server (the time-skipping one counts rejected updates), and kept as the CLI's own JSON.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from domain import audit
from domain.case import Grade, Officer
from domain.commands import AnyCommand, Cancel, CheckIn, DisputeCheckIn, Rate, Refuse, Rework, Sign
from domain.events import Entry
from domain.lifecycle import decide, fold
from domain.ports import CaseStart
from domain.restart import from_ledger
from tests.sample import DISPATCHER, ECOLOGY, OFFICERS, POLICE, TERMS, TOWN_OFFICER, limit
from tests.workflows.cases import Cases, Running
from workflows import names

HERE = Path(__file__).parent
VERSION = "0.1.0"
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
    opened = CaseStart(opened=case.entries[0], terms=TERMS)
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
        for path in (
            straight,
            refused,
            disputed_and_cancelled,
            rework,
            late,
            ledger_away,
            restarted,
            adopted,
        ):
            file = HERE / f"{VERSION}-{path.__name__}.json"
            if not file.exists():
                file.write_text(await path(cases))


if __name__ == "__main__":
    asyncio.run(main())
