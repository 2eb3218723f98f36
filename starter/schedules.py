"""What happens by itself every day: a schedule in Temporal for each district."""

from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError

from starter.case_client import TemporalUnavailable
from workflows import names

_WITHIN = timedelta(seconds=10)
_CATCH_UP = timedelta(days=7)


async def keep_anchor_schedule(client: Client, district: str, *, task_queue: str = names.TASK_QUEUE) -> None:
    """See that the district is anchored every night at ten past midnight; safe to ask for again and again.

    Raises:
        TemporalUnavailable: try again later.
    """
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(
            names.ANCHOR,
            district,
            id=names.anchor_id(district),
            task_queue=task_queue,
            typed_search_attributes=TypedSearchAttributes([SearchAttributePair(names.DISTRICT, district)]),
            static_summary="每日锚定",
        ),
        spec=ScheduleSpec(
            calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(0)], minute=[ScheduleRange(10)])],
            time_zone_name="Asia/Shanghai",
        ),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=_CATCH_UP),
    )
    try:
        await client.create_schedule(names.anchor_id(district), schedule, rpc_timeout=_WITHIN)
    except ScheduleAlreadyRunningError:
        return
    except (RPCError, RuntimeError) as error:
        raise TemporalUnavailable(str(error)) from error
