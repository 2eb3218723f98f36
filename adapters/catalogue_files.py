"""A responsibility list as a table: CSV and .xlsx, which read back exactly as they were written.

A spreadsheet program takes a cell that begins with `=`, `+`, `-` or `@` for a formula, which could send data away or
start a program. In .xlsx every cell is written as text, so that nothing is calculated. CSV knows no types: there
such a cell gets an apostrophe in front, which reading takes away again.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence

import xlsxwriter

from domain.district import Item

COLUMNS = (
    "code",
    "field",
    "category",
    "name",
    "keywords",
    "primary",
    "cooperating",
    "township_duty",
    "basis",
    "limit_class",
    "closing_condition",
    "evidence",
    "flow",
    "note",
)
SHEET = "catalogue"
_FORMULA = re.compile("'*[=+@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH COMMERCIAL AT}"
                      "\N{FULLWIDTH HYPHEN-MINUS}-]")  # fmt: skip
_WIDTHS = {
    "code": 24,
    "name": 32,
    "keywords": 32,
    "township_duty": 36,
    "basis": 40,
    "closing_condition": 36,
    "flow": 48,
}


def neutralised(cell: str) -> str:
    """Return the cell as CSV may hold it: what would be a formula gets an apostrophe in front."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def plain(cell: str) -> str:
    """Return the cell as it was before `neutralised`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def table_of(items: Iterable[Item]) -> list[list[str]]:
    """Return the list as rows of cells, the heading first."""
    return [list(COLUMNS), *([_cell(getattr(item, column)) for column in COLUMNS] for item in items)]


def _cell(value: str | Sequence[str]) -> str:
    return str(value) if isinstance(value, str) else ";".join(value)


def csv_of(items: Iterable[Item]) -> bytes:
    """Return the list as CSV in UTF-8 with a byte order mark, so that spreadsheet programs read it right."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([neutralised(cell) for cell in row] for row in table_of(items))
    return text.getvalue().encode("utf-8-sig")


def xlsx_of(items: Iterable[Item]) -> bytes:
    """Return the list as a workbook with one sheet, its heading fixed, every cell as text."""
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True}) as book:
        sheet = book.add_worksheet(SHEET)
        heading, wrapped = (
            book.add_format({"bold": True}),
            book.add_format({"text_wrap": True, "valign": "top"}),
        )
        for number, row in enumerate(table_of(items)):
            for column, cell in enumerate(row):
                sheet.write_string(number, column, cell, wrapped if number else heading)
        for column, name in enumerate(COLUMNS):
            sheet.set_column(column, column, _WIDTHS.get(name, 16))
        sheet.freeze_panes(1, 0)
    return file.getvalue()


FORMATS = {"csv": csv_of, "xlsx": xlsx_of}
MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
