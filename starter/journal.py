"""The operators' journal as people read it: one paragraph an operation, of lines that fit any width."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from domain.words import SCOPES, local

Line: TypeAlias = Mapping[str, Any]
"""One line of the journal as the API gives it: an operation's beginning, or its end."""

_NAMES = {
    "resend": "重发通知",
    "rebuild": "重建读模型",
    "reset": "重置案件",
    "reconcile": "立即核对",
    "archive": "立即归档",
    "load_district": "装载区(市)资料",
    "adopt_terms": "在办案件适用新版",
}
_OUTCOMES = {"begun": "? 未见结果", "done": "✓ 完成", "failed": "✗ 未成"}
_ARGUMENTS = {
    "case_id": "案件:{}",
    "case_ids": "案件:{}",
    "notice_id": "通知编号:{}",
    "before_deploy": "退回到版本 {} 之前",
    "to_event": "退回到历史事件 {} 之前",
}
_FLAGS = {"from_ledger": "按台账继续", "despite_anchor": "不顾锚定与归档", "restart_many": "缺失很多时也恢复"}


def paragraphs(lines: Iterable[Line]) -> Iterator[tuple[str, list[str]]]:
    """Give each operation, newest first: when, how it ended, what and who; then what was asked, why, what came of it.

    Args:
        lines: newest first; an operation has two, and only the first while it is under way or when it was cut off.
    """
    operations: dict[str, list[Line]] = {}
    for line in lines:
        operations.setdefault(line["operation"], []).append(line)
    for written in operations.values():
        newest, oldest = written[0], written[-1]
        at = local(datetime.fromisoformat(oldest["at"]))
        what, who = _NAMES.get(newest["name"], newest["name"]), newest["person_name"]
        who += f"({newest['person']})" if newest["person"] else ""
        head = f"{at}  {_OUTCOMES.get(newest['outcome'], newest['outcome'])}  {what}  {who}"
        arguments = {} if newest["name"] == "load_district" else dict(newest["arguments"])  # digests only
        reason = arguments.pop("reason", "")
        below = [
            asked(arguments),
            f"原因:{reason}" if reason else "",
            f"结果:{newest['detail']}" if newest["detail"] else "",
        ]
        yield head, [each for each in below if each]


def asked(arguments: Mapping[str, Any]) -> str:
    """Return what an operation was asked to do."""
    return ";".join(filter(None, (_told(name, value) for name, value in sorted(arguments.items()))))


def _told(name: str, value: object) -> str:
    if name in _FLAGS:
        return _FLAGS[name] if value else ""
    if name == "scope":
        return next((label for scope, label in SCOPES.items() if scope == value), str(value))
    if name == "case_ids" and not value:
        return "全部案件"
    told = "、".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value
    return _ARGUMENTS.get(name, f"{name} {{}}").format(told)
