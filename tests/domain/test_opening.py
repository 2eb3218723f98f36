"""How a case opens: release, review, admission, refusal, cancelling, links, recurrence."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from domain.audit import GENESIS, canonical
from domain.calendar import Limit
from domain.case import Actor, CaseId, Direction, Location, Responsibility, Stage
from domain.commands import (
    AnyCommand,
    Cancel,
    DecideExtension,
    DisputeCheckIn,
    Extend,
    LinkCase,
    Rate,
    Refuse,
    Release,
    ReportDone,
    Sign,
    TakeAction,
    Transfer,
)
from domain.commands import CheckIn as CheckInCommand
from domain.district import AdoptionScope, Terms
from domain.errors import DomainError, Invalid, Refused
from domain.events import Entry, Escalated, TermsAdopted
from domain.lifecycle import allowed_acts
from domain.opening import require_check_in_soon
from domain.policy import ClockKind, Urgency
from domain.recurrence import is_same_place
from tests.domain.test_lifecycle import refusal
from tests.sample import (
    CITIZEN,
    COORDINATOR,
    DISPATCHER,
    ECOLOGY,
    FULL_POLICY,
    FULL_TERMS,
    GRID_WORKER,
    HEADS,
    HOUSING,
    LISTED,
    OFFICERS,
    OTHER_TOWN_OFFICER,
    POLICE,
    TOWN,
    TOWN_APPROVER,
    TOWN_OFFICER,
    Play,
    call_details,
    limit,
    shanghai,
    shown,
)

DUTY = LISTED.model_copy(update={"lead": ECOLOGY, "cooperating": ()})
"""An item with a duty of the township, and another department than housing as primary."""


def full(at: str = "2026-03-04 09:00", **changes: Any) -> Play:
    """A case under every rule of the mechanism."""
    return Play(at, terms=FULL_TERMS, **changes)


def down(responsibility: Responsibility | None = DUTY, *, by: Actor = OFFICERS[HOUSING]) -> Play:
    """The housing department asks something of the township."""
    return full(direction=Direction.DOWN, caller_office=HOUSING, caller=by, responsibility=responsibility)


def clock_kinds(play: Play) -> set[tuple[str, str | None]]:
    """The clocks that run."""
    return {(clock.kind.value, clock.department) for clock in play.state.running}


# --- release and review ------------------------------------------------------------------------------------


def test_a_routine_call_waits_for_the_townships_approver_and_then_for_the_dispatcher() -> None:
    play = full()
    assert play.state.stage is Stage.AWAITING_RELEASE
    assert clock_kinds(play) == {("release", None)}
    assert play.release().state.stage is Stage.CALLED
    assert clock_kinds(play) == {("dispatch", None)}
    assert play.kinds() == ["called", "released"]


@pytest.mark.parametrize("who", [TOWN_OFFICER, DISPATCHER, COORDINATOR])
def test_only_the_approver_of_the_calling_township_releases(who: Actor) -> None:
    assert refusal(full(), Release(by=who)) == "role_may_not"


def test_what_waits_for_release_is_not_dispatched_and_may_be_cancelled_or_handled_by_the_township() -> None:
    with pytest.raises(Refused, match="wrong_stage"):
        full().dispatch()
    assert full().do(Cancel(by=TOWN_OFFICER, reason="已解决")).state.stage is Stage.CANCELLED
    play = full().do(Refuse(by=TOWN_APPROVER, reason="本镇自办", self_handled=True))
    assert play.state.stage is Stage.REFUSED
    assert refusal(full(), Refuse(by=DISPATCHER, reason="x")) == "role_may_not"
    assert refusal(full().release(), Refuse(by=TOWN_APPROVER, reason="x")) == "role_may_not"


def test_a_call_is_released_once() -> None:
    assert refusal(full().release(), Release(by=TOWN_APPROVER)) == "nothing_to_release"


def test_the_approvers_own_call_needs_no_release() -> None:
    play = full(caller=TOWN_APPROVER)
    assert play.state.stage is Stage.CALLED
    assert clock_kinds(play) == {("dispatch", None)}


def test_an_urgent_call_goes_at_once_and_is_reviewed_after() -> None:
    play = full(urgency=Urgency.URGENT)
    assert play.state.stage is Stage.CALLED
    assert clock_kinds(play) == {("dispatch", None), ("review", None)}
    play.dispatch()
    assert refusal(play, Release(by=TOWN_APPROVER, justified=False)) == "reason_missing"
    reviewed = play.do(Release(by=TOWN_APPROVER, justified=False, note="并非紧急")).state
    assert reviewed.urgency_justified is False
    assert reviewed.stage is Stage.DISPATCHED
    assert ("review", None) not in clock_kinds(play)
    assert refusal(play, Release(by=TOWN_APPROVER)) == "nothing_to_release"


def test_an_urgent_call_of_the_approver_is_not_reviewed() -> None:
    assert clock_kinds(full(urgency=Urgency.URGENT, caller=TOWN_APPROVER)) == {("dispatch", None)}


def test_a_review_that_nobody_makes_climbs_the_townships_ladder() -> None:
    play = full(urgency=Urgency.URGENT).dispatch(ECOLOGY).at("2026-03-05 17:31")
    climbed = [e for e in play.events if isinstance(e, Escalated) and e.clock is ClockKind.REVIEW]
    assert [each.level for each in climbed] == [1]


def test_a_release_that_is_late_climbs_the_townships_ladder_at_red_and_not_before() -> None:
    play = full().at("2026-03-04 10:00")
    assert "escalated" not in play.kinds()
    play.later(seconds=1)
    assert [e.clock for e in play.events if isinstance(e, Escalated)] == [ClockKind.RELEASE]
    assert play.release().state.stage is Stage.CALLED


@pytest.mark.parametrize("reporter", [CITIZEN, GRID_WORKER])
@pytest.mark.parametrize("urgency", list(Urgency))
def test_what_citizens_and_grid_workers_report_waits_for_the_township(
    reporter: Actor, urgency: Urgency
) -> None:
    play = full(caller=reporter, urgency=urgency)
    assert play.state.stage is Stage.AWAITING_RELEASE
    assert refusal(play, Release(by=reporter)) == "role_may_not"
    assert refusal(play, Refuse(by=reporter, reason="x")) == "role_may_not"
    assert refusal(play, Release(by=TOWN_OFFICER)) == "role_may_not"
    assert play.release().state.stage is Stage.CALLED


def test_a_citizen_alone_rates_the_own_report_and_may_withdraw_it() -> None:
    play = full(caller=CITIZEN).release().until_rating()
    rating: dict[str, Any] = {"department": ECOLOGY, "grade": "satisfied", "solved": True}
    assert refusal(play, Rate.model_validate({"by": TOWN_OFFICER, **rating})) == "role_may_not"
    play.do(Rate.model_validate({"by": CITIZEN, **rating}))
    assert play.assignment(ECOLOGY).rating is not None
    assert full(caller=CITIZEN).do(Cancel(by=CITIZEN, reason="已解决")).state.stage is Stage.CANCELLED
    stranger = CITIZEN.model_copy(update={"id": "another-citizen"})
    assert refusal(full(caller=CITIZEN), Cancel(by=stranger, reason="x")) == "case_not_visible"


def test_what_a_grid_worker_reported_is_rated_by_the_township() -> None:
    play = full(caller=GRID_WORKER).release().until_rating()
    command = Rate.model_validate(
        {"by": GRID_WORKER, "department": ECOLOGY, "grade": "satisfied", "solved": True}
    )
    assert refusal(play, command) == "role_may_not"
    assert refusal(play, Cancel(by=GRID_WORKER, reason="x")) == "role_may_not"
    assert play.rate().state.stage is Stage.CLOSED


def test_a_district_without_release_goes_on_as_before() -> None:
    play = Play()
    assert play.state.stage is Stage.CALLED
    assert refusal(play, Release(by=TOWN_APPROVER)) == "nothing_to_release"


# --- downward calls ----------------------------------------------------------------------------------------


def test_a_listed_downward_call_goes_to_the_dispatcher_and_the_township_is_called() -> None:
    play = down()
    assert play.state.stage is Stage.CALLED
    play.dispatch_as_listed()
    assert play.state.departments() == (TOWN,)
    assert clock_kinds(play) == {("sign", TOWN), ("handling", TOWN), ("case", None)}


@pytest.mark.parametrize(
    "responsibility",
    [None, DUTY.model_copy(update={"township_duty": ""}), DUTY.model_copy(update={"lead": HOUSING})],
    ids=["no item", "no duty of the township", "the asking department is itself primary"],
)
def test_unlisted_work_is_not_pushed_down_without_the_groups_admission(
    responsibility: Responsibility | None,
) -> None:
    play = down(responsibility)
    assert play.state.stage is Stage.AWAITING_ADMISSION
    assert clock_kinds(play) == {("admission", None)}
    for who in (DISPATCHER, TOWN_APPROVER, HEADS[HOUSING]):
        assert refusal(play, Release(by=who)) == "role_may_not"
    refused = down(responsibility).do(Refuse(by=COORDINATOR, reason="属部门主体责任"))
    assert refused.state.stage is Stage.REFUSED
    assert refused.state.closure is not None
    assert refused.state.closure.reason == "属部门主体责任"
    assert play.do(Release(by=COORDINATOR, note="同意协助")).state.stage is Stage.CALLED
    assert play.kinds() == ["called", "admitted"]


def test_an_admission_that_is_late_climbs_the_groups_ladder() -> None:
    play = down(None).at("2026-03-05 17:30")
    assert "escalated" not in play.kinds()
    assert play.later(seconds=1).kinds()[-1] == "escalated"


def test_a_downward_call_is_played_to_closure_by_the_township_and_rated_by_the_department() -> None:
    play = down()
    play.dispatch_as_listed()
    assert refusal(play, Sign(by=OFFICERS[HOUSING], department=TOWN)) == "not_your_department"
    play.do(Sign(by=TOWN_OFFICER, department=TOWN))
    came = CheckInCommand.model_validate(
        {"by": TOWN_OFFICER, "department": TOWN, "officers": [{"name": "王示例"}]}
    )
    assert refusal(play, came) == "no_check_in"
    assert refusal(play, Transfer(by=DISPATCHER, department=TOWN, to=ECOLOGY, reason="x")) == (
        "not_for_downward_calls"
    )
    action = TakeAction.model_validate(
        {"by": TOWN_OFFICER, "department": TOWN, "kind": "other", "description": "入户核查", "result": "属实"}
    )
    play.do(action)
    missing = ReportDone(by=TOWN_OFFICER, department=TOWN, result="完成")
    assert refusal(play, missing) == "evidence_missing"
    play.do(missing.model_copy(update={"attachments": shown()}))
    rating = Rate.model_validate(
        {"by": OFFICERS[HOUSING], "department": TOWN, "grade": "satisfied", "solved": True}
    )
    assert refusal(play, rating.model_copy(update={"by": TOWN_OFFICER})) == "role_may_not"
    assert play.do(rating).state.stage is Stage.CLOSED


def test_of_a_downward_call_the_calling_department_says_whether_the_township_gets_more_time() -> None:
    play = down()
    play.dispatch_as_listed().do(Sign(by=TOWN_OFFICER, department=TOWN))
    play.do(Extend(by=TOWN_OFFICER, department=TOWN, reason="汛期"))
    own = DecideExtension(by=TOWN_APPROVER, department=TOWN, approve=True)
    assert refusal(play, own) == "role_may_not"
    play.do(DecideExtension(by=HEADS[HOUSING], department=TOWN, approve=True))
    play.do(DecideExtension(by=COORDINATOR, department=TOWN, approve=True))
    assert play.state.extensions[0].granted


def test_a_downward_call_names_the_office_that_asks_and_needs_admission_in_the_policy() -> None:
    with pytest.raises(Invalid, match="caller_office_missing"):
        full(direction=Direction.DOWN, caller=OFFICERS[HOUSING])
    with pytest.raises(Invalid, match="unknown_department"):
        full(direction=Direction.DOWN, caller_office=TOWN, caller=OFFICERS[HOUSING])
    with pytest.raises(Refused, match="not_in_policy"):
        Play(direction=Direction.DOWN, caller_office=HOUSING, caller=OFFICERS[HOUSING])


# --- cancelling and links ----------------------------------------------------------------------------------


def link(other: str = "sample-20260301-bbbbbb", kind: str = "related", *, by: Actor = DISPATCHER) -> LinkCase:
    """Return the dispatcher's act."""
    return LinkCase.model_validate({"by": by, "other": other, "kind": kind})


def test_cases_are_linked_once_and_go_on() -> None:
    play = full().release().do(link())
    assert [each.other for each in play.state.links] == [CaseId("sample-20260301-bbbbbb")]
    assert play.state.stage is Stage.CALLED
    assert refusal(play, link()) == "already_linked"
    assert refusal(play, link(play.state.case_id)) == "link_to_itself"
    assert refusal(play, link("sample-20260301-cccccc", by=TOWN_OFFICER)) == "role_may_not"


def test_a_duplicate_ends_here_unless_work_has_begun() -> None:
    play = full().release().dispatch().do(link(kind="duplicate"))
    assert play.state.stage is Stage.MERGED
    assert not list(play.state.running)
    assert refusal(play, link("sample-20260301-cccccc")) == "case_over"
    begun = full().release().dispatch().sign().check_in(ECOLOGY).act(ECOLOGY)
    assert refusal(begun, link(kind="duplicate")) == "work_has_begun"


# --- recurrence --------------------------------------------------------------------------------------------


def climbed(play: Play) -> list[tuple[int, str]]:
    """The rungs that the sign-for clock of the lead climbed, with the moment at which each fell due."""
    return [
        (event.level, event.rung_due_at.isoformat()[:16])
        for event in play.events
        if isinstance(event, Escalated) and (event.clock, event.department) == (ClockKind.SIGN, ECOLOGY)
    ]


def test_the_same_item_and_place_again_climbs_one_rung_higher() -> None:
    def unsigned(raised: int) -> Play:
        play = full(caller=TOWN_APPROVER, raised=raised, recurs=("sample-20260201-zzzzzz",) if raised else ())
        return play.dispatch(ECOLOGY).at("2026-03-09 09:00")

    red, two_hours, next_day = "2026-03-04T01:30", "2026-03-04T03:30", "2026-03-05T09:30"
    assert climbed(unsigned(0)) == [(1, red), (2, two_hours), (3, next_day)]
    assert climbed(unsigned(1)) == [(1, red), (2, red), (3, two_hours)]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"address": "君山路 12号"}, {"address": "君山路12号"}, True),
        ({"address": "君山路12号"}, {"address": "君山路13号"}, False),
        (
            {"address": "甲", "longitude": "117.5851", "latitude": "34.7721"},
            {"address": "乙", "longitude": "117.5854", "latitude": "34.7721"},
            True,
        ),
        (
            {"address": "甲", "longitude": "117.5851", "latitude": "34.7721"},
            {"address": "乙", "longitude": "117.5861", "latitude": "34.7721"},
            False,
        ),
        ({"address": "甲", "longitude": "117.5851", "latitude": "34.7721"}, {"address": "乙"}, False),
    ],
)
def test_two_places_are_one_by_address_or_by_fifty_metres(
    one: dict[str, str], other: dict[str, str], *, same: bool
) -> None:
    places = Location.model_validate(one), Location.model_validate(other)
    assert is_same_place(*places, 50) is same


# --- what is offered ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("play", "person", "offered"),
    [
        (full(), TOWN_APPROVER, {"release", "refuse", "cancel"}),
        (full(), TOWN_OFFICER, {"cancel"}),
        (full(), DISPATCHER, {"link"}),
        (full(caller=CITIZEN), CITIZEN, {"cancel"}),
        (down(None), COORDINATOR, {"release", "refuse", "watch"}),
        (down(None), TOWN_OFFICER, set()),
        (full(urgency=Urgency.URGENT).dispatch(), TOWN_APPROVER, {"release", "cancel", "action"}),
    ],
)
def test_everybody_is_offered_what_belongs_to_the_own_part(
    play: Play, person: Actor, offered: set[str]
) -> None:
    acts = {act.value for act, _ in allowed_acts(play.state, person, play.now, play.terms)}
    assert acts == offered


@pytest.mark.parametrize(
    "command",
    [
        Release(by=OTHER_TOWN_OFFICER),
        DisputeCheckIn(by=OTHER_TOWN_OFFICER, department=ECOLOGY, reason="x"),
        Extend(by=OFFICERS[POLICE], department=POLICE, reason="x"),
    ],
)
def test_strangers_do_not_see_it(command: AnyCommand) -> None:
    assert refusal(full(), command) == "case_not_visible"


def test_a_wish_to_be_met_in_the_past_is_refused_before_anything_happens() -> None:
    with pytest.raises(DomainError, match="time_in_past"):
        full(requested_check_in_at=shanghai("2026-03-04 09:00"))


def test_a_check_in_may_be_asked_for_up_to_thirty_days_ahead_and_no_later() -> None:
    called_at = shanghai("2026-03-04 09:00")
    for asked in (None, shanghai("2026-03-04 10:00"), shanghai("2026-04-03 09:00")):
        require_check_in_soon(call_details(requested_check_in_at=asked), called_at, FULL_TERMS)
    late = call_details(requested_check_in_at=shanghai("2026-04-03 09:01"))
    with pytest.raises(Invalid, match="check_in_too_late") as refused:
        require_check_in_soon(late, called_at, FULL_TERMS)
    assert "30天(4月3日 09:00 之前)" in refused.value.detail


def test_how_far_ahead_a_check_in_may_be_asked_for_is_policy() -> None:
    called_at, terms = shanghai("2026-03-04 09:00"), asked_within(limit(working_days=2))
    require_check_in_soon(call_details(requested_check_in_at=shanghai("2026-03-06 17:30")), called_at, terms)
    late = call_details(requested_check_in_at=shanghai("2026-03-06 17:31"))
    with pytest.raises(Invalid, match="check_in_too_late") as refused:
        require_check_in_soon(late, called_at, terms)
    assert "2个工作日(3月6日 17:30 之前)" in refused.value.detail


def test_terms_that_say_what_holds_without_them_are_hashed_as_those_that_say_nothing() -> None:
    def hashed(terms: Terms) -> str:
        event = TermsAdopted(scope=AdoptionScope.ALL, terms=terms, reason="x")
        at = shanghai("2026-03-04 09:00")
        return canonical(
            Entry(case_id=CaseId("c"), sequence=1, at=at, by=None, event=event, previous=GENESIS)
        )

    assert "asked_within" in hashed(asked_within(limit(days=29)))
    assert hashed(asked_within(limit(days=30))) == hashed(FULL_TERMS)


def asked_within(longest: Limit) -> Terms:
    """Terms whose township may ask to be met so much later, and no more."""
    limits = FULL_POLICY.limits
    changed = limits.model_copy(
        update={"check_in": limits.check_in.model_copy(update={"asked_within": longest})}
    )
    policy = FULL_POLICY.model_copy(update={"limits": changed})
    return FULL_TERMS.model_copy(update={"policy": policy})


def test_the_coming_limit_is_never_one_that_is_passed() -> None:
    play = full().release().dispatch(ECOLOGY)
    limits = sorted(clock.due_at for clock in play.state.running)
    assert play.state.coming_deadline(play.now) == play.state.next_deadline == limits[0]
    assert play.state.coming_deadline(limits[0]) == limits[0]
    assert play.state.coming_deadline(limits[0] + timedelta(seconds=1)) == limits[1]
    assert play.state.coming_deadline(limits[-1] + timedelta(seconds=1)) is None
    assert play.state.next_deadline == limits[0]


@pytest.mark.parametrize("never", [{"hours": 0}, {"working_days": 0}])
def test_a_policy_by_which_no_check_in_could_be_asked_for_is_none(never: dict[str, int]) -> None:
    check_in = FULL_TERMS.policy.limits.check_in
    with pytest.raises(ValidationError, match="asked_within"):
        type(check_in).model_validate(check_in.model_dump() | {"asked_within": never})
