"""`python -m bench.verify`: cases verified a second beside a bare history fetch; read models rebuilt beside bare inserts."""

import argparse
import asyncio
import logging
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import structlog
from sqlalchemy import create_engine, delete, insert, select
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from adapters.database import synchronous
from adapters.district import read_district
from adapters.migrate import upgrade
from adapters.projection import READ_MODELS
from adapters.sealing import Seal
from adapters.store import Store
from bench.run import ROOT, Bench, rate
from domain.case import CaseId
from domain.events import Entry
from domain.ports import CaseStart, Contact, Intake
from starter.audit_runs import verify_many
from starter.embedded import Stack, StackOptions
from starter.stack import free_port
from tests.records import late, renamed, straight


async def fetched(address: str, case_ids: list[CaseId], at_once: int) -> float:
    """Return how many raw histories a second can be fetched."""
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    gate = asyncio.Semaphore(at_once)

    async def one(case_id: CaseId) -> None:
        async with gate:
            await client.get_workflow_handle(f"case/{case_id}").fetch_history()

    began = time.perf_counter()
    await asyncio.gather(*(one(case_id) for case_id in case_ids))
    return len(case_ids) / (time.perf_counter() - began)


async def verifying(count: int, rounds: int) -> None:
    """Measure verification of closed cases of 20 acts against a live stack."""
    with tempfile.TemporaryDirectory() as folder:
        options = StackOptions(
            data=Path(folder),
            districts=ROOT / "districts",
            port=free_port(),
            temporal_port=free_port(),
            ui_port=None,
        )
        async with Stack(options) as stack:
            os.environ.update(stack.environment)
            store = Store(stack.database_url, Seal(stack.secret))
            client = await Client.connect(stack.temporal.address, data_converter=stack.converter)
            bare = await Client.connect(stack.temporal.address, data_converter=pydantic_data_converter)
            bench = Bench(stack, read_district(ROOT / "districts" / "yicheng"), store, client, bare)
            _, made = await rate(bench.one_case, count, 20)
            case_ids = [CaseId(each.removeprefix("case/")) for each in made]
            began = time.perf_counter()
            await asyncio.to_thread(lambda: list(verify_many(case_ids, jobs=2, by_sdk=True)))
            print(
                f"verify, 2 process(es), by the SDK's replayer: {count / (time.perf_counter() - began):6.1f} cases/s"
            )
            for _ in range(rounds):
                raw = await fetched(stack.temporal.address, case_ids, 16)
                for jobs in (1, 2):
                    began = time.perf_counter()
                    judged = await asyncio.to_thread(lambda n: list(verify_many(case_ids, jobs=n)), jobs)
                    took = time.perf_counter() - began
                    good = sum(all(verdict.status == 0 for verdict in verdicts) for _, verdicts in judged)
                    print(
                        f"verify, {jobs} process(es): {count / took:6.1f} cases/s, {good} of {count} proven"
                        f"   floor, raw history fetch: {raw:7.1f}/s"
                    )
            await store.close()


async def rebuilding(count: int, rounds: int) -> None:
    """Measure how many entries a second the read models are rebuilt from."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/bench.db"
        upgrade(url)
        store = Store(url)
        plays = (straight(), late())
        for number in range(count):
            play = plays[number % len(plays)]
            await keep(store, renamed(play, f"sample-20260304-{number:06}"), play.terms)
        for _ in range(rounds):
            began = time.perf_counter()
            entries = await store.rebuild()
            took = time.perf_counter() - began
            rows, bare = bare_inserts(url)
            print(
                f"rebuild: {entries / took:8.0f} entries/s ({entries} entries of {count} cases)"
                f"   floor, bare inserts of the same {rows} rows: {entries / bare:8.0f} entries/s"
            )
        await store.close()


async def keep(store: Store, entries: list[Entry], terms: object) -> None:
    """Commit a whole case."""
    start = CaseStart.model_validate({"opened": entries[0], "terms": terms})
    intake = Intake(start=start, contact=Contact(), key="", body_digest="")
    await store.take_call(intake, person="bench", status=201, body="")
    await store.record(entries)


def bare_inserts(url: str) -> tuple[int, float]:
    """Delete and insert the very rows of the read models in one transaction; return how many, and the seconds."""
    engine = create_engine(synchronous(url))
    with engine.connect() as connection:
        held = {
            table: [dict(row._mapping) for row in connection.execute(select(table.__table__))]  # noqa: SLF001
            for table in READ_MODELS
        }
    began = time.perf_counter()
    with engine.begin() as connection:
        for table, rows in held.items():
            connection.execute(delete(table))
            if rows:
                connection.execute(insert(table), rows)
    took = time.perf_counter() - began
    engine.dispose()
    return sum(map(len, held.values())), took


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    print(
        f"machine: {os.cpu_count()} cores, {platform.machine()}, {platform.system()}, "
        f"Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}"
    )
    asyncio.run(rebuilding(arguments.count * 5, arguments.rounds))
    asyncio.run(verifying(arguments.count, arguments.rounds))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
