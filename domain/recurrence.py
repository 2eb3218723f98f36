"""The same item and place again: how one tells that two calls are about one place (domain.md §5)."""

import unicodedata
from math import cos, radians, sqrt

from domain.case import Location

_METRES_A_DEGREE = 111_320.0


def place(address: str) -> str:
    """Return an address without what people write differently: spaces, punctuation, full-width letters, case."""
    folded = unicodedata.normalize("NFKC", address).lower()
    return "".join(sign for sign in folded if sign.isalnum())


def is_same_place(one: Location, other: Location, radius_metres: int) -> bool:
    """Whether two locations are one place: the same address, or coordinates that lie close together.

    Args:
        radius_metres: how close, on the ground; flat-earth distance, exact enough for a few kilometres.
    """
    if place(one.address) == place(other.address):
        return True
    if None in {one.longitude, one.latitude, other.longitude, other.latitude}:
        return False
    return _distance(one, other) <= radius_metres


def _distance(one: Location, other: Location) -> float:
    """Return metres; both have coordinates."""
    north = float((one.latitude or 0) - (other.latitude or 0)) * _METRES_A_DEGREE
    east = float((one.longitude or 0) - (other.longitude or 0)) * _METRES_A_DEGREE
    return sqrt(north**2 + (east * cos(radians(float(one.latitude or 0)))) ** 2)
