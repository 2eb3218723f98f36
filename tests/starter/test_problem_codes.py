"""The page of problem codes and the code say the same."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from starter import problems

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "problem-codes.md"
STATUSES = {
    "Refused": 409,
    "Forbidden": 403,
    "Invalid": 422,
    "LedgerConflict": 500,
    "ArchiveConflict": 500,
    "DistrictUnbound": 503,
}
SOURCES = (
    *sorted((ROOT / "domain").glob("*.py")),
    *(ROOT / "adapters" / name for name in ("archive.py", "ledger.py", "queries.py", "witnesses.py")),
    ROOT / "activities" / "archive.py",
    *(
        ROOT / "starter" / f"{name}.py"
        for name in (
            *(
                "api",
                "audit_routes",
                "bodies",
                "case_client",
                "catalogue_routes",
                "codec_routes",
                "identity",
                "limits",
            ),
            *("operations", "ops_routes", "problems", "relay", "views"),
        )
    ),
)


def raised() -> Iterator[tuple[int, str]]:
    """Every status and code that the sources name where they refuse."""
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            words = [word.value for word in node.args[:2] if isinstance(word, ast.Constant)]
            match node.func.id, words:
                case "Problem", [int(status), str(code)]:
                    yield status, code
                case kind, [str(code), *_] if kind in STATUSES:
                    yield STATUSES[kind], code


def tabled() -> Iterator[tuple[int, str]]:
    """Every status and code of the tables by which foreign errors are translated."""
    for status, (code, _) in problems._HTTP.items():
        yield status, code
    for code, _ in (*problems._FIELD_CODES.values(), problems._TIME, problems._FAR_TIME, problems._DATE):
        yield 422, code


def test_the_page_lists_every_code_with_its_status_and_no_other() -> None:
    said = set(raised()) | set(tabled()) - {(403, "case_not_visible")}
    said -= {(403, "case_not_visible")}  # leaves as case_not_found, so that nobody learns what exists
    listed = {
        (int(status), code)
        for status, code in re.findall(r"^\| (\d{3}) \| `(\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    }
    assert listed == said


def test_every_status_has_a_chinese_title() -> None:
    for status, _ in (*raised(), *tabled()):
        assert re.search("[\u4e00-\u9fff]", problems.TITLES[status])
