"""Who asks: what a token is worth, and what is known of people while the database is away."""

import base64
import json
from datetime import UTC, datetime

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from adapters.store import Store, StoreUnavailable
from starter.identity import Directory, TokenInvalid, issue, read
from tests.sample import district

SECRET = "a-secret-for-tests-that-is-long-enough-0123"


class AwayStore(Store):
    """A store that can be away."""

    away = False

    async def districts(self) -> list[object]:  # type: ignore[override]
        """Return every district, or be away."""
        if self.away:
            raise StoreUnavailable
        return list(await super().districts())


def signed(**changes: object) -> str:
    """Return a token of ours with other claims."""
    claims = {"iss": "shaodao", "aud": "shaodao", "sub": "town-officer", "exp": 4_000_000_000} | changes
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode({"alg": "HS256"}, kept, OctKey.import_key(SECRET))


def unsigned() -> str:
    """Return a token that claims to need no signature."""
    parts = ({"alg": "none"}, {"iss": "shaodao", "aud": "shaodao", "sub": "dispatcher", "exp": 4_000_000_000})
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return ".".join(encoded) + "."


def test_a_token_stands_for_its_person() -> None:
    assert read(issue("town-officer", secret=SECRET), SECRET) == "town-officer"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "é.é.é",
        unsigned(),
        issue("town-officer", secret="another-secret-that-is-long-enough-456"),
        issue("town-officer", secret=SECRET, days=-1),
        signed(exp=None),
        signed(sub=None),
        signed(iss="elsewhere"),
        signed(aud="elsewhere"),
        signed(exp="never"),
        issue("town-officer", secret=SECRET)[:-2],
    ],
)
def test_a_token_that_is_not_ours_or_not_whole_or_has_run_out_is_invalid(token: str) -> None:
    with pytest.raises(TokenInvalid):
        read(token, SECRET)


async def test_people_stay_known_while_the_database_is_away(database_url: str) -> None:
    store = AwayStore(database_url)
    await store.load_district(district(), datetime.now(UTC))
    directory = Directory(store)
    await directory.refresh()
    store.away = True
    person = await directory.find_person("town-officer")
    assert person is not None
    assert await directory.find_person("nobody") is None
    await store.close()


async def test_with_nobody_known_yet_an_outage_is_no_reason_to_call_people_unknown(database_url: str) -> None:
    store = AwayStore(database_url)
    store.away = True
    with pytest.raises(StoreUnavailable):
        await Directory(store).find_person("town-officer")
    await store.close()


async def test_somebody_who_leaves_the_roster_is_unknown_from_then_on(database_url: str) -> None:
    store = Store(database_url)
    whole = district()
    await store.load_district(whole, datetime.now(UTC))
    directory = Directory(store)
    assert await directory.find_person("town-officer") is not None
    people = tuple(each for each in whole.people if each.id != "town-officer")
    await store.load_district(whole.model_copy(update={"people": people}), datetime.now(UTC))
    await directory.refresh()
    assert await directory.find_person("town-officer") is None
    await store.close()
