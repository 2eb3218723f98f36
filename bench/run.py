"""`make bench`: throughput of whole cases, processor time and events an act, and intake latency, beside their floors.

Three floors, see `bench.floor`: with the SDK's sandbox, which is its default; without; and without, but shown to
operators as a case is.
"""

import argparse
import asyncio
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx2
import structlog
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from adapters.district import read_district
from adapters.sealing import Seal
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
        now, caller = datetime.now(UTC), self._people["eshan-approver"]  # type: ignore[index]
        details = CallDetails(
            district="yicheng",
            township=OrganisationCode("eshan"),
            category=Category.ENFORCEMENT,
            title="散乱污企业",
            description="多次下达关停通知,业主拒不执行。",
            location=Location(address="峨山镇"),
        )
        terms, case_id = self._district.terms(), CaseId(f"bench-{uuid.uuid4().hex[:16]}")
        called = open_case(details, now, terms, caller=caller)
        opened = audit.chain(case_id, [called], after=None, at=now, by=caller)[0]
        start = CaseStart(opened=opened, terms=terms)
        intake = Intake(start=start, contact=Contact(), key="", body_digest="")
        await self._store.take_call(intake, person=caller.id, status=201, body="")
        await self._cases.start(start)
        await self._store.started(case_id, datetime.now(UTC))  # as the relay does: else it starts it again
        for command in self._commands():
            await self._cases.act(case_id, command)
        return f"case/{case_id}"

    async def one_floor(self, runner: str) -> str:
        """Take the floor through as many updates."""
        handle = await self.bare.start_workflow(
            floor.Floor.run,
            args=[ACTS, runner == "shown"],
            id=f"floor/{uuid.uuid4().hex}",
            task_queue=floor.queue(runner),
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


@dataclass(slots=True)
class Runs:
    """What the rounds of one kind of run measured.

    Attributes:
        per_second: whole cases a second, a figure a round.
        spent: milliseconds of processor time an act by process, a figure a round; empty where /proc is not there.
    """

    name: str
    per_second: list[float] = field(default_factory=list)
    spent: list[dict[str, float]] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle round's cases a second."""
        return statistics.median(self.per_second)

    def cost(self, process: str) -> float:
        """The middle round's milliseconds an act in this process."""
        return statistics.median(each[process] for each in self.spent)


async def rate(one: Callable[[], Awaitable[str]], count: int, at_once: int) -> tuple[float, list[str]]:
    """Return how many a second go through, and which."""
    gate, made = asyncio.Semaphore(at_once), []

    async def gated() -> None:
        async with gate:
            made.append(await one())

    began = time.perf_counter()
    await asyncio.gather(*(gated() for _ in range(count)))
    return count / (time.perf_counter() - began), made


def processor_time(pid: int | None) -> float:
    """Return the seconds of processor time that a process has used, in user and kernel; 0 where that is not told."""
    stat = Path(f"/proc/{pid}/stat")
    if pid is None or not stat.exists():
        return 0.0
    user, kernel = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(kernel)) / os.sysconf("SC_CLK_TCK")


async def measured(
    runs: Runs,
    one: Callable[[], Awaitable[str]],
    count: int,
    at_once: int,
    processes: Mapping[str, list[int | None]],
) -> list[str]:
    """Do a round, note what it took, and return the workflows that it made."""

    def used() -> dict[str, float]:
        return {name: sum(map(processor_time, pids)) for name, pids in processes.items()}

    before = used()
    per_second, made = await rate(one, count, at_once)
    runs.per_second.append(per_second)
    runs.spent.append(
        {name: (after - before[name]) * 1000 / (count * ACTS) for name, after in used().items()}
    )
    return made


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
            floors = {
                runner: Child(
                    f"floor-{runner}",
                    [sys.executable, "-m", "bench.floor", stack.temporal.address, runner],
                    {"PYTHONPATH": str(ROOT)},
                    Path(folder) / f"floor-{runner}.log",
                )
                for runner in floor.RUNNERS
            }
            for worker in floors.values():
                await worker.start()
            client = await Client.connect(stack.temporal.address, data_converter=stack.converter)
            bare = await Client.connect(stack.temporal.address, data_converter=pydantic_data_converter)
            store = Store(stack.database_url, Seal(stack.secret))
            bench = Bench(stack, read_district(ROOT / "districts" / "yicheng"), store, client, bare)
            try:
                await measure(bench, stack, floors, count, at_once, rounds)
            finally:
                await store.close()
                for worker in floors.values():
                    await worker.stop()


async def measure(
    bench: Bench, stack: Stack, floors: Mapping[str, Child], count: int, at_once: int, rounds: int
) -> None:
    """Print every figure."""
    print(
        f"machine: {os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    )
    print(f"{count} cases of {ACTS} acts, {at_once} at once, {rounds} rounds, floors and cases in turn")
    kinds: dict[str, Callable[[], Awaitable[str]]] = {
        **{f"floor, {runner}": partial(bench.one_floor, runner) for runner in floors},
        "cases": bench.one_case,
    }
    for one in kinds.values():
        await rate(one, at_once, at_once)
    all_runs = {name: Runs(name) for name in kinds}
    ids: list[str] = []
    for _ in range(rounds):
        for name, one in kinds.items():
            worker = floors.get(name.removeprefix("floor, "), stack.worker)
            processes: dict[str, list[int | None]] = {
                "worker": [worker.pid],
                "Temporal": [stack.temporal.pid],
                "API": [stack.api.pid],
                "client": [os.getpid()],
            }
            made = await measured(all_runs[name], one, count, at_once, processes)
            if name == "cases":
                ids += made
    print_runs(all_runs)
    await print_events(bench, ids)
    await intake(bench, stack)


def print_runs(all_runs: Mapping[str, Runs]) -> None:
    """Print throughput and processor time, and how the cases stand beside each floor."""
    print("\nwhole cases a second (median of the rounds)")
    for name, runs in all_runs.items():
        print(f"  {name:18} {runs.median:6.2f}   {[f'{each:.2f}' for each in runs.per_second]}")
    cases = all_runs["cases"]
    for name, runs in all_runs.items():
        if runs is not cases:
            print(f"  ratio to the {name}: {cases.median / runs.median:.2f} (wanted: at least 0.80)")
    print("\nmilliseconds of processor time an act (median of the rounds)")
    processes = list(cases.spent[0])
    print(f"  {'':18} {''.join(f'{process:>10}' for process in processes)}       all")
    for name, runs in all_runs.items():
        costs = [runs.cost(process) for process in processes]
        print(f"  {name:18} {''.join(f'{cost:10.2f}' for cost in costs)}{sum(costs):10.2f}")


async def print_events(bench: Bench, ids: list[str]) -> None:
    """Print how many events an act costs, by kind."""
    kinds = await events_of(bench.client, ids)
    notices = await events_of(bench.client, ["notices/yicheng"])
    acts = len(ids) * (ACTS + 1)
    print(
        f"\nevents an act: {(kinds.total() + notices.total()) / acts:.2f} (wanted: at most 8), everything included"
    )
    for kind, number in kinds.most_common():
        print(f"  {kind:45} {number / acts:5.2f}")
    print(f"  {'notices workflow, all kinds':45} {notices.total() / acts:5.2f}")


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
            floor.Floor.run, args=[1, False], id=f"floor/{uuid.uuid4().hex}", task_queue="bench-nobody"
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
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an ordinary installation keeps its bytecode
    asyncio.run(run(arguments.count, arguments.at_once, arguments.rounds, arguments.encryption))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
