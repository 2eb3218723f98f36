"""`make bench`: throughput of whole cases, events an act, and intake latency, beside their floors."""

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx2
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from adapters.district import read_district
from adapters.store import Store
from bench import floor
from domain import audit
from domain.case import ActionKind, CallDetails, CaseId, Category, Grade, Location, Officer, OrganisationCode
from domain.commands import (
    AnyCommand,
    CheckIn,
    ConfirmCheckIn,
    Dispatch,
    Rate,
    ReportDone,
    Sign,
    TakeAction,
)
from domain.district import District
from domain.lifecycle import open_case
from domain.ports import CaseStart, Contact, Intake
from starter.case_client import CaseClient
from starter.embedded import Child, Stack, StackOptions
from starter.identity import issue
from starter.stack import free_port

ROOT = Path(__file__).parent.parent
DEPARTMENTS = tuple(OrganisationCode(code) for code in ("ecology", "enforcement", "police"))
ACTS = 2 + 6 * len(DEPARTMENTS) - 1


class Bench:
    """The embedded stack with a floor beside it, on one Temporal server."""

    def __init__(self, stack: Stack, district: District, store: Store, client: Client, bare: Client) -> None:
        self._stack = stack
        self._district = district
        self._people = {person.id: person.actor() for person in district.people}
        self._store = store
        self.client = client
        self.bare = bare
        self._cases = CaseClient(client, within=120)

    async def one_case(self) -> str:
        """Take one case through its whole life by the same client that the doors use."""
        now, caller = datetime.now(UTC), self._people["eshan-officer"]  # type: ignore[index]
        details = CallDetails(
            district="yicheng",
            township=OrganisationCode("eshan"),
            category=Category.ENFORCEMENT,
            title="散乱污企业",
            description="多次下达关停通知,业主拒不执行。",
            location=Location(address="峨山镇"),
        )
        terms, case_id = self._district.terms(), CaseId(f"bench-{uuid.uuid4().hex[:16]}")
        called = open_case(details, now, terms)
        opened = audit.chain(case_id, [called], after=None, at=now, by=caller)[0]
        start = CaseStart(opened=opened, terms=terms)
        intake = Intake(start=start, contact=Contact(), key="", body_digest="")
        await self._store.take_call(intake, person=caller.id, status=201, body="")
        await self._cases.start(start)
        for command in self._commands():
            await self._cases.act(case_id, command)
        return f"case/{case_id}"

    async def one_floor(self) -> str:
        """Take the floor through as many updates."""
        handle = await self.bare.start_workflow(
            floor.Floor.run, ACTS, id=f"floor/{uuid.uuid4().hex}", task_queue=floor.QUEUE
        )
        for number in range(ACTS):
            await handle.execute_update(floor.Floor.act, number)
        return handle.id

    def _commands(self) -> list[AnyCommand]:
        town, dispatcher = self._people["eshan-officer"], self._people["dispatcher"]  # type: ignore[index]
        officers = {code: self._people[f"{code}-officer"] for code in DEPARTMENTS}  # type: ignore[index]
        lead, *others = DEPARTMENTS
        made: list[AnyCommand] = [Dispatch(by=dispatcher, lead=lead, cooperating=tuple(others))]
        made += [Sign(by=officers[each], department=each) for each in DEPARTMENTS]
        for each in DEPARTMENTS:
            made.append(CheckIn(by=officers[each], department=each, officers=(Officer(name="王示例"),)))
            made.append(ConfirmCheckIn(by=town, department=each))
        for each in DEPARTMENTS:
            made.append(
                TakeAction(
                    by=officers[each],
                    department=each,
                    kind=ActionKind.DEMOLITION,
                    description="拆除设备",
                    result="已拆除",
                )
            )
            made.append(ReportDone(by=officers[each], department=each, result="办理完成"))
        made += [Rate(by=town, department=each, grade=Grade.SATISFIED, solved=True) for each in DEPARTMENTS]
        return made


async def rate(one: Callable[[], Awaitable[str]], count: int, at_once: int) -> tuple[float, list[str]]:
    """Return how many a second go through, and which."""
    gate, made = asyncio.Semaphore(at_once), []

    async def gated() -> None:
        async with gate:
            made.append(await one())

    began = time.perf_counter()
    await asyncio.gather(*(gated() for _ in range(count)))
    return count / (time.perf_counter() - began), made


async def events_of(client: Client, ids: list[str]) -> Counter[str]:
    """Return the events of these workflows by kind."""
    kinds: Counter[str] = Counter()
    for workflow_id in ids:
        history = await client.get_workflow_handle(workflow_id).fetch_history()
        kinds.update(
            str(event.WhichOneof("attributes")).removesuffix("_event_attributes") for event in history.events
        )
    return kinds


async def latencies(one: Callable[[], Awaitable[object]], count: int) -> list[float]:
    """Return how long each took, in milliseconds, one after the other."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        await one()
        took.append((time.perf_counter() - began) * 1000)
    return sorted(took)


def quantiles(took: list[float]) -> str:
    """Return the middle and the slowest hundredth."""
    cuts = statistics.quantiles(took, n=100)
    return f"p50 {cuts[49]:6.1f} ms   p99 {cuts[98]:6.1f} ms"


async def run(count: int, at_once: int, rounds: int, encryption: str) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        options = StackOptions(
            data=Path(folder),
            districts=ROOT / "districts",
            port=free_port(),
            temporal_port=free_port(),
            ui_port=None,
            environment={"SHAODAO_PAYLOAD_ENCRYPTION": encryption},
        )
        async with Stack(options) as stack:
            floor_worker = Child(
                "floor",
                [sys.executable, "-m", "bench.floor", stack.temporal.address],
                {"PYTHONPATH": str(ROOT)},
                Path(folder) / "floor.log",
            )
            await floor_worker.start()
            client = await Client.connect(stack.temporal.address, data_converter=stack.converter)
            bare = await Client.connect(stack.temporal.address, data_converter=pydantic_data_converter)
            store = Store(stack.database_url)
            bench = Bench(stack, read_district(ROOT / "districts" / "yicheng"), store, client, bare)
            try:
                await measure(bench, stack, store, count, at_once, rounds)
            finally:
                await store.close()
                await floor_worker.stop()


async def measure(bench: Bench, stack: Stack, store: Store, count: int, at_once: int, rounds: int) -> None:
    """Print every figure."""
    print(
        f"machine: {os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    )
    print(f"{count} cases of {ACTS} acts, {at_once} at once, {rounds} rounds, floor and cases in turn")
    await rate(bench.one_floor, at_once, at_once)
    await rate(bench.one_case, at_once, at_once)
    ours, bare, ids = [], [], []
    for _ in range(rounds):
        per_second, _ = await rate(bench.one_floor, count, at_once)
        bare.append(per_second)
        per_second, made = await rate(bench.one_case, count, at_once)
        ours.append(per_second)
        ids += made
    ours_median, bare_median = statistics.median(ours), statistics.median(bare)
    print("\nwhole cases a second (median of the rounds)")
    print(
        f"  floor: bare workflow, same updates and local activities   {bare_median:6.2f}   {[f'{each:.2f}' for each in bare]}"
    )
    print(
        f"  cases: rules, ledger, read models, search attributes      {ours_median:6.2f}   {[f'{each:.2f}' for each in ours]}"
    )
    print(f"  ratio {ours_median / bare_median:.2f} (wanted: at least 0.80)")
    kinds = await events_of(bench.client, ids)
    notices = await events_of(bench.client, ["notices/yicheng"])
    acts = len(ids) * (ACTS + 1)
    print(
        f"\nevents an act: {(kinds.total() + notices.total()) / acts:.2f} (wanted: at most 8), everything included"
    )
    for kind, number in kinds.most_common():
        print(f"  {kind:45} {number / acts:5.2f}")
    print(f"  {'notices workflow, all kinds':45} {notices.total() / acts:5.2f}")
    await intake(bench, stack)
    del store


async def intake(bench: Bench, stack: Stack) -> None:
    """Measure how long a caller waits for 201, beside a bare start of a workflow."""
    body = {
        "district": "yicheng",
        "township": "eshan",
        "category": "enforcement",
        "title": "散乱污企业",
        "description": "多次下达关停通知,业主拒不执行。",
        "location": {"address": "峨山镇"},
    }
    headers = {"Authorization": f"Bearer {issue('eshan-officer', secret=stack.secret)}"}

    async def bare() -> None:
        await bench.bare.start_workflow(
            floor.Floor.run, 1, id=f"floor/{uuid.uuid4().hex}", task_queue="bench-nobody"
        )

    async with httpx2.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as http:

        async def call() -> None:
            (await http.post("/api/v1/cases", json=body)).raise_for_status()

        await latencies(call, 20)
        await latencies(bare, 20)
        print("\nintake, one after the other")
        print(f"  floor: bare start_workflow           {quantiles(await latencies(bare, 200))}")
        print(f"  POST /cases until 201 (committed)    {quantiles(await latencies(call, 200))}")


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encryption", choices=("on", "off"), default="on", help="of the cases' payloads")
    arguments = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an ordinary installation keeps its bytecode
    asyncio.run(run(arguments.count, arguments.at_once, arguments.rounds, arguments.encryption))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
