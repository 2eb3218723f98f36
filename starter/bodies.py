"""What the world sends: strict, unknown fields refused. Never the models of the history."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from domain.case import ActionKind, Category, Grade
from domain.commands import Act
from domain.policy import LimitClass, Urgency

Code = Annotated[str, Field(min_length=1, max_length=40)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]
Note = Annotated[str, Field(max_length=2000)]
Stars = Annotated[int, Field(ge=1, le=5)]


_YEARS = range(2000, 2101)


def _sensible(moment: datetime) -> datetime:
    if moment.year not in _YEARS:
        raise PydanticCustomError("time_out_of_range", "year out of range")
    return moment


Time = Annotated[AwareDatetime, AfterValidator(_sensible)]
"""An aware moment of this century: beyond it no calendar is known, and arithmetic may leave what dates can hold."""
RowId = Annotated[int, Field(ge=1, le=2**63 - 1)]


class Body(BaseModel):
    """Base of all that is sent: unknown fields are refused, and control characters other than tab and line end."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    @field_validator("*")
    @classmethod
    def _printable(cls, value: Any) -> Any:  # fields have every type
        for text in value if isinstance(value, list | tuple) else (value,):
            if isinstance(text, str) and any(ord(sign) < 32 and sign not in "\t\r\n" for sign in text):
                raise PydanticCustomError("control_character", "control character")
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
    size: Annotated[int, Field(ge=0, le=2**53)]


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
    requested_check_in_at: Time | None = None
    departments: Annotated[list[Code], Field(max_length=20)] = []
    contact: ContactBody = ContactBody()
    attachments: Attachments = []


class DispatchBody(Body):
    """派单; without `lead` the item's primary and cooperating departments are taken."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"lead": "ecology", "cooperating": ["enforcement", "police"]}]}
    )

    lead: Code | None = None
    cooperating: Annotated[list[Code], Field(max_length=20)] | None = None
    limit_class: LimitClass | None = None
    note: Note = ""


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
    follow_up_on: date | None = None


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
    solved: bool
    response: Stars | None = None
    action: Stars | None = None
    result: Stars | None = None
    comment: Note = ""


class ReadBody(Body):
    """Notices that have been read."""

    ids: Annotated[list[RowId], Field(min_length=1, max_length=200)]


BODIES: dict[Act, type[Body]] = {
    Act.DISPATCH: DispatchBody,
    Act.REFUSE: ReasonBody,
    Act.CANCEL: ReasonBody,
    Act.SIGN: DepartmentBody,
    Act.CHECK_IN: CheckInBody,
    Act.CONFIRM_CHECK_IN: DepartmentBody,
    Act.DISPUTE_CHECK_IN: DepartmentReasonBody,
    Act.PLAN: PlanBody,
    Act.ACTION: ActionBody,
    Act.DONE: DoneBody,
    Act.RATE: RateBody,
    Act.REWORK: DepartmentReasonBody,
}


def fields_of(body: Body) -> dict[str, Any]:
    """Return what was sent, for a command; what was left out is left out."""
    return body.model_dump(exclude_none=True)
