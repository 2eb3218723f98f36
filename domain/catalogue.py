"""The responsibility list as something to search, to suggest from, and to compare.

People write Chinese without spaces, in their own words, and with slips. So an `Index` looks at letters and pairs of
letters, and finds a word in three ways, the later only where the earlier find nothing at all:

    exact   as it is written                                         违建 → 多年违建
    near    but for one wrong, missing, superfluous or swapped letter  秸杆焚 → 秸秆焚
    part    in pieces, in any order                                  秸秆焚烧 → 露天焚烧秸秆

What is found in a name counts most, then keywords, then the field, then duty, flow and the rest.
"""

import heapq
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import StrEnum
from itertools import chain

from domain.case import Value
from domain.district import Item

LONGEST = 2000
"""Letters of a text that are looked at; a description may be no longer anyway."""
_MOST_WORDS = 6
_LONGEST_NEAR = 20


class How(StrEnum):
    """How a word was found."""

    EXACT = "exact"
    NEAR = "near"
    PART = "part"


class Match(Value):
    """Where something was found: the column of the item, and what stands there."""

    column: str
    text: str
    how: How


class Hit(Value):
    """An item that was found. `score` is between 0 and 100, for ranking: no probability."""

    item: Item
    score: float
    matched: tuple[Match, ...]


class Change(Value):
    """One column of an item that says something else now."""

    column: str
    old: str | tuple[str, ...]
    new: str | tuple[str, ...]


class ItemChange(Value):
    """An item that stands in both lists, and how it differs. `name` is the new one."""

    code: str
    name: str
    changes: tuple[Change, ...]


class Difference(Value):
    """What became of a list: items by code, wherever they stand in it."""

    added: tuple[Item, ...]
    removed: tuple[Item, ...]
    changed: tuple[ItemChange, ...]

    @property
    def is_empty(self) -> bool:
        """Whether both lists say the same."""
        return not (self.added or self.removed or self.changed)


def diff(old: Iterable[Item], new: Iterable[Item]) -> Difference:
    """Return what was added, removed and changed from one list to the other, in the order of the lists."""
    before, after = {item.code: item for item in old}, {item.code: item for item in new}
    changes = (
        ItemChange(code=code, name=item.name, changes=_changes(before[code], item))
        for code, item in after.items()
        if code in before and before[code] != item
    )
    return Difference(
        added=tuple(item for code, item in after.items() if code not in before),
        removed=tuple(item for code, item in before.items() if code not in after),
        changed=tuple(changes),
    )


def _changes(old: Item, new: Item) -> tuple[Change, ...]:
    return tuple(
        Change(column=column, old=getattr(old, column), new=getattr(new, column))
        for column in Item.model_fields
        if getattr(old, column) != getattr(new, column)
    )


# --- searching ---------------------------------------------------------------------------------------------


def words_of(text: str) -> list[str]:
    """Return the words of a text: full and half width are the same, so are cases; punctuation only separates."""
    folded = unicodedata.normalize("NFKC", text[:LONGEST])[:LONGEST].casefold()
    return "".join(sign if sign.isalnum() else " " for sign in folded).split()


_NAME, _KEYWORDS = "name", "keywords"
_EXACT = {_NAME: (80, 20), _KEYWORDS: (60, 15)}
"""What a word scores in a name or keyword, and how much more the more of it the word is."""
_NEAR = {_NAME: (45, 8), _KEYWORDS: (40, 8)}
_ELSEWHERE = {
    55: ("code",),
    50: ("field",),
    30: ("township_duty", "closing_condition", "evidence", "flow", "basis"),
}
"""Columns that are searched for exact words only, by what they score."""
_PARTS_AT_MOST = 0.38
_WEIGHTS = {_NAME: 1.0, _KEYWORDS: 0.8}
_LEAST_SHARE = 0.3
"""Of the pairs of a phrase: below it a text only happens to share letters with it."""
_SHORT = range(3, 5)
"""Letters of a phrase of which one slip leaves too few pairs; a longer one is found by those that are left, and two
letters with a slip are anything."""
_SLIPPED = 0.5
"""What a short phrase with a slip counts for in a text: as much as half of its pairs."""
_WORTH_SHOWING = 0.2
"""Of the likeliest suggestion's weight."""
_HALF_SURE = 6.0
"""The weight at which a suggestion scores 50."""
_Scores = dict[int, float]
"""What items score, by their number in the list. Plain numbers, and who has a phrase as plain tuples: at ten
thousand items Python's collector of cycles would take longer over objects than the search itself."""


class Index:
    """Finds items of one version of a list; built once, then only read, so that any thread may use it.

    A *phrase* is a name or a keyword without anything but its letters. Where something was found is looked up
    again for the few items that are returned, instead of being kept for all.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = tuple(items)
        self._codes = {item.code: number for number, item in enumerate(self._items)}
        self._elsewhere = [
            (score, ["\n".join(_folded(item, column) for column in columns) for item in self._items])
            for score, columns in _ELSEWHERE.items()
        ]
        owners: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        for number, item in enumerate(self._items):
            for column, _, phrase in _phrases_of(item):
                owners[phrase].append((number, column))
        self._phrases = tuple(owners)
        self._owners = tuple(map(tuple, owners.values()))
        self._grams: defaultdict[str, list[int]] = defaultdict(list)
        self._shortened: defaultdict[str, list[int]] = defaultdict(list)
        for phrase_number, phrase in enumerate(self._phrases):
            for gram in {*phrase, *_pairs(phrase)}:
                self._grams[gram].append(phrase_number)
            for each in _shortened(phrase) if len(phrase) in _SHORT else ():
                self._shortened[each].append(phrase_number)

    @property
    def items(self) -> tuple[Item, ...]:
        """The list itself, in its order."""
        return self._items

    def search(
        self, text: str, limit: int = 20, *, fits: Callable[[Item], bool] = lambda _: True
    ) -> list[Hit]:
        """Return the items that the words of the text find, the best first; none for a text without words.

        Items that answer all words are returned; where no item does, those that answer any.

        Args:
            fits: which of the items that are found may be returned.
        """
        words = list(dict.fromkeys(words_of(text)))[:_MOST_WORDS]
        answers = [(word, *self._find(word)) for word in words]
        answered = Counter(chain.from_iterable(scores for _, _, scores in answers))
        most = max(answered.values(), default=0)
        least = most if most == len(words) else 1
        total = {
            number: sum(scores.get(number, 0.0) for _, _, scores in answers) / len(words)
            for number, times in answered.items()
            if times >= least and fits(self._items[number])
        }
        if (meant := self._codes.get(text.strip().lower())) in total:
            total[meant] = 100.0
        return [
            self._hit(
                number,
                total[number],
                (
                    match
                    for word, how, scores in answers
                    if number in scores
                    for match in _matches(self._items[number], word, how)
                ),
            )
            for number in _best(total, limit)
        ]

    def suggest(self, text: str, limit: int = 5) -> list[Hit]:
        """Return the items that a free text (title and description) is likely to be about, the likeliest first.

        What is much less likely than the likeliest is left out. A text that shares nothing with the list, as a
        short one with a slip may, is searched for instead; a letter alone says nothing.
        """
        words = [word for word in words_of(text) if len(word) > 1]
        slipped = self._slipped(words)
        weights = self._parts(words, slipped)
        if not weights:
            return self.search(" ".join(words), limit)
        least = max(weights.values()) * _WORTH_SHOWING
        scored = {number: _squashed(weight) for number, weight in weights.items() if weight >= least}
        pairs, near = _pairs_of(words), {self._phrases[number] for number in slipped}
        return [
            self._hit(number, scored[number], _parts_in(self._items[number], pairs, near))
            for number in _best(scored, limit)
        ]

    def _hit(self, number: int, score: float, matched: Iterable[Match]) -> Hit:
        item, told = self._items[number], tuple(dict.fromkeys(matched))
        return Hit.model_construct(item=item, score=round(score, 1), matched=told)

    def _find(self, word: str) -> tuple[How, _Scores]:
        """Return in which items the word is found, exactly, else nearly, else in parts."""
        scores: _Scores = {}
        for score, texts in self._elsewhere:
            for number in [number for number, text in enumerate(texts) if word in text]:
                scores.setdefault(number, score)
        self._score_phrases(scores, self._exact(word), word, _EXACT)
        if scores:
            return How.EXACT, scores
        self._score_phrases(scores, self._near(word), word, _NEAR)
        if scores:
            return How.NEAR, scores
        parts = self._parts([word])
        return How.PART, {number: _PARTS_AT_MOST * _squashed(weight) for number, weight in parts.items()}

    def _score_phrases(
        self, scores: _Scores, phrases: Iterable[int], word: str, worth: dict[str, tuple[int, int]]
    ) -> None:
        """Score the items that have these phrases, by how much of the phrase the word is, and has kept of itself."""
        for number in phrases:
            phrase = self._phrases[number]
            share, kept = min(1.0, len(word) / len(phrase)), sum(map(phrase.__contains__, word)) / len(word)
            points = {column: (base + more * share) * kept for column, (base, more) in worth.items()}
            for owner, column in self._owners[number]:
                if scores.get(owner, 0.0) < points[column]:
                    scores[owner] = points[column]

    def _exact(self, word: str) -> list[int]:
        rarest = min(_pairs(word) or word, key=lambda gram: len(self._grams.get(gram, ())))
        return [phrase for phrase in self._grams.get(rarest, ()) if word in self._phrases[phrase]]

    def _near(self, word: str) -> list[int]:
        if not _may_have_a_slip(word):
            return []
        letters = set(word)
        shared = Counter(chain.from_iterable(self._grams.get(letter, ()) for letter in letters))
        slip = _slips(word)
        return [
            phrase
            for phrase, number in shared.items()
            if number >= len(letters) - 1 and slip.search(self._phrases[phrase])
        ]

    def _slipped(self, words: Iterable[str]) -> set[int]:
        """Return the short phrases that stand in the words, be it with one slip."""
        return {
            number
            for word in words
            for length in range(_SHORT.start, _SHORT.stop + 1)  # a superfluous letter makes it longer
            for place in range(len(word) - length + 1)
            for each in _shortened(word[place : place + length])
            for number in self._shortened.get(each, ())
        }

    def _parts(self, words: Iterable[str], slipped: Iterable[int] = ()) -> _Scores:
        """Return how much of each item's name and keywords stands in the words.

        A phrase weighs more the longer it is and the fewer items have it; half of it weighs a quarter.

        Args:
            slipped: phrases that stand there with a slip.
        """
        shared = Counter(chain.from_iterable(self._grams.get(pair, ()) for pair in _pairs_of(words)))
        shares = {number: pairs / len(set(_pairs(self._phrases[number]))) for number, pairs in shared.items()}
        for number in slipped:
            shares[number] = max(shares.get(number, 0.0), _SLIPPED)
        weights: defaultdict[int, float] = defaultdict(float)
        for number, share in shares.items():
            phrase, owners = self._phrases[number], self._owners[number]
            if share >= _LEAST_SHARE:
                rarity = math.log(1 + len(self._items) / len(owners))
                weight = share * share * math.sqrt(len(phrase)) * rarity
                for owner, column in owners:
                    weights[owner] += weight * _WEIGHTS[column]
        return weights


# --- where something was found -----------------------------------------------------------------------------


def _matches(item: Item, word: str, how: How) -> list[Match]:
    """Return where the word stands in an item in which it was found this way."""
    if how is How.PART:
        return _parts_in(item, set(_pairs(word)))
    phrases = _phrases_of(item)
    if how is How.NEAR:
        slip = _slips(word)
        return [_match(each, how) for each in phrases if slip.search(each[2])][:1]
    return [_match(each, how) for each in phrases if word in each[2]][:1] or [_elsewhere_in(item, word)]


def _match(phrase: tuple[str, str, str], how: How) -> Match:
    column, text, _ = phrase
    return Match(column=column, text=text, how=how)


def _elsewhere_in(item: Item, word: str) -> Match:
    column = next(each for each in chain(*_ELSEWHERE.values()) if word in _folded(item, each))
    value = getattr(item, column)
    told = (
        [value] if isinstance(value, str) else [each for each in value if word in "\n".join(words_of(each))]
    )
    return Match(column=column, text=told[0], how=How.EXACT)


def _parts_in(item: Item, pairs: set[str], near: Collection[str] = ()) -> list[Match]:
    """Return the three names or keywords of which the most stands among the pairs, or that are among the near ones."""

    def shared(phrase: str) -> float:
        own = set(_pairs(phrase))
        return len(own & pairs) / len(own) if own else 0.0

    def weight(phrase: tuple[str, str, str]) -> float:
        share = max(shared(phrase[2]), _SLIPPED if phrase[2] in near else 0.0)
        return share * share * math.sqrt(len(phrase[2])) if share >= _LEAST_SHARE else 0.0

    found = heapq.nlargest(3, _phrases_of(item), key=weight)
    return [
        _match(each, How.PART if shared(each[2]) >= _LEAST_SHARE else How.NEAR)
        for each in found
        if weight(each)
    ]


# --- letters -----------------------------------------------------------------------------------------------


def _phrases_of(item: Item) -> list[tuple[str, str, str]]:
    """Return column, text and phrase of the name and of each keyword."""
    told = ((_NAME, item.name), *((_KEYWORDS, word) for word in item.keywords))
    return [(column, text, phrase) for column, text in told if (phrase := "".join(words_of(text)))]


def _folded(item: Item, column: str) -> str:
    value = getattr(item, column)
    return "\n".join(words_of(value if isinstance(value, str) else "\n".join(value)))


def _best(scored: _Scores, limit: int) -> list[int]:
    """Return the best; equal ones in the order of the list."""
    return heapq.nsmallest(max(0, limit), scored, key=lambda number: (-scored[number], number))


def _squashed(weight: float) -> float:
    return 100 * weight / (weight + _HALF_SURE)


def _pairs(text: str) -> list[str]:
    return [text[place : place + 2] for place in range(len(text) - 1)]


def _pairs_of(words: Iterable[str]) -> set[str]:
    return {pair for word in words for pair in _pairs(word)}


def _shortened(text: str) -> set[str]:
    """Return the text and what is left of it without one letter: texts that are one slip apart share one of these."""
    return {text, *(text[:place] + text[place + 1 :] for place in range(len(text)))}


def _may_have_a_slip(word: str) -> bool:
    return 1 < len(word) <= _LONGEST_NEAR


def _slips(word: str) -> re.Pattern[str]:
    """Return a pattern for every way to write the word with one slip.

    For `abc`: one left out (`bc|ac|ab`, which also is a wrong letter at either end), one wrong (`a.c`),
    one missing (`a.bc|ab.c`), two swapped (`bac|acb`). Two letters alone would find anything, so that for
    `ab` only a whole phrase of two letters counts (`^a.$|^.b$`), or the swapped and the parted one.
    """
    ways: list[str] = []
    for place in range(len(word)):
        before, after = word[:place], word[place + 1 :]
        if len(word) > 2:
            ways.append(re.escape(before + after))
            ways.append(re.escape(before) + "." + re.escape(after))
        else:
            ways.append("^" + re.escape(before) + "." + re.escape(after) + "$")
        if before:
            ways.append(re.escape(before) + "." + re.escape(word[place:]))
        if after:
            ways.append(re.escape(before + after[0] + word[place] + after[1:]))
    return re.compile("|".join(ways))
