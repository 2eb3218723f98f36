"""Refusals as the world reads them: RFC 9457 problem details, with a stable code and a Chinese sentence."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from adapters.store import StoreUnavailable
from domain import words
from domain.errors import ArchiveConflict, DomainError, Forbidden, Invalid, LedgerConflict, Refused
from starter.case_client import TemporalUnavailable
from starter.identity import DistrictUnbound

MEDIA_TYPE = "application/problem+json"

_STATUSES: dict[type[DomainError], int] = {
    Refused: HTTPStatus.CONFLICT,
    Forbidden: HTTPStatus.FORBIDDEN,
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    LedgerConflict: HTTPStatus.INTERNAL_SERVER_ERROR,
    ArchiveConflict: HTTPStatus.INTERNAL_SERVER_ERROR,
    DistrictUnbound: HTTPStatus.SERVICE_UNAVAILABLE,  # they may, and asking again helps once it is loaded
}
TITLES = {
    400: "请求格式有误",
    401: "未登录",
    403: "无权操作",
    404: "未找到",
    405: "不支持的方法",
    409: "当前状态不允许",
    408: "请求超时",
    413: "请求过大",
    415: "不支持的内容类型",
    422: "内容有误",
    500: "服务内部错误",
    503: "服务暂不可用",
}


SCHEMA = {
    "title": "Problem",
    "type": "object",
    "description": "RFC 9457。程序依据 code 判断,人看 detail。全部 code 见 docs/problem-codes.md。",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:shaodao:problem:wrong_stage"]},
        "title": {"type": "string", "examples": ["当前状态不允许"]},
        "status": {"type": "integer", "examples": [409]},
        "code": {"type": "string", "examples": ["wrong_stage"]},
        "detail": {"type": "string", "examples": ["案件当前为“待签收”,此操作只能在“待派单”时进行。"]},
        "errors": {
            "type": "array",
            "description": "请求内容有误时,逐项说明。",
            "items": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("field", "code", "detail")},
            },
        },
        "request": {"type": "string", "description": "服务内部错误的编号。"},
    },
}


class Problem(Exception):
    """A refusal of the door itself."""

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = more


def unauthenticated(detail: str) -> Problem:
    """Return the problem of somebody whom we do not know."""
    return Problem(401, "unauthenticated", detail, headers={"WWW-Authenticate": "Bearer"})


def case_not_found() -> Problem:
    """Return the problem of a case that does not exist, or that this person may not see: one cannot tell which."""
    return Problem(404, "case_not_found", "没有该案件,或您无权查看。请核对案件编号。")


def internal_error(request: str) -> Problem:
    """Return what outsiders learn of a bug: a number under which the log has the rest."""
    detail = f"服务内部错误,已记录(编号 {request}),请联系管理员。"
    return Problem(500, "internal_error", detail, request=request)


def render(problem: Problem) -> JSONResponse:
    """Return the problem as a response."""
    content = {
        "type": f"urn:shaodao:problem:{problem.code}",
        "title": TITLES.get(problem.status, HTTPStatus(problem.status).phrase),
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        **problem.more,
    }
    return JSONResponse(content, problem.status, problem.headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let every error leave as a problem."""

    @app.exception_handler(Problem)
    async def own(_: Request, problem: Problem) -> JSONResponse:
        return render(problem)

    @app.exception_handler(DomainError)
    async def rules(_: Request, error: DomainError) -> JSONResponse:
        status = next(status for kind, status in _STATUSES.items() if isinstance(error, kind))
        if error.code == "case_not_visible":
            return render(case_not_found())
        return render(Problem(status, error.code, error.detail))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return render(_of_content_type(request, error) or _of_validation(request, error))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        code, detail = _HTTP.get(error.status_code, ("http_error", "请求无法处理。"))
        return render(Problem(error.status_code, code, detail, headers=error.headers))

    @app.exception_handler(StoreUnavailable)
    async def store(_: Request, __: StoreUnavailable) -> JSONResponse:
        return render(
            Problem(503, "store_unavailable", "数据库暂不可用,请稍后重试。", headers={"Retry-After": "5"})
        )

    @app.exception_handler(TemporalUnavailable)
    async def temporal(_: Request, __: TemporalUnavailable) -> JSONResponse:
        return render(
            Problem(
                503, "temporal_unavailable", "办理引擎暂不可用,请稍后重试。", headers={"Retry-After": "5"}
            )
        )


_MALFORMED = ("malformed_json", "请求体不是有效的 JSON(UTF-8),或嵌套过深。")
_HTTP = {
    404: ("not_found", "没有该地址,请查阅接口文档 /docs。"),
    405: ("method_not_allowed", "该地址不支持此方法,请查阅接口文档 /docs。"),
    400: _MALFORMED,  # what FastAPI says when it cannot read a body at all
}

_FIELD_CODES = {
    "missing": ("missing_field", "缺少必填项"),
    "extra_forbidden": ("unknown_field", "没有该字段"),
    "timezone_aware": ("malformed_time", "时间须带时区,例如 2026-03-04T09:00:00+08:00"),
    "enum": ("unknown_value", "取值不在允许范围内"),
    "literal_error": ("unknown_value", "取值不在允许范围内"),
    "string_too_short": ("invalid_field", "内容过短"),
    "string_too_long": ("invalid_field", "内容过长"),
    "too_short": ("invalid_field", "数量过少"),
    "too_long": ("invalid_field", "数量过多"),
    "string_type": ("invalid_field", "应为文字"),
    "bool_type": ("invalid_field", "应为 true 或 false"),
    "bool_parsing": ("invalid_field", "应为 true 或 false"),
    "int_parsing": ("invalid_field", "应为整数"),
    "int_type": ("invalid_field", "应为整数"),
    "model_attributes_type": ("invalid_field", "应为 JSON 对象"),
    "model_type": ("invalid_field", "应为 JSON 对象"),
    "dict_type": ("invalid_field", "应为 JSON 对象"),
    "list_type": ("invalid_field", "应为数组"),
    "tuple_type": ("invalid_field", "应为数组"),
    "string_pattern_mismatch": ("invalid_field", "格式有误"),
    "control_character": ("invalid_field", "不能含有控制字符或不可见的格式字符"),
    "blank": ("invalid_field", "不能只有空白或不可见的字符,请填写内容"),
    "string_unicode": ("invalid_field", "含有无效的字符"),
    "finite_number": ("invalid_field", "应为数字"),
    "decimal_parsing": ("invalid_field", "应为数字"),
    "decimal_type": ("invalid_field", "应为数字"),
    "decimal_max_places": ("invalid_field", "小数位数过多"),
    "decimal_max_digits": ("invalid_field", "位数过多"),
    "int_from_float": ("invalid_field", "应为整数"),
    "greater_than": ("invalid_field", "数值过小"),
    "greater_than_equal": ("invalid_field", "数值过小"),
    "one_unit": ("invalid_field", '须恰有一个时间单位,例如 {"working_days": 2}'),
    "one_of_notice_or_case": ("invalid_field", "须恰有 notice_id(通知编号)、case_id(案件编号)之一"),
    "one_way_back": (
        "invalid_field",
        "须恰有 before_deploy(退回到某版本之前)、to_event(退回到某历史事件之前)、from_ledger(按台账继续)之一",
    ),
    "less_than_equal": ("invalid_field", "数值过大"),
}
_EMPTY = ("invalid_field", "不能为空,请填写")
_TIME = ("malformed_time", "时间格式有误,应为 ISO 8601 带时区,例如 2026-03-04T09:00:00+08:00")
_FAR_TIME = ("malformed_time", "时间的年份不合理")
_DATE = ("malformed_time", "日期格式有误,应为 2026-03-04")


def _of_content_type(request: Request, error: RequestValidationError) -> Problem | None:
    """Return what is wrong when a body was sent as something else than JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = kind == "application/json" or kind.endswith("+json")
    unread = any(each["loc"] == ("body",) and each["type"] != "missing" for each in error.errors())
    if is_json or not unread:
        return None
    return Problem(415, "unsupported_media_type", "请求体须为 JSON:请设置 Content-Type: application/json。")


def _of_validation(request: Request, error: RequestValidationError) -> Problem:
    found = error.errors()
    if any(each["type"] == "json_invalid" for each in found):
        return Problem(400, *_MALFORMED)
    errors = [_of_field(each) for each in found]
    for each, one in zip(found, errors, strict=True):
        if each["type"] == "extra_forbidden" and (right := _fields_beside(request, each["loc"])):
            one["detail"] += f",可用的字段:{'、'.join(_named(name) for name in right)}"
    told = ";".join(f"{_named(each['field'])}:{each['detail']}" for each in errors[:5])
    return Problem(422, errors[0]["code"], f"请求内容有误。{told}", errors=errors)


def _fields_beside(request: Request, place: Sequence[str | int]) -> list[str]:
    """Return the fields that a body has in the place where one was sent that it has not; none for a query."""
    body = getattr(request.scope.get("route"), "body_field", None)
    if body is None or place[0] != "body":
        return []
    model = _model_in(body.field_info.annotation)
    for part in place[1:-1]:
        if model is not None and isinstance(part, str):
            field = model.model_fields.get(part)
            model = _model_in(field.annotation) if field is not None else None
    return list(model.model_fields) if model is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation: itself, or of what it is a list or an option."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _named(field: str) -> str:
    """Return the field with its Chinese name before it, where it has one."""
    label = _FIELDS.get(next((part for part in reversed(field.split(".")) if not part.isdecimal()), ""))
    return f"{label}({field})" if label else field


_FIELDS = {
    "about": "申诉事由",
    "action": "处置评分",
    "add": "延长时间",
    "address": "地点",
    "answer_required": "督办单须答复",
    "approve": "是否同意",
    "arrived_at": "报到时间",
    "attachments": "附件",
    "awaiting_sign": "待签收部门",
    "basis": "异议依据",
    "body": "请求体",
    "called_before": "吹哨时间早于",
    "called_from": "吹哨时间不早于",
    "caller_office": "交办部门",
    "case_id": "案件编号",
    "category": "类别",
    "comment": "评语",
    "contact": "联系人",
    "cooperating": "配合单位",
    "days": "日数",
    "department": "部门",
    "departments": "部门",
    "description": "内容",
    "direction": "方向",
    "district": "区(市)",
    "evidence": "佐证材料",
    "follow_up_on": "后续跟踪日期",
    "grade": "评价等次",
    "hours": "小时数",
    "id": "编号",
    "ids": "通知编号",
    "item_code": "事项编号",
    "justified": "是否确属紧急",
    "kind": "种类",
    "latitude": "纬度",
    "lead": "牵头单位",
    "limit_class": "时限类别",
    "location": "位置",
    "longitude": "经度",
    "minutes": "分钟数",
    "name": "名称",
    "note": "备注",
    "notice_id": "通知编号",
    "number": "督办单序号",
    "officers": "报到人员",
    "other": "另一案件",
    "owner": "接办单位",
    "phone": "电话",
    "proposed": "建议承办单位",
    "reason": "理由",
    "requested_check_in_at": "要求报到时间",
    "response": "响应评分",
    "result": "结果",
    "scope": "范围",
    "self_handled": "镇街自行办理",
    "settles": "后续跟踪序号",
    "sha256": "文件摘要",
    "size": "文件大小",
    "solved": "是否解决",
    "stage": "阶段",
    "text": "文字",
    "title": "标题",
    "to": "转办单位",
    "township": "镇街",
    "until": "截止时间",
    "uphold": "是否支持",
    "urgency": "紧急程度",
    "watching": "是否关注",
    "working_days": "工作日数",
    "working_hours": "工作小时数",
    "working_minutes": "工作分钟数",
}


def _allowed(found: Mapping[str, Any]) -> str:
    """Return what would have been right, where the check knows it."""
    known = found.get("ctx", {})
    if "expected" in known:
        return f",应为:{_with_labels(str(known['expected']))}"
    bounds = [f"{word} {known[name]}" for name, word in _BOUNDS.items() if name in known]
    return f"({'、'.join(bounds)})" if bounds else ""


def _with_labels(expected: str) -> str:
    """Return the values that are allowed, each with what people call it."""
    values = re.findall(r"'([^']*)'", expected)
    labels = next((table for table in _LABELS if set(values) <= table.keys()), {})
    return (
        "、".join(f"{value}({labels[value]})" if value in labels else value for value in values) or expected
    )


_LABELS: tuple[dict[str, str], ...] = tuple(
    {str(value): label for value, label in table.items()}
    for table in (
        words.STAGES,
        words.DIRECTIONS,
        words.CATEGORIES,
        words.URGENCIES,
        words.LIMIT_CLASSES,
        words.BASES,
        words.APPEALS,
        words.LINKS,
        words.SCOPES,
        words.GRADES,
        words.ACTIONS,
    )
)
_BOUNDS = {
    "ge": "最小",
    "gt": "须大于",
    "le": "最大",
    "lt": "须小于",
    "max_length": "最多",
    "min_length": "至少",
}


def _of_field(found: Mapping[str, Any]) -> dict[str, str]:
    kind = str(found["type"])
    field = ".".join(str(part) for part in found["loc"] if part not in {"body", "query", "path", "header"})
    if kind == "time_out_of_range":
        code, detail = _FAR_TIME
    elif kind.startswith(("datetime", "timezone_naive")) and kind != "timezone_aware":
        code, detail = _TIME
    elif kind.startswith("date_"):
        code, detail = _DATE
    elif kind == "string_too_short" and found.get("ctx", {}).get("min_length") == 1:
        code, detail = _EMPTY
    else:
        code, detail = _FIELD_CODES.get(kind, ("invalid_field", "内容有误"))
        detail += _allowed(found)
    return {"field": field or "body", "code": code, "detail": detail}
