"""Binds acts that wait for Temporal to the API or worker that kept them, by a code that the database cannot make."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy import Row as SqlRow

from adapters.raw import Row, read_rows
from adapters.sealing import Binding, Seal
from adapters.tables import PendingActRow
from domain.verify import Check, Finding

BEFORE_CODES = "act_before_codes"
"""Outcome that the migration gives to acts which waited when codes were introduced; stable, for programs."""
DONE = "done"
"""The outcome of an act that was carried out."""
UNBOUND = "act_unbound"
"""Outcome of a kept act that no process of ours has kept as it stands; stable, for programs."""
OTHER_KEY = "act_other_key"
"""What keeps an act waiting that another secret bound; stable, for programs."""
_PURPOSE = "acts that wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAct:
    """What a code binds: everything that the relay goes by.

    Attributes:
        command: JSON text; what is bound is its meaning, not how it is spaced.
        accepted_at: aware.
    """

    case_id: str
    act: str
    command: str
    update_id: str
    person: str
    accepted_at: datetime

    @property
    def content(self) -> dict[str, object]:
        """The command as JSON has it; nothing where somebody has written what is none."""
        try:
            content = json.loads(self.command)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    @property
    def text(self) -> str:
        """The canonical text that the code is taken over."""
        moment = self.accepted_at.astimezone(UTC).isoformat()
        bound = [self.case_id, self.act, self.content, self.update_id, self.person, moment]
        return json.dumps(bound, sort_keys=True, separators=(",", ":"))


def code_of(kept: KeptAct, seal: Seal) -> str:
    """Return the code of an act."""
    return seal.code(_PURPOSE, kept.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedOut:
    """A kept act that is settled, and was not refused."""

    place: str
    kept: KeptAct


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptActs:
    """What an auditor finds of the acts that were kept for a case.

    Attributes:
        carried_out: each must have left an entry under its update id.
    """

    number: int = 0
    findings: tuple[Finding, ...] = ()
    carried_out: tuple[CarriedOut, ...] = ()

    def vanished(self, keys: Collection[str], *, proven: bool) -> list[Finding]:
        """Return what is said to have been carried out and is not there.

        Args:
            keys: of every entry that history or ledger has.
            proven: whether all of the history is known.
        """
        return [
            Finding(
                check=Check.ACTS,
                code="act_vanished",
                table="pending_acts",
                row=each.place,
                field="outcome",
                detail=(
                    f"{each.kept.person} 的操作 {each.kept.act} 已受理并标为已办理,"
                    f"而{'执行历史和台账' if proven else '台账和所知的执行历史'}中都没有。"
                ),
                proven=proven,
            )
            for each in self.carried_out
            if each.kept.update_id not in keys
        ]


def kept_act(row: SqlRow[Any]) -> KeptAct:
    """Return what a row of `pending_acts` says."""
    return KeptAct(**{name: getattr(row, name) for name in KeptAct.__slots__})


def binding_of(kept: KeptAct, said: str | None, seal: Seal | None) -> Binding:
    """Return what a code says of an act; without a seal no act is bound, and none is accused."""
    return seal.binding(_PURPOSE, kept.text, said) if seal is not None else Binding.OTHER_KEY


def judge_kept_acts(connection: Connection, case_id: str, seal: Seal | None) -> KeptActs:
    """Hold every act that was kept for the case against its code.

    What was settled before there were codes has none, and accuses nobody: nothing is done with it any more.
    """
    query = select(PendingActRow.__table__).where(PendingActRow.case_id == case_id).order_by(PendingActRow.id)
    rows = list(read_rows(connection, query))
    findings = [found for row in rows if (found := _judged(row, seal)) is not None]
    done = (_carried_out(row, seal) for row in rows)
    return KeptActs(
        number=len(rows),
        findings=tuple(findings),
        carried_out=tuple(each for each in done if each is not None),
    )


def _carried_out(row: Row, seal: Seal | None) -> CarriedOut | None:
    """Return the act, unless it waits or was refused; one without a code is from before there were any, or was robbed."""
    values = row.values
    outcome = str(values["outcome"])
    not_carried_out = outcome in {UNBOUND, BEFORE_CODES} or outcome.startswith("refused: ")
    if values["settled_at"] is None or not_carried_out:
        return None
    if any(name in row.unreadable for name in KeptAct.__slots__):
        return None
    kept = KeptAct(**{name: values[name] for name in KeptAct.__slots__})
    is_ours = values["mac"] is None or binding_of(kept, values["mac"], seal) is Binding.BOUND
    return CarriedOut(place=f"编号{values['id']}", kept=kept) if is_ours else None


def _judged(row: Row, seal: Seal | None) -> Finding | None:
    values = row.values
    settled = values["settled_at"] is not None
    bound_columns = [name for name in KeptAct.__slots__ if name in row.unreadable]
    if bound_columns:
        return _found(
            "unreadable", row, f"此值无法读取:“{str(values[bound_columns[0]])[:60]}”。", bound_columns[0]
        )
    kept = KeptAct(**{name: values[name] for name in KeptAct.__slots__})
    binding = binding_of(kept, values["mac"], seal)
    if values["outcome"] == UNBOUND or (
        binding is Binding.UNBOUND and (values["mac"] is not None or not settled)
    ):
        detail = f"以 {kept.person} 名义的操作 {kept.act} 没有有效的认证码:不是由接口或工作进程存入的,或存入后被改动"
        return _found("act_unbound", row, f"{detail}{';未予办理。' if settled else '。'}", "mac")
    if binding is Binding.OTHER_KEY and not settled:
        detail = "认证码出自另一密钥,无法核对:SHAODAO_SECRET 与存入时的不同。"
        return _found("act_other_key", row, detail, "mac", proven=False)
    return None


def _found(code: str, row: Row, detail: str, column: str, *, proven: bool = True) -> Finding:
    return Finding(
        check=Check.ACTS,
        code=code,
        table="pending_acts",
        row=f"编号{row.values['id']}",
        field=column,
        detail=detail,
        proven=proven,
    )
