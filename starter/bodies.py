"""What the world sends: strict, unknown fields refused. Never the models of the history."""

import re
import unicodedata
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StrictBool,
    StrictInt,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from domain.case import ActionKind, AppealAbout, Basis, Category, Direction, Grade, LinkKind
from domain.commands import Act
from domain.district import AdoptionScope
from domain.policy import LimitClass, Urgency

Code = Annotated[str, Field(min_length=1, max_length=40)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]
Note = Annotated[str, Field(max_length=2000)]
Stars = Annotated[StrictInt, Field(ge=1, le=5)]
"""Whole numbers are JSON numbers and truths JSON booleans: nothing is guessed from a text."""


_YEARS = range(2000, 2101)
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def _sensible(moment: datetime) -> datetime:
    if moment.year not in _YEARS:
        raise PydanticCustomError("time_out_of_range", "year out of range")
    return moment


def _time_text(value: Any) -> Any:  # what JSON holds
    """Refuse a number of seconds, also as text: nobody means one."""
    if isinstance(value, str) and _ISO_DATE.match(value) is None:
        raise PydanticCustomError("datetime_parsing", "not an ISO time")
    if not isinstance(value, str | datetime):
        raise PydanticCustomError("datetime_type", "not an ISO time")
    return value


def _date_text(value: Any) -> Any:  # what JSON holds
    """Refuse all but a plain ISO date: a midnight is a time of one zone."""
    if isinstance(value, str) and _ISO_DATE.fullmatch(value) is None:
        raise PydanticCustomError("date_parsing", "not an ISO date")
    if not isinstance(value, str | date) or isinstance(value, datetime):
        raise PydanticCustomError("date_type", "not an ISO date")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_time_text), AfterValidator(_sensible)]
"""An aware moment of this century: beyond it no calendar is known, and arithmetic may leave what dates can hold."""
Day = Annotated[date, BeforeValidator(_date_text)]
RowId = Annotated[int, Field(ge=1, le=2**63 - 1)]
StrictRowId = Annotated[StrictInt, Field(ge=1, le=2**63 - 1)]


_LINES = frozenset("\t\r\n")
_JOINERS = frozenset("\u200c\u200d")
"""Format characters that scripts and emoji need; alone they are nothing."""
_BLANK = _JOINERS | frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Signs that leave no mark though Unicode counts them among letters, marks or symbols."""


def _is_blank(sign: str) -> bool:
    return sign.isspace() or sign in _BLANK or unicodedata.name(sign, "").startswith("VARIATION SELECTOR")


def _is_hidden(sign: str) -> bool:
    kind = unicodedata.category(sign)
    return (kind == "Cc" and sign not in _LINES) or (kind == "Cf" and sign not in _JOINERS)


def _require_seen(text: str) -> None:
    if text and all(_is_blank(sign) or unicodedata.category(sign) == "Cf" for sign in text):
        raise PydanticCustomError("blank", "nothing to be seen")
    if any(_is_hidden(sign) for sign in text):
        raise PydanticCustomError("control_character", "control character")


class Body(BaseModel):
    """Base of all that is sent: unknown fields are refused, and so are signs that nobody sees.

    These are control characters other than tab and line end, and those that format or reverse a text.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    @field_validator("*")
    @classmethod
    def _printable(cls, value: Any) -> Any:  # fields have every type
        for text in value if isinstance(value, list | tuple) else (value,):
            if isinstance(text, str):
                _require_seen(text)
        return value


class LocationBody(Body):
    """Where it is; coordinates in WGS-84 degrees."""

    address: Annotated[str, Field(min_length=1, max_length=200)]
    longitude: Annotated[Decimal, Field(ge=-180, le=180, max_digits=10, decimal_places=7)] | None = None
    latitude: Annotated[Decimal, Field(ge=-90, le=90, max_digits=10, decimal_places=7)] | None = None


class ContactBody(Body):
    """Whom to ask."""

    name: Annotated[str, Field(max_length=40)] = ""
    phone: Annotated[str, Field(max_length=20, pattern=r"^[0-9+\- ]*$")] = ""


class AttachmentBody(Body):
    """A file by reference."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[StrictInt, Field(ge=0, le=2**53)]
    evidence: Annotated[str, Field(max_length=100, description="事项要求的哪一种佐证材料")] = ""


Attachments = Annotated[list[AttachmentBody], Field(max_length=20)]


class CallBody(Body):
    """吹哨."""

    model_config = ConfigDict(
        extra="forbid",
        str_strip_whitespace=True,
        json_schema_extra={
            "examples": [
                {
                    "district": "yicheng",
                    "township": "eshan",
                    "category": "enforcement",
                    "title": "小造纸厂违法排污",
                    "description": "多次下达关停通知,业主拒不执行,申请联合执法。",
                    "urgency": "routine",
                    "location": {"address": "峨山镇示例村"},
                    "contact": {"name": "张示例", "phone": "19900000001"},
                }
            ]
        },
    )

    district: Code
    township: Code
    category: Category
    title: Annotated[str, Field(min_length=1, max_length=100)]
    description: Annotated[str, Field(min_length=1, max_length=5000)]
    item_code: Code | None = None
    urgency: Urgency = Urgency.ROUTINE
    location: LocationBody
    requested_check_in_at: Annotated[
        Time | None,
        Field(
            description="要求报到时间:晚于现在,最迟见政策的 limits.check_in.asked_within(默认吹哨后 30 天);不填则按政策"
        ),
    ] = None
    departments: Annotated[list[Code], Field(max_length=20)] = []
    contact: ContactBody = ContactBody()
    attachments: Attachments = []
    direction: Annotated[Direction, Field(description="up 镇街吹哨;down 部门向镇街交办,须经准入")] = (
        Direction.UP
    )
    caller_office: Annotated[Code | None, Field(description="交办部门,direction 为 down 时填写")] = None


class ReleaseBody(Body):
    """放行, 准入, or the review of an urgent call."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"note": "情况属实"}]})

    justified: Annotated[StrictBool, Field(description="紧急呼叫复核:是否确属紧急")] = True
    note: Note = ""


class RefuseBody(Body):
    """退回."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "属镇街自办事项"}]})

    reason: Text
    self_handled: Annotated[StrictBool, Field(description="镇街自行办理")] = False


class DispatchBody(Body):
    """派单; without `lead` the item's primary and cooperating departments are taken, otherwise say why not."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"lead": "ecology", "cooperating": ["enforcement", "police"]}]}
    )

    lead: Code | None = None
    cooperating: Annotated[list[Code], Field(max_length=20)] | None = None
    limit_class: LimitClass | None = None
    note: Note = ""
    reason: Annotated[Note, Field(description="与事项清单不一致时须说明理由")] = ""


class ReasonBody(Body):
    """An act of the whole case that needs a reason."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "误报"}]})

    reason: Text


class DepartmentBody(Body):
    """An act that concerns one department; may be left out by somebody who has one department on the case."""

    department: Code | None = None


class DepartmentReasonBody(DepartmentBody):
    """The same, with a reason."""

    reason: Text


class OfficerBody(Body):
    """An officer who came."""

    name: Annotated[str, Field(min_length=1, max_length=40)]
    id: Code | None = None


class CheckInBody(DepartmentBody):
    """报到."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"department": "ecology", "officers": [{"name": "王示例"}]}]}
    )

    officers: Annotated[list[OfficerBody], Field(min_length=1, max_length=50)]
    arrived_at: Time | None = None
    note: Note = ""


class PlanBody(DepartmentBody):
    """方案."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "当场拆除设备,养殖场限期自行拆除。"}]})

    text: Text


class ActionBody(DepartmentBody):
    """联合执法."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"kind": "demolition", "description": "拆除生产设备", "result": "当场拆除"}]
        }
    )

    kind: ActionKind
    description: Text
    result: Text
    attachments: Attachments = []
    follow_up_on: Day | None = None
    settles: Annotated[StrictInt | None, Field(ge=1, description="登记第几项后续跟踪的结果")] = None


class DoneBody(DepartmentBody):
    """办理完成."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"result": "已拆除,现场清理完毕。"}]})

    result: Text
    attachments: Attachments = []


class RateBody(DepartmentBody):
    """评价."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"department": "ecology", "grade": "satisfied", "solved": True, "response": 5}]
        }
    )

    grade: Grade
    solved: StrictBool
    response: Stars | None = None
    action: Stars | None = None
    result: Stars | None = None
    comment: Note = ""


class ObjectBody(DepartmentBody):
    """退单/异议."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"basis": "catalogue", "reason": "清单列明由综合行政执法局主责", "proposed": "enforcement"}
            ]
        }
    )

    basis: Basis
    reason: Text
    proposed: Annotated[Code, Field(description="建议承办单位")]


class AdjudicateBody(DepartmentBody):
    """裁定."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"department": "ecology", "uphold": True, "reason": "依清单改派"}]}
    )

    uphold: StrictBool
    owner: Annotated[Code | None, Field(description="接办单位;不填即为所建议的单位")] = None
    reason: Text


class TransferBody(DepartmentBody):
    """转办."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"department": "ecology", "to": "enforcement", "reason": "职责调整"}]}
    )

    to: Code
    reason: Text


class LimitBody(Body):
    """A length of time: exactly one of these."""

    working_minutes: Annotated[StrictInt | None, Field(gt=0)] = None
    working_hours: Annotated[StrictInt | None, Field(gt=0)] = None
    working_days: Annotated[StrictInt | None, Field(gt=0)] = None
    minutes: Annotated[StrictInt | None, Field(gt=0)] = None
    hours: Annotated[StrictInt | None, Field(gt=0)] = None
    days: Annotated[StrictInt | None, Field(gt=0)] = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise PydanticCustomError("one_unit", "exactly one unit")
        return self


class ExtendBody(DepartmentBody):
    """延期申请."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"reason": "需专业机构鉴定", "add": {"working_days": 2}}]}
    )

    reason: Text
    add: Annotated[LimitBody | None, Field(description="不超过原办理时限;不填即为原时限")] = None


class DecideExtensionBody(DepartmentBody):
    """审批延期."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"department": "ecology", "approve": True}]})

    approve: StrictBool
    reason: Note = ""


class SuspendBody(DepartmentBody):
    """挂账申请."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"reason": "等待司法鉴定", "until": "2027-03-04T09:00:00+08:00"}]}
    )

    reason: Text
    until: Time


class DecideSuspensionBody(Body):
    """审批挂账."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"approve": True}]})

    approve: StrictBool
    reason: Note = ""


class LinkBody(Body):
    """关联, or 并案 into another case."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"other": "yicheng-20261124-abc123", "kind": "related"}]}
    )

    other: Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,100}$")]
    kind: LinkKind
    note: Note = ""


class WatchBody(Body):
    """领导关注."""

    watching: StrictBool = True


class InstructBody(Body):
    """批示, or a supervision order to one department."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "请当日办结并报告。"}]})

    text: Text
    department: Code | None = None
    answer_required: Annotated[StrictBool, Field(description="签发督办单,部门负责人须答复")] = False


class AnswerOrderBody(DepartmentBody):
    """答复督办单."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "已派人到场,今日拆除。"}]})

    text: Text
    number: Annotated[StrictInt | None, Field(ge=1)] = None


class ReopenBody(Body):
    """重新打开."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "违建复建", "departments": []}]})

    reason: Text
    departments: Annotated[list[Code], Field(max_length=50, description="不填即为全部承办部门")] = []


class AppealBody(DepartmentBody):
    """申诉."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"about": "rating", "reason": "评价与事实不符,附现场记录。"}]}
    )

    about: AppealAbout
    reason: Text


class DecideAppealBody(DepartmentBody):
    """复核申诉."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"department": "ecology", "uphold": True, "grade": "satisfied", "reason": "查证属实"}
            ]
        }
    )

    uphold: StrictBool
    reason: Text
    grade: Annotated[Grade | None, Field(description="更正后的评价等次")] = None
    solved: StrictBool | None = None


class AdoptionBody(Body):
    """Newer calendar or policy for the running cases of a district."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"scope": "calendar", "reason": "国务院办公厅公布2027年放假安排"}]}
    )

    district: Code | None = None
    scope: AdoptionScope
    reason: Text


class ReadBody(Body):
    """Notices that have been read."""

    ids: Annotated[list[Annotated[RowId, Strict()]], Field(min_length=1, max_length=200)]


BODIES: dict[Act, type[Body]] = {
    Act.RELEASE: ReleaseBody,
    Act.REFUSE: RefuseBody,
    Act.DISPATCH: DispatchBody,
    Act.OBJECT: ObjectBody,
    Act.ADJUDICATE: AdjudicateBody,
    Act.TRANSFER: TransferBody,
    Act.SIGN: DepartmentBody,
    Act.CHECK_IN: CheckInBody,
    Act.CONFIRM_CHECK_IN: DepartmentBody,
    Act.DISPUTE_CHECK_IN: DepartmentReasonBody,
    Act.PLAN: PlanBody,
    Act.ACTION: ActionBody,
    Act.DONE: DoneBody,
    Act.RATE: RateBody,
    Act.REWORK: DepartmentReasonBody,
    Act.EXTEND: ExtendBody,
    Act.DECIDE_EXTENSION: DecideExtensionBody,
    Act.SUSPEND: SuspendBody,
    Act.DECIDE_SUSPENSION: DecideSuspensionBody,
    Act.RESUME: ReasonBody,
    Act.LINK: LinkBody,
    Act.WATCH: WatchBody,
    Act.INSTRUCT: InstructBody,
    Act.ANSWER_ORDER: AnswerOrderBody,
    Act.CANCEL: ReasonBody,
    Act.REOPEN: ReopenBody,
    Act.APPEAL: AppealBody,
    Act.DECIDE_APPEAL: DecideAppealBody,
}
"""Every act on one case; newer terms reach many cases at once, by an address of their own."""


def fields_of(body: Body) -> dict[str, Any]:
    """Return what was sent, for a command; what was left out is left out."""
    return body.model_dump(exclude_none=True)
