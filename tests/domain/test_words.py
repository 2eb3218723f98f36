"""What people read, and who is told of what."""

from datetime import date, timedelta

import pytest

from domain import clocks, words
from domain.access import may_call, may_see, sees_contact, sight
from domain.case import ActionKind, CaseState, Grade, Role
from domain.commands import Cancel, DisputeCheckIn, Plan, Rate, Refuse, Rework, Sign, TakeAction
from domain.district import Person, Station
from domain.events import Entry
from domain.lifecycle import evolve
from domain.notices import notice_of
from domain.policy import Urgency
from tests.sample import (
    COORDINATOR,
    DISPATCHER,
    ECOLOGY,
    FULL_TERMS,
    OFFICERS,
    OTHER_TOWN,
    POLICE,
    TERMS,
    TOWN,
    TOWN_OFFICER,
    Play,
    actor,
    district,
    shanghai,
)


def eventful() -> Play:
    """A case in which nearly everything happens."""
    play = Play(
        urgency=Urgency.URGENT, requested_check_in_at=shanghai("2026-03-04 11:00"), item_name="小造纸厂排污"
    )
    play.dispatch(ECOLOGY, POLICE).sign(ECOLOGY).later(minutes=20)
    play.do(Sign(by=OFFICERS[POLICE], department=POLICE)).check_in(confirm=False)
    play.do(DisputeCheckIn(by=TOWN_OFFICER, department=POLICE, reason="无人到场")).check_in(POLICE).later(
        hours=5
    )
    play.do(Plan(by=OFFICERS[ECOLOGY], department=ECOLOGY, text="当场拆除"))
    play.do(
        TakeAction(
            by=OFFICERS[ECOLOGY],
            department=ECOLOGY,
            kind=ActionKind.DEMOLITION_NOTICE,
            description="下达拆除通知",
            result="已送达",
            follow_up_on=date(2026, 3, 20),
        )
    )
    play.act(POLICE).done().do(Rework(by=TOWN_OFFICER, department=POLICE, reason="现场未清理"))
    play.act(POLICE).done(POLICE).rate(ECOLOGY)
    play.do(
        Rate(by=TOWN_OFFICER, department=POLICE, grade=Grade.DISSATISFIED, solved=False, comment="又开工了")
    )
    return play.act(POLICE).done(POLICE).later(days=20)


def told(play: Play) -> list[str]:
    """Return the timeline."""
    return [words.sentence(entry, TERMS) for entry in play.entries]


def test_everything_that_happens_is_told_in_chinese_with_offices_by_name() -> None:
    lines = "\n".join(told(eventful()))
    for expected in (
        "示例镇吹哨:小造纸厂排污(紧急,要求3月4日 11:00报到)",
        "派单。牵头单位:生态环境分局;配合单位:公安分局",
        "公安分局超过签收时限(3月4日 09:15),视同签收",
        "公安分局签收(超时补签)",
        "公安分局报到有异议,不计入报到:无人到场",
        "生态环境分局报到:镇街逾期未提异议,视为确认",
        "公安分局报到:镇街确认",
        "生态环境分局登记处置方案:当场拆除",
        "限期拆除通知:下达拆除通知;结果:已送达;整改期限2026-03-20",
        "公安分局退回重办(第2次办理):现场未清理",
        "评价公安分局:不满意,未解决:又开工了",
        "公安分局退回重办(第3次办理):又开工了",
        "公安分局签收超时(3月4日 09:15到期),第1级催办,通知部门值班人员、部门负责人",
        "公安分局逾期未评价",
    ):
        assert expected in lines, expected
    assert "ecology" not in lines
    assert told(Play().do(Refuse(by=DISPATCHER, reason="自办事项")))[-1] == "退回呼叫:自办事项"
    assert told(Play().do(Cancel(by=TOWN_OFFICER, reason="已解决")))[-1] == "撤销呼叫:已解决"
    assert "指挥中心派单超时" in told(Play().later(hours=1))[-1]
    late = Play().dispatch(ECOLOGY).sign().check_in().later(days=9)
    assert any(line.startswith("全案超时") for line in told(late))


def test_the_operators_page_shows_clocks_colours_and_the_latest() -> None:
    play = Play().dispatch(ECOLOGY, POLICE).sign(ECOLOGY).later(minutes=25)
    page = words.details(play.state, play.entries[-8:], play.now, TERMS)
    assert "黄(临期)" in page
    assert "绿(正常)" in page
    due = words.local(play.state.next_deadline or play.now)
    assert f"\n**下一时限**:公安分局签收,{due}到期 黄(临期)\n" in page
    play.later(hours=1)
    page = words.details(play.state, play.entries[-8:], play.now, TERMS)
    assert "红(超时)" in page
    assert "系统时钟" in page
    assert words.label(play.state, TERMS, play.now) == "示例镇·执法类事项·待报到·超时"
    over = eventful()
    assert "- **公安分局**(配合)已完成(待评价)\n" in words.details(
        over.state, over.entries[-8:], over.now, TERMS
    )
    estimated = Play("2026-12-30 10:00").dispatch(ECOLOGY)
    assert "暂估" in words.details(estimated.state, [], estimated.now, TERMS)


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (timedelta(seconds=20), "不足1分钟"),
        (timedelta(minutes=45), "45分钟"),
        (timedelta(hours=26), "1天2小时"),
        (timedelta(hours=2, minutes=5, seconds=9), "2小时5分钟"),
    ],
)
def test_lengths_of_time_are_said_in_two_units(length: timedelta, said: str) -> None:
    assert words.span(length) == said


def test_each_event_tells_those_whom_it_concerns() -> None:
    play = eventful()
    states: list[tuple[Entry, CaseState]] = []
    state = None
    for entry in play.entries:
        state = evolve(state, entry)
        states.append((entry, state))
    notices = {entry.event.kind: notice_of(entry, at, TERMS) for entry, at in states}
    assert {kind for kind, notice in notices.items() if notice is not None} == {
        "called",
        "dispatched",
        "checked_in",
        "check_in_disputed",
        "done_reported",
        "rework_ordered",
        "escalated",
        "closed",
    }
    levels = [notice_of(entry, at, TERMS) for entry, at in states if entry.event.kind == "escalated"]
    offices = {address.organisation for notice in levels if notice for address in notice.to}
    assert offices >= {POLICE}
    lasting = Play().dispatch(ECOLOGY).later(days=30)
    top = [notice_of(entry, lasting.state, TERMS) for entry in lasting.entries[2:]]
    assert {address.organisation for notice in top if notice for address in notice.to} == {
        ECOLOGY,
        "coordination",
        "town",
    }


def test_who_sees_and_who_calls() -> None:
    state = Play().dispatch(ECOLOGY).state
    city = actor(Role.LEADER, "city", district="elsewhere")
    assert sight(city).everything
    assert may_see(city, state)
    assert may_see(actor(Role.AUDITOR, "platform"), state)
    assert not may_see(actor(Role.CITIZEN, "town"), state)
    assert sees_contact(DISPATCHER, state)
    assert not sees_contact(COORDINATOR, state)
    assert may_call(TOWN_OFFICER, "sample", "town")
    assert not may_call(TOWN_OFFICER, "sample", "other-town")
    assert not may_call(TOWN_OFFICER, "elsewhere", "town")
    assert may_call(actor(Role.INTEGRATION, "platform"), "sample", "town")


def test_a_person_becomes_an_actor_without_the_telephone_number() -> None:
    person: Person = district().people[0]
    assert person.holds(Role.TOWNSHIP_OFFICER, "town")
    assert not person.holds(Role.TOWNSHIP_OFFICER, "other-town")
    assert person.phone not in person.actor().model_dump_json()
    stations = (Station(department=POLICE, township=OTHER_TOWN), Station(department=POLICE, township=TOWN))
    assert district().terms() == TERMS.model_copy(update={"stations": stations})
    assert TERMS.name("nobody") == "nobody"


def alarm_of(play: Play) -> str:
    """Return what the next timer of this case says."""
    due = play.next_due()
    assert due is not None
    return words.alarm(due, clocks.acting_at(play.state, play.terms, due), play.terms)


def test_a_timer_says_whose_limit_it_waits_for_which_and_until_when() -> None:
    play = Play()
    assert alarm_of(play) == "设定时的下一时限:指挥中心派单 截止 3月4日 09:30"
    play.dispatch(ECOLOGY)
    assert alarm_of(play) == "设定时的下一时限:生态环境分局签收 截止 3月4日 09:30"
    play.later(minutes=30, seconds=1)
    assert alarm_of(play) == "设定时的下一升级:生态环境分局签收 已于 3月4日 09:30 超时(3月4日 11:30 升级)"
    assert alarm_of(Play().dispatch(ECOLOGY, POLICE)).startswith(
        "设定时的下一时限:生态环境分局签收等2项 截止"
    )


def test_a_timer_that_waits_for_a_warning_names_the_limit_as_well() -> None:
    play = Play(terms=FULL_TERMS).release().dispatch(ECOLOGY).sign().check_in()
    assert alarm_of(play) == "设定时的下一时限:生态环境分局办理等2项 截止 3月9日 17:30(3月9日 08:37 临期预警)"


def test_every_timer_and_ledger_write_has_a_line_that_fits_into_what_temporal_keeps() -> None:
    play = eventful()
    for number in range(1, len(play.entries)):
        told = words.recorded(play.entries[number:], TERMS)
        assert told.startswith(f"台账{number + 1}")
        assert len(told.encode()) <= 200
    long = words.recorded([Play(title="长" * 200).entries[0]], TERMS)
    assert len(long.encode()) <= 200
    assert words.alarm(shanghai("2026-03-04 09:30"), [], TERMS) == "设定时的下一时限:3月4日 09:30"
