"""What encryption costs a payload: `python -m bench.codec`."""

import argparse
import asyncio
import platform
import time
from collections.abc import Awaitable, Callable
from datetime import date

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, WorkflowSerializationContext

from adapters.codec import encrypting
from adapters.keys import DEFAULT, LENGTHS, Keys, new_line

SIZES = {"an act (0.6 kB)": 600, "terms of a case (12 kB)": 12_000, "the largest (1 MB)": 1_000_000}
CASE = WorkflowSerializationContext(namespace="default", workflow_id="case/sample-20260304-aaaaaa")


def converters() -> dict[str, DataConverter]:
    """Return what is compared."""
    made = {"plain": pydantic_data_converter}
    for algorithm in LENGTHS:
        made[algorithm] = encrypting(Keys(new_line(algorithm, DEFAULT, date(2026, 3, 4))))
    return made


async def microseconds(once: Callable[[], Awaitable[object]], count: int) -> float:
    """Return the best of seven rounds, in microseconds for one: what else the machine does only ever slows down."""
    rounds = []
    for _ in range(7):
        began = time.perf_counter()
        for _ in range(count):
            await once()
        rounds.append((time.perf_counter() - began) / count * 1e6)
    return min(rounds)


async def both_ways(converter: DataConverter, size: int, count: int) -> tuple[float, float, int]:
    """Return µs to Temporal, µs back, and bytes kept."""
    value = {"text": "x" * size}
    payloads = await converter.with_context(CASE).encode([value])

    async def there() -> object:
        return await converter.with_context(CASE).encode([value])

    async def back() -> object:
        return await converter.with_context(CASE).decode(payloads)

    return await microseconds(there, count), await microseconds(back, count), payloads[0].ByteSize()


async def run(count: int) -> None:
    """Measure and print."""
    print(f"{platform.machine()}, Python {platform.python_version()}; µs for one payload, context included")
    print(f"{'':26}{'':14}{'to Temporal':>12}{'back':>12}{'bytes':>10}")
    for name, size in SIZES.items():
        for algorithm, converter in converters().items():
            there, back, kept = await both_ways(converter, size, max(count * 600 // size, 5))
            print(f"{name:26}{algorithm:14}{there:12.1f}{back:12.1f}{kept:10}")


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="payloads of the smallest size a round")
    asyncio.run(run(parser.parse_args().count))


if __name__ == "__main__":
    main()
