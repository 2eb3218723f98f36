"""`python -m bench.catalogue`: searching a list of 10,000 items, beside two naive ways as floors.

The list is made from the sample's 105 items: their names and keywords with places and qualifiers around them.
Wanted: a search within 20 ms. The first floor looks for the text in every item (fast, finds no slip); the second
compares it with every name and keyword by difflib (finds slips, as ours does).
"""

import argparse
import difflib
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from adapters.district import read_district
from domain.catalogue import Index
from domain.district import Item

ROOT = Path(__file__).parent.parent
WANTED = 20.0
_PLACES = (
    "城区",
    "乡镇",
    "景区",
    "园区",
    "校园周边",
    "水库周边",
    "国道沿线",
    "老旧小区",
    "集贸市场",
    "城乡结合部",
)
_KINDS = ("", "专项", "历史遗留", "反复投诉", "群众来信", "季节性", "跨区域", "夜间", "疑似", "重点")


def many_items(sample: Sequence[Item], count: int, lots: random.Random) -> list[Item]:
    """Return that many items, each with a name of its own and the keywords of two of the sample's."""
    made: list[Item] = []
    for number, (place, kind, item) in enumerate(product(_PLACES, _KINDS, sample)):
        other = lots.choice(sample)
        keywords = (*item.keywords, f"{place}{lots.choice(other.keywords)}", lots.choice(other.keywords))
        changes = {
            "code": f"item-{number}",
            "name": f"{place}{kind}{item.name}",
            "keywords": tuple(dict.fromkeys(keywords)),
        }
        made.append(item.model_copy(update=changes))
    return made[:count]


def queries(sample: Sequence[Item], lots: random.Random, each: int) -> dict[str, list[str]]:
    """Return what people may type, by kind."""
    words = [word for item in sample for word in item.keywords if len(word) > 2]

    def some() -> str:
        return lots.choice(words)

    def wrong(word: str) -> str:
        place = lots.randrange(len(word))
        return word[:place] + "某" + word[place + 1 :]

    def swapped(word: str) -> str:
        place = lots.randrange(len(word) - 1)
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]

    def missing(word: str) -> str:
        place = lots.randrange(len(word))
        return word[:place] + word[place + 1 :]

    kinds: dict[str, Callable[[], str]] = {
        "as written": some,
        "one letter wrong": lambda: wrong(some()),
        "two letters swapped": lambda: swapped(some()),
        "one letter missing": lambda: missing(some()),
        "one letter": lambda: some()[0],
        "two words": lambda: f"{some()} {some()}",
        "a word of every item": lambda: lots.choice(("镇街", "平台派单", "示例", "违法")),
        "a sentence": lambda: f"群众反映{some()}问题多年,{some()},请有关部门尽快到现场处理",
    }
    return {kind: [make() for _ in range(each)] for kind, make in kinds.items()}


def substring(items: Sequence[Item], text: str) -> list[Item]:
    """The first naive way: every text of every item."""
    return [
        item
        for item in items
        if text in item.name or any(text in word for word in item.keywords) or text in item.township_duty
    ]


def by_difflib(items: Sequence[Item], text: str) -> list[Item]:
    """The second: the likeness of every name and keyword."""
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(text)

    def likeness(item: Item) -> float:
        best = 0.0
        for word in (item.name, *item.keywords):
            matcher.set_seq1(word)
            best = max(best, matcher.ratio())
        return best

    return sorted(items, key=likeness, reverse=True)[:20]


def milliseconds(work: Callable[[str], object], texts: Sequence[str]) -> list[tuple[float, float]]:
    """Return how long each took, by the clock and in computing time; on a busy machine the two differ."""
    took = []
    for text in texts:
        began, computed = time.perf_counter(), time.thread_time()
        work(text)
        took.append(((time.perf_counter() - began) * 1000, (time.thread_time() - computed) * 1000))
    return took


def slowest(took: Sequence[float]) -> float:
    """Return what the slowest hundredth takes."""
    return statistics.quantiles(took, n=100, method="inclusive")[98]


def line(name: str, took: Sequence[tuple[float, float]]) -> None:
    """Print the middle and the slowest hundredth, by the clock and in computing time."""
    clock, computing = zip(*took, strict=True)
    told = (
        f"{kind} p50 {statistics.median(each):8.2f}  p99 {slowest(each):8.2f}"
        for kind, each in (("clock", clock), ("computing", computing))
    )
    print(f"  {name:32} {'   '.join(told)}")


def run(count: int, each: int) -> None:
    """Measure and print."""
    lots = random.Random(20260101)  # noqa: S311 - the same texts every time
    sample = read_district(ROOT / "districts" / "yicheng").items
    items = many_items(sample, count, lots)
    print(
        f"machine: {os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()},"
        f" load {os.getloadavg()[0]:.1f}"
    )
    began = time.perf_counter()
    index = Index(items)
    print(
        f"catalogue of {len(items)} items; index built in {time.perf_counter() - began:.2f} s, once a version\n"
    )
    ours: list[tuple[float, float]] = []
    print(f"search, {each} texts of each kind, the best 20, milliseconds")
    asked = queries(sample, lots, each)
    for kind, texts in asked.items():
        index.search(texts[0])
        took = milliseconds(index.search, texts)
        ours += took
        line(kind, took)
    line("all kinds", ours)
    clock, computing = (slowest(each) for each in zip(*ours, strict=True))
    print(
        f"  wanted: p99 at most {WANTED:.0f}: by the clock {told(clock)}, in computing time {told(computing)}"
    )
    print("suggestions at intake, the best 5")
    line("a sentence", milliseconds(index.suggest, asked["a sentence"]))
    mixed = [text for texts in asked.values() for text in texts]
    print("floors, over the same texts")
    bare = milliseconds(lambda text: substring(items, text), mixed)
    line("substring of every text: no slips", bare)
    slow = milliseconds(lambda text: by_difflib(items, text), lots.sample(mixed, 12))
    line("difflib over all (12 of them)", slow)
    middle = statistics.median(computing for _, computing in ours)
    print(
        "  ratio of the medians in computing time:"
        f" difflib / ours {statistics.median(each for _, each in slow) / middle:.0f},"
        f" substring / ours {statistics.median(each for _, each in bare) / middle:.2f}"
    )


def told(figure: float) -> str:
    """Say whether the figure is as wanted."""
    return "yes" if figure <= WANTED else "NO"


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=100)
    arguments = parser.parse_args()
    run(arguments.count, arguments.each)


if __name__ == "__main__":
    main()
