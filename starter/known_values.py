"""Whether a list's filter names something that exists: a slip of the pen must not look like an empty list."""

from collections.abc import Iterable

from domain import access
from domain.district import District, Organisation, OrganisationKind, Person
from domain.errors import Invalid
from starter.identity import Directory

_MOST_NAMED = 60


def require_known(
    directory: Directory,
    person: Person,
    *,
    district: str | None,
    township: str | None,
    department: str | None,
    item: str | None,
) -> None:
    """Say nothing if everything that is named exists in some district.

    Raises:
        Invalid: `unknown_district`, `unknown_township`, `unknown_department`, `unknown_item`; the detail names the
            values that the person may ask for.
    """
    every = directory.districts()
    seen = every if access.sight(person.actor()).everything else _only(every, person.district)
    if district is not None and district not in {each.code for each in every}:
        may = "、".join(f"{each.code}({each.name})" for each in seen)
        raise Invalid("unknown_district", f"区(市)“{district}”不存在,应为:{may}。")
    asked = _only(every, district) if district is not None else seen
    if township is not None and township not in _codes(every, OrganisationKind.TOWNSHIP):
        may = _named(asked, OrganisationKind.TOWNSHIP)
        raise Invalid("unknown_township", f"镇街“{township}”不存在,应为:{may}。")
    if department is not None and department not in _codes(every, *OrganisationKind):
        may = _named(asked, OrganisationKind.DEPARTMENT)
        raise Invalid("unknown_department", f"部门“{department}”不存在,应为:{may}。")
    if item is not None and all(directory.item(each.code, item) is None for each in every):
        raise Invalid(
            "unknown_item", f"事项“{item}”不在事项清单中,应为 /catalogue/items 所列的事项编码之一。"
        )


def _only(districts: Iterable[District], code: str) -> list[District]:
    return [each for each in districts if each.code == code]


def _offices(districts: Iterable[District], *kinds: OrganisationKind) -> list[Organisation]:
    return [office for each in districts for office in each.organisations if office.kind in kinds]


def _codes(districts: Iterable[District], *kinds: OrganisationKind) -> set[str]:
    return {office.code for office in _offices(districts, *kinds)}


def _named(districts: Iterable[District], kind: OrganisationKind) -> str:
    offices = _offices(districts, kind)
    named = "、".join(f"{office.code}({office.name})" for office in offices[:_MOST_NAMED])
    return f"{named}等,见 /organisations" if len(offices) > _MOST_NAMED else named
