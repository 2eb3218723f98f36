"""What must hold across the whole house."""

import ast
import subprocess
import sys
from pathlib import Path

from domain import access, words
from domain.commands import COMMANDS, Act
from domain.events import Event
from starter.bodies import BODIES
from workflows import names
from workflows.anchor import Anchor
from workflows.case import Case
from workflows.notices import Notices
from workflows.upkeep import Archive, Reconcile

ROOT = Path(__file__).parent.parent.parent


def test_every_act_has_a_command_a_rule_for_who_may_a_body_a_word_and_an_update() -> None:
    updates = {name for name in dir(Case) if not name.startswith("_")}
    for act in Act:
        assert COMMANDS[act].act is act
        assert act in access._RULES
        assert (act in BODIES) == (act is not Act.ADOPT_TERMS)  # that reaches many cases at once
        assert act in words.ACTS
        assert act.value in updates


def test_every_kind_of_thing_that_people_see_has_a_chinese_word() -> None:
    for table in (
        words.STAGES,
        words.CATEGORIES,
        words.URGENCIES,
        words.LIMIT_CLASSES,
        words.CLOCKS,
        words.ORDERS,
        words.RECEIVERS,
        words.GRADES,
        words.ACTIONS,
        words.ROLES,
        words.BASES,
        words.APPEALS,
        words.LINKS,
        words.SCOPES,
        words.LEAVING,
        words.DIRECTIONS,
    ):
        kind = type(next(iter(table)))
        assert set(table) == set(kind), kind


def test_every_workflow_is_registered_with_the_worker() -> None:
    source = (ROOT / "worker.py").read_text()
    for workflow in (Case, Notices, Archive, Reconcile, Anchor):
        assert workflow.__name__ in source
    assert (names.CASE, names.NOTICES) == ("Case", "Notices")
    assert (names.ARCHIVE, names.RECONCILE) == ("Archive", "Reconcile")


def test_importing_the_workflow_loads_no_sql_http_or_logging_library() -> None:
    program = (
        "import sys, workflows.case, workflows.notices, workflows.upkeep, activities.record;"
        "print([name for name in ('sqlalchemy','fastapi','httpx2','structlog','holidays') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_the_rules_read_no_clock_no_environment_and_draw_no_lots() -> None:
    banned = {"random", "secrets", "os", "time", "uuid", "socket", "pathlib"}
    for file in [*(ROOT / "domain").glob("*.py"), *(ROOT / "workflows").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & banned, file
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in banned, file
            elif isinstance(node, ast.Attribute):
                assert node.attr not in {"utcnow", "today", "fromtimestamp"}, file
                is_workflow_now = isinstance(node.value, ast.Name) and node.value.id in {"workflow", "self"}
                assert node.attr != "now" or is_workflow_now, file


def test_every_event_can_be_told_in_chinese() -> None:
    kinds = {kind.__name__ for kind in Event.__args__[0].__args__}
    source = (ROOT / "domain" / "words.py").read_text()
    assert all(f"case {kind}()" in source for kind in kinds)


def test_no_district_and_no_department_is_named_in_code() -> None:
    known = {"yicheng", "eshan", "longshanlu", "ecology"}
    for package in ("domain", "workflows", "activities", "adapters"):
        for file in (ROOT / package).rglob("*.py"):
            strings = {
                node.value
                for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
            assert not strings & known, file
