"""2026 as the State Council's notice says it, written out by hand: 国办发明电〔2025〕7号.

元旦 1月1日(周四)至3日放假,1月4日(周日)上班。春节 2月15日(周日)至23日放假,2月14日(周六)、2月28日(周六)上班。
清明节 4月4日(周六)至6日放假。劳动节 5月1日(周五)至5日放假,5月9日(周六)上班。端午节 6月19日(周五)至21日放假。
中秋节 9月25日(周五)至27日放假。国庆节 10月1日(周四)至7日放假,9月20日(周日)、10月10日(周六)上班。
"""

from datetime import date, time, timedelta

from domain.calendar import CalendarData

OFFICE_HOURS = ((time(8, 30), time(12)), (time(13, 30), time(17, 30)))


def _days(month: int, first: int, last: int) -> tuple[date, ...]:
    return tuple(date(2026, month, first) + timedelta(days=number) for number in range(last - first + 1))


HOLIDAYS = (
    *_days(1, 1, 3),
    *_days(2, 15, 23),
    *_days(4, 4, 6),
    *_days(5, 1, 5),
    *_days(6, 19, 21),
    *_days(9, 25, 27),
    *_days(10, 1, 7),
)
MAKE_UP_DAYS = (
    date(2026, 1, 4),
    date(2026, 2, 14),
    date(2026, 2, 28),
    date(2026, 5, 9),
    date(2026, 9, 20),
    date(2026, 10, 10),
)
NEW_YEAR_2027 = date(2027, 1, 1)
"""A statutory holiday in every year; the rest of 2027 was not published when this was written."""

YEAR_2026 = CalendarData(
    version="2026",
    office_hours=OFFICE_HOURS,
    days_off=(*HOLIDAYS, NEW_YEAR_2027),
    make_up_days=MAKE_UP_DAYS,
    published_from=date(2026, 1, 1),
    published_until=date(2026, 12, 31),
)
