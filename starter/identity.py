"""Who asks: signed bearer tokens, and the people they stand for.

A token says only which person; posts are looked up in the directory at every request, so that a change counts at once.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import ValidationError

from adapters.loads import MISSING, TAKEN_BACK, UNREADABLE, StandingDistrict
from adapters.settings import Settings
from adapters.store import Store, StoreUnavailable
from domain.district import District, Item, Person
from domain.errors import DomainError

_ISSUER = "shaodao"
_ALGORITHM = "HS256"
_REFRESH = 15.0
_log = structlog.get_logger()


class TokenInvalid(Exception):
    """The token is not ours, was changed, or has run out."""


def issue(person: str, *, days: float = 30, secret: str | None = None, purpose: str = _ISSUER) -> str:
    """Return a bearer token for the person.

    Args:
        secret: the installation's; from the settings when not given.
        purpose: what it is good for; a token for one purpose is none for another.
    """
    now = int(time.time())
    claims = {
        "iss": _ISSUER,
        "aud": purpose,
        "sub": person,
        "iat": now,
        "exp": now + int(timedelta(days=days).total_seconds()),
    }
    return jwt.encode({"alg": _ALGORITHM}, claims, _key(secret or Settings().secret.get_secret_value()))


def read(token: str, secret: str, *, purpose: str = _ISSUER) -> str:
    """Return the person that the token stands for.

    Raises:
        TokenInvalid: see there.
    """
    try:
        decoded = jwt.decode(token, _key(secret), algorithms=[_ALGORITHM])
        jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": _ISSUER},
            aud={"essential": True, "value": purpose},
            sub={"essential": True},
            exp={"essential": True},
        ).validate(decoded.claims)
    except (JoseError, ValueError):
        raise TokenInvalid from None
    return str(decoded.claims["sub"])


def _key(secret: str) -> OctKey:
    return OctKey.import_key(secret)


class DistrictUnbound(DomainError):
    """What stands of the district is not what was loaded, and nothing good is known: nobody has rights by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Good:
    document: str
    district: District
    loaded_at: datetime


class Directory:
    """The districts in memory, refreshed in the background; the last known stays while the database is away.

    Rights come from here, so that a district is taken in only as it was last loaded (`adapters.loads`). What somebody
    wrote otherwise gives nobody any right: a district that is known stays as it was, so that people can go on; of one
    that is not, people are refused. Other districts are not concerned. Nor is an older load taken in again once a newer
    one is known.

    Args:
        tells: log what is wrong; not where somebody reads what a command says.
    """

    def __init__(self, store: Store, *, tells: bool = True) -> None:
        self._store = store
        self._tells = tells
        self._good: dict[str, _Good] = {}
        self._refused: dict[str, str] = {}
        self._refused_people: dict[str, str] = {}
        self._told: dict[str, tuple[str, str]] = {}
        self._refreshing = asyncio.Lock()
        self._people: dict[str, Person] = {}
        self._items: dict[tuple[str, str], Item] = {}

    async def refresh(self) -> None:
        """Read every district anew; one that stands as it is known costs no more than being read.

        Raises:
            StoreUnavailable: the database is away; what was known stays.
        """
        async with self._refreshing:  # else what was read first might be taken in last
            self._take_in({each.code: each for each in await self._store.standing_districts()})

    def _take_in(self, standing: Mapping[str, StandingDistrict]) -> None:
        vanished = self._good.keys() - standing.keys()
        good: dict[str, _Good] = {}
        refused: dict[str, str] = {}
        refused_people: dict[str, str] = {}
        for stands in (*standing.values(), *(_vanished(code) for code in vanished)):
            known = self._good.get(stands.code)
            is_older = known and stands.loaded_at and stands.loaded_at < known.loaded_at
            found = replace(stands, wrong=TAKEN_BACK) if is_older else stands
            read = self._taken(found)
            each = found if read or found.wrong else replace(found, wrong=UNREADABLE)
            self._tell(each, is_known=known is not None)
            if kept := read or known:
                good[each.code] = kept
                continue
            refused[each.code] = each.told
            if claimed := _parsed(each.document):
                refused_people |= {person.id: each.code for person in claimed.people}
        districts = [each.district for each in good.values()]
        self._good, self._refused, self._refused_people = good, refused, refused_people
        self._people = {person.id: person for district in districts for person in district.people}
        self._items = {(district.code, item.code): item for district in districts for item in district.items}

    def _taken(self, standing: StandingDistrict) -> _Good | None:
        """Return the district as it stands, if it is what was loaded."""
        known = self._good.get(standing.code)
        if standing.wrong or standing.loaded_at is None:
            return None
        if known is not None and known.document == standing.document:
            return replace(known, loaded_at=standing.loaded_at)
        district = _parsed(standing.document)
        if district is None:
            return None
        return _Good(document=standing.document, district=district, loaded_at=standing.loaded_at)

    def _tell(self, standing: StandingDistrict, *, is_known: bool) -> None:
        """Log once for each change."""
        code = standing.code
        if not standing.wrong:
            if self._told.pop(code, None):
                _log.info("district_bound", district=code)
            return
        change = (standing.wrong, standing.document)
        if self._tells and self._told.get(code) != change:
            self._told[code] = change
            _log.error("district_unbound", district=code, why=standing.wrong, last_known_stays=is_known)

    async def keep_fresh(self) -> None:
        """Refresh for ever."""
        while True:
            try:
                await self.refresh()
            except StoreUnavailable:
                pass  # what was known stays
            except Exception:
                _log.exception("directory_not_refreshed")
            await asyncio.sleep(_REFRESH)

    def person(self, person: str) -> Person | None:
        """Return somebody active, or None."""
        return self._people.get(person)

    async def find_person(self, person: str) -> Person | None:
        """Return somebody active; somebody unknown is looked for once more in the database.

        Raises:
            StoreUnavailable: the database is away, and nobody at all is known yet.
            DistrictUnbound: the person's district is not what was loaded.
        """
        if person not in self._people:
            try:
                await self.refresh()
                if self._refused and person not in self._people:
                    self.require_bound(
                        self._refused_people.get(person) or await self._store.district_of_person(person)
                    )
            except StoreUnavailable:
                if not self._people:
                    raise
                _log.warning("directory_not_refreshed")
        return self._people.get(person)

    def refused(self) -> dict[str, str]:
        """Return what is wrong with the districts by which nobody has rights, and how that is put right."""
        return dict(self._refused)

    def require_bound(self, district: str | None) -> None:
        """Say nothing, unless this is a district that stands and is not what was loaded.

        Raises:
            DistrictUnbound: see there.
        """
        if district in self._refused:
            detail = f"该区(市)的资料无法确认,暂停服务,请联系管理员。{self._refused[district]}"
            raise DistrictUnbound("district_unbound", detail)

    def district(self, code: str) -> District | None:
        """Return a district, or None."""
        good = self._good.get(code)
        return good.district if good else None

    def districts(self) -> list[District]:
        """Return all."""
        return [each.district for each in self._good.values()]

    def item(self, district: str, code: str) -> Item | None:
        """Return an item of a district's catalogue, or None."""
        return self._items.get((district, code))


def _vanished(code: str) -> StandingDistrict:
    return StandingDistrict(code=code, document="", wrong=MISSING)


def _parsed(document: str) -> District | None:
    """Return the district of a document; None for what is none of this version's."""
    try:
        return District.model_validate_json(document)
    except ValidationError:
        return None
