"""A district: the tenant. Its offices, its people, its responsibility list, and the terms that a case is opened under."""

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from domain.calendar import CalendarData
from domain.case import Actor, Category, OrganisationCode, PersonId, Post, Responsibility, Role, Value
from domain.policy import LimitClass, Policy

Code = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
"""Lower-case letters, digits, `-` and `_`: codes stand in addresses, file names and search attributes."""

_SEPARATORS = re.compile("[;\N{FULLWIDTH SEMICOLON}、\\n]")


def split_names(text: str) -> tuple[str, ...]:
    """Return the names that stand in one cell, with `;`, `；`, `、` or a line end between them."""
    return tuple(part.strip() for part in _SEPARATORS.split(text) if part.strip())


def _many(value: Any) -> Any:  # whatever a document holds
    return split_names(value) if isinstance(value, str) else value


class OrganisationKind(StrEnum):
    """What an office is."""

    TOWNSHIP = "township"
    DEPARTMENT = "department"
    PLATFORM = "platform"
    COORDINATION_GROUP = "coordination_group"
    GOVERNMENT = "government"
    CITY = "city"


class Tier(StrEnum):
    """Where a department stands in 1+X+Y (domain.md §3.5): X sends resident officers, Y comes when called."""

    RESIDENT = "resident"
    ON_CALL = "on_call"


class Organisation(Value):
    """A township, a department or an office of the district."""

    code: Code
    name: str
    kind: OrganisationKind
    tier: Tier | None = None


class Person(Value):
    """Somebody who can act: with one or more posts.

    Attributes:
        on_duty: receives the reminders of the ladder's first rung.
        phone: personal data; never in a history, a log or a search attribute.
    """

    id: PersonId
    name: str
    district: str
    posts: tuple[Post, ...]
    on_duty: bool = False
    phone: str = ""

    def actor(self) -> Actor:
        """Return who acts, without the telephone number."""
        return Actor(id=self.id, name=self.name, district=self.district, posts=self.posts)

    def holds(self, role: Role, organisation: str | None = None) -> bool:
        """Whether the person holds the role, in that organisation where one is named."""
        return any(post.role is role and organisation in (None, post.organisation) for post in self.posts)


class Item(Value):
    """One matter of the responsibility list (事项).

    Attributes:
        primary: the one department with 主体责任; `cooperating` those with 配合责任.
        closing_condition: what must be so before a department may say 'done'; `evidence` names what
            shows it (现场照片), each by itself; documents of before, in which it was one text, are split.
        flow: the district's operating flow (运行流程), step by step.
    """

    code: Code
    field: str
    category: Category
    name: str
    keywords: tuple[str, ...] = ()
    primary: OrganisationCode
    cooperating: tuple[OrganisationCode, ...] = ()
    township_duty: str = ""
    basis: str = ""
    limit_class: LimitClass
    closing_condition: str = ""
    evidence: Annotated[tuple[str, ...], BeforeValidator(_many)] = ()
    flow: tuple[str, ...] = ()
    note: str = ""

    def responsibility(self) -> Responsibility:
        """Return what a case keeps of the item for good."""
        return Responsibility(
            lead=self.primary,
            cooperating=self.cooperating,
            township_duty=self.township_duty,
            basis=self.basis,
            closing_condition=self.closing_condition,
            evidence=self.evidence,
            flow=self.flow,
        )


class AdoptionScope(StrEnum):
    """Which part of newer terms a running case takes on."""

    CALENDAR = "calendar"
    POLICY = "policy"
    ALL = "all"


class Station(Value):
    """常驻 (X): a department has resident officers in a township (domain.md §3.5)."""

    department: OrganisationCode
    township: OrganisationCode


class Terms(Value):
    """What a case was opened under, as one value that goes into its history: policy, calendar, offices by code.

    Attributes:
        stations: where resident officers are.
    """

    policy: Policy
    calendar: CalendarData
    organisations: tuple[Organisation, ...]
    stations: tuple[Station, ...] = ()

    def name(self, code: str) -> str:
        """Return the office's name, or the code itself for one that is not known."""
        return next((each.name for each in self.organisations if each.code == code), code)

    def is_stationed(self, department: str, township: str) -> bool:
        """Whether the department has resident officers in the township."""
        return any(each.department == department and each.township == township for each in self.stations)

    def adopting(self, newer: "Terms", scope: AdoptionScope) -> "Terms":
        """Return these terms with the named parts of newer ones; offices come along with a policy."""
        match scope:
            case AdoptionScope.CALENDAR:
                return self.model_copy(update={"calendar": newer.calendar})
            case AdoptionScope.POLICY:
                return newer.model_copy(update={"calendar": self.calendar})
            case AdoptionScope.ALL:
                return newer


class District(Value):
    """Everything that a district's folder says, checked as a whole."""

    code: Code
    name: str
    policy: Policy
    calendar: CalendarData
    organisations: tuple[Organisation, ...]
    people: tuple[Person, ...]
    items: tuple[Item, ...]
    catalogue_version: str

    def terms(self) -> Terms:
        """Return what a case opened now is opened under."""
        held = {
            (post.organisation, post.township)
            for person in self.people
            for post in person.posts
            if post.role is Role.RESIDENT_OFFICER and post.township is not None
        }
        return Terms(
            policy=self.policy,
            calendar=self.calendar,
            organisations=self.organisations,
            stations=tuple(Station(department=office, township=town) for office, town in sorted(held)),
        )
