"""Who asks: signed bearer tokens, and the people they stand for.

A token says only which person; posts are looked up in the directory at every request, so that a change counts at once.
"""

import asyncio
import contextlib
import time
from datetime import timedelta

import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from adapters.settings import Settings
from adapters.store import Store, StoreUnavailable
from domain.district import District, Item, Person

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


class Directory:
    """The districts in memory, refreshed in the background; the last known stays while the database is away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._districts: dict[str, District] = {}
        self._people: dict[str, Person] = {}
        self._items: dict[tuple[str, str], Item] = {}

    async def refresh(self) -> None:
        """Read every district anew.

        Raises:
            StoreUnavailable: the database is away; what was known stays.
        """
        districts = await self._store.districts()
        self._districts = {district.code: district for district in districts}
        self._people = {person.id: person for district in districts for person in district.people}
        self._items = {(district.code, item.code): item for district in districts for item in district.items}

    async def keep_fresh(self) -> None:
        """Refresh for ever."""
        while True:
            with contextlib.suppress(StoreUnavailable):
                await self.refresh()
            await asyncio.sleep(_REFRESH)

    def person(self, person: str) -> Person | None:
        """Return somebody active, or None."""
        return self._people.get(person)

    async def find_person(self, person: str) -> Person | None:
        """Return somebody active; somebody unknown is looked for once more in the database.

        Raises:
            StoreUnavailable: the database is away, and nobody at all is known yet.
        """
        if person not in self._people:
            try:
                await self.refresh()
            except StoreUnavailable:
                if not self._people:
                    raise
                _log.warning("directory_not_refreshed")
        return self._people.get(person)

    def district(self, code: str) -> District | None:
        """Return a district, or None."""
        return self._districts.get(code)

    def districts(self) -> list[District]:
        """Return all."""
        return list(self._districts.values())

    def item(self, district: str, code: str) -> Item | None:
        """Return an item of a district's catalogue, or None."""
        return self._items.get((district, code))
