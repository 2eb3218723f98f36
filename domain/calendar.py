from bisect import bisect_left, bisect_right
from datetime import UTC, date, datetime, time, timedelta, timezone
from enum import StrEnum
from typing import Annotated, NamedTuple, Any
from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

SHANGHAI = timezone(timedelta(hours=8), "Asia/Shanghai")
def utc(m):
    if m.tzinfo is None: raise ValueError("naive")
    return m.astimezone(UTC)
Moment = Annotated[datetime, AfterValidator(utc)]
class Unit(StrEnum):
    WORKING_TIME="working_time"; WORKING_DAYS="working_days"; CONTINUOUS="continuous"
class Limit(BaseModel):
    model_config=ConfigDict(frozen=True, extra="ignore")
    unit: Unit
    time: timedelta = timedelta(0)
    days: int = 0
    @model_validator(mode="before")
    @classmethod
    def _r(cls, v: Any):
        if isinstance(v, dict) and "unit" not in v:
            (k, n), = v.items()
            return {"working_minutes": lambda: dict(unit="working_time", time=timedelta(minutes=n)),
             "working_hours": lambda: dict(unit="working_time", time=timedelta(hours=n)),
             "working_days": lambda: dict(unit="working_days", days=n),
             "minutes": lambda: dict(unit="continuous", time=timedelta(minutes=n)),
             "hours": lambda: dict(unit="continuous", time=timedelta(hours=n)),
             "days": lambda: dict(unit="continuous", time=timedelta(days=n))}[k]()
        return v
class Due(NamedTuple):
    at: datetime
    estimated: bool
class CalendarData(BaseModel):
    model_config=ConfigDict(frozen=True, extra="ignore")
    version: str
    office_hours: tuple[tuple[time,time],...]
    days_off: tuple[date,...]
    make_up_days: tuple[date,...]
    published_until: date
class WorkCalendar:
    def __init__(self, data):
        self.data=data; self.off=set(data.days_off); self.mk=set(data.make_up_days)
    def is_working_day(self, d): return d in self.mk or (d.weekday()<5 and d not in self.off)
    def next_working_day(self, d):
        d+=timedelta(1)
        while not self.is_working_day(d): d+=timedelta(1)
        return d
    def closing(self, d): return datetime.combine(d, self.data.office_hours[-1][1], SHANGHAI).astimezone(UTC)
    def is_estimated(self, m): return m.astimezone(SHANGHAI).date()>self.data.published_until
    def spans(self, at):
        d=at.astimezone(SHANGHAI).date()
        while True:
            if self.is_working_day(d):
                for a,b in self.data.office_hours:
                    yield datetime.combine(d,a,SHANGHAI), datetime.combine(d,b,SHANGHAI)
            d+=timedelta(1)
    def due(self, start, limit):
        if limit.unit is Unit.CONTINUOUS: r=start+limit.time
        elif limit.unit is Unit.WORKING_DAYS:
            d=start.astimezone(SHANGHAI).date()
            for _ in range(limit.days): d=self.next_working_day(d)
            r=self.closing(d)
        else:
            left=limit.time
            for a,b in self.spans(start):
                s=max(a,start)
                if s>=b: continue
                if b-s>=left: r=s+left; break
                left-=b-s
        return Due(r.astimezone(UTC), self.is_estimated(r))
