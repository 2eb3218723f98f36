"""The auditors' page explains every code that a finding can bear."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "auditors.md"
SOURCES = (
    *(ROOT / "domain" / f"{name}.py" for name in ("anchor", "journal", "roll", "verify")),
    *(
        ROOT / "adapters" / f"{name}.py"
        for name in ("anchors", "bundle", "evidence", "journals", "kept_acts", "kept_runs", "loads")
    ),
    *(
        ROOT / "starter" / f"{name}.py"
        for name in (
            "audit_runs",
            "auditor",
            "journal_audit",
            "register_audit",
            "roll_call",
            "rehearsal",
            "replay",
        )
    ),
    ROOT / "activities" / "archive.py",
    ROOT / "activities" / "reconcile.py",
)
MAKERS = {
    *("Finding", "_found", "found", "_chain", "_history", "_link", "_differs", "_terms_finding", "_unknown"),
    *(
        "row",
        "_unreadable",
        "AnchorInvalid",
        "ArchiveConflict",
        "BundleInvalid",
        "CaseUnknown",
        "DomainError",
    ),
}
"""What makes a finding, or an error that `audit` tells of, out of a code."""
_CODE = re.compile(r"[a-z]+(_[a-z]+)+|unreadable")


def emitted() -> Iterator[str]:
    """Every code in the sources: given to a maker, or chosen for one under the name `code`."""
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id=maker) | ast.Attribute(attr=maker)) if maker in MAKERS:
                    named = [each.value for each in node.keywords if each.arg == "code"]
                    yield from codes(*(named or node.args[:2]))
                case ast.Assign(
                    targets=[ast.Tuple(elts=[ast.Name(id="code"), *_])], value=ast.Tuple(elts=said)
                ):
                    yield from codes(said[0])


def codes(*nodes: ast.expr) -> Iterator[str]:
    """Yield the constants in these expressions that are codes."""
    for node in nodes:
        for each in ast.walk(node):
            if isinstance(each, ast.Constant) and isinstance(each.value, str) and _CODE.fullmatch(each.value):
                yield each.value


TABLES = {"archived_runs"}
"""What looks like a code and is the name of a table, given to a maker before it."""


def test_the_page_explains_every_code_that_a_finding_can_bear() -> None:
    table = (
        PAGE.read_text("utf-8").partition("## What is found")[2].partition("## What this does not prove")[0]
    )
    found = set(emitted()) - TABLES
    assert {"hash_mismatch", "anchor_gone", "chain_rewritten", "case_deleted", "bundle_invalid"} <= found
    assert found - set(re.findall(r"`([a-z_]+)`", table)) == set()
