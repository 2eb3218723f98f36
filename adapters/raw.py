"""Reading rows into which somebody may have written what their columns' types do not take."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Boolean, Connection, Integer, Select, String, type_coerce
from sqlalchemy.engine import Dialect
from sqlalchemy.types import NullType, TypeEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row as it stands.

    Attributes:
        values: by column; what cannot be read as the column's type stands here as the text that shows it.
        unreadable: the columns of which that is so.
    """

    values: Mapping[str, Any]
    unreadable: tuple[str, ...] = ()


def read_rows(connection: Connection, query: Select[*tuple[Any, ...]]) -> Iterator[Row]:
    """Yield what the query selects, value by value: one that cannot be read costs no other."""
    columns = list(query.selected_columns)
    names = [str(column.key) for column in columns]
    readers = [_Reader(column.type, connection.dialect) for column in columns]
    raw = query.with_only_columns(
        *(type_coerce(column, NullType()).label(name) for column, name in zip(columns, names, strict=True))
    )
    for row in connection.execute(raw):
        values: dict[str, Any] = {}
        unreadable = []
        for name, reader, stands in zip(names, readers, row, strict=True):
            try:
                values[name] = reader.read(stands)
            except (ValueError, TypeError):
                values[name] = stands if isinstance(stands, str) else repr(stands)
                unreadable.append(name)
        yield Row(values=values, unreadable=tuple(unreadable))


def texts(connection: Connection, query: Select[*tuple[Any, ...]]) -> list[str]:
    """Return the first column of what the query selects; what is no text stands as the text that shows it."""
    return [str(next(iter(row.values.values()))) for row in read_rows(connection, query)]


class _Reader:
    """Makes of what a driver gives what the column's type holds."""

    def __init__(self, kind: TypeEngine[Any], dialect: Dialect) -> None:
        self._process = kind.dialect_impl(dialect).result_processor(dialect, None)
        self._is_boolean = isinstance(kind, Boolean)
        self._holds = next((python for sql, python in _HOLDS.items() if isinstance(kind, sql)), object)

    def read(self, stands: object) -> object:
        """Return the value.

        Raises:
            ValueError, TypeError: it is none of this type.
        """
        # SQLAlchemy's processor would take anything for true or false.
        if self._is_boolean and stands not in _BOOLEANS:
            raise ValueError(stands)
        value = self._process(stands) if self._process is not None else stands
        if value is not None and not isinstance(value, self._holds):
            raise TypeError(type(value).__name__)
        return value


_BOOLEANS = (0, 1, None)
_HOLDS: Mapping[type[TypeEngine[Any]], type] = {String: str, Integer: int}
"""What SQLite, which takes anything in any column, gives back as it stands; the others' processors look themselves."""
