"""Everything that happens by itself at set times: one table, made known to Temporal at every worker's start."""

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError

from activities.archive import ArchiveBatch
from activities.reconcile import ReconcileRequest
from adapters.settings import Settings
from domain.case import Value
from starter.case_client import TemporalUnavailable
from workflows import names

ARCHIVE_EVERY = timedelta(hours=1)
RECONCILE_EVERY = timedelta(minutes=10)
_MISSED = timedelta(minutes=1)
"""What was missed while Temporal was away is not made up for: the next time does it all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurring:
    """A workflow that is started again and again; while one runs, the next is left out.

    Attributes:
        spec: when; calendars need `time_zone_name="Asia/Shanghai"`.
        label: what operators read, in Chinese.
        needs_archive: only where an archive is set.
    """

    workflow: str
    argument: Value
    spec: ScheduleSpec
    label: str
    needs_archive: bool = False


SCHEDULES: Mapping[str, Recurring] = {
    "archive": Recurring(
        workflow=names.ARCHIVE,
        argument=ArchiveBatch(),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=ARCHIVE_EVERY, offset=timedelta(minutes=7))]),
        label="归档已结束的案件",
        needs_archive=True,
    ),
    "reconcile": Recurring(
        workflow=names.RECONCILE,
        argument=ReconcileRequest(),
        spec=ScheduleSpec(
            intervals=[ScheduleIntervalSpec(every=RECONCILE_EVERY, offset=timedelta(minutes=3))]
        ),
        label="核对在办案件与办理流程",
    ),
}


async def ensure_schedules(
    client: Client,
    settings: Settings,
    *,
    schedules: Mapping[str, Recurring] = SCHEDULES,
    task_queue: str = names.TASK_QUEUE,
) -> None:
    """See that Temporal has these schedules as they stand here; one that an operator paused stays paused."""
    for schedule_id, recurring in schedules.items():
        if recurring.needs_archive and settings.archive is None:
            continue
        wanted = _schedule(schedule_id, recurring, task_queue)
        try:
            await client.create_schedule(schedule_id, wanted)
        except ScheduleAlreadyRunningError:
            await client.get_schedule_handle(schedule_id).update(_Replace(wanted))


class _Replace:
    """Puts what is wanted in the place of what stands, but leaves it paused where it is."""

    def __init__(self, wanted: Schedule) -> None:
        self._wanted = wanted

    def __call__(self, stands: ScheduleUpdateInput) -> ScheduleUpdate:
        """Return the new schedule."""
        return ScheduleUpdate(dataclasses.replace(self._wanted, state=stands.description.schedule.state))


def _schedule(schedule_id: str, recurring: Recurring, task_queue: str) -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow(
            recurring.workflow,
            recurring.argument,
            id=schedule_id,
            task_queue=task_queue,
            static_summary=recurring.label,
        ),
        spec=recurring.spec,
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=_MISSED),
        state=ScheduleState(note=recurring.label),
    )


_WITHIN = timedelta(seconds=10)
_CATCH_UP = timedelta(days=7)
_DAY = timedelta(days=1)
_TEN_PAST = timedelta(minutes=10)


async def keep_anchor_schedule(
    client: Client,
    district: str,
    *,
    every: timedelta = timedelta(hours=1),
    task_queue: str = names.TASK_QUEUE,
) -> None:
    """See that the district is anchored at ten past midnight and this often from then on; safe to ask for again.

    A schedule that stands is made to be so; one that an operator paused stays paused.

    Args:
        every: a day, or a part of it.

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
            static_summary="锚定",
        ),
        spec=ScheduleSpec(
            calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(0)], minute=[ScheduleRange(10)])],
            intervals=[] if every >= _DAY else [ScheduleIntervalSpec(every=every, offset=_TEN_PAST % every)],
            time_zone_name="Asia/Shanghai",
        ),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=_CATCH_UP),
    )
    handle = client.get_schedule_handle(names.anchor_id(district))
    try:
        with contextlib.suppress(ScheduleAlreadyRunningError):
            await client.create_schedule(names.anchor_id(district), schedule, rpc_timeout=_WITHIN)
            return
        await handle.update(_Replace(schedule), rpc_timeout=_WITHIN)
    except (RPCError, RuntimeError) as error:
        raise TemporalUnavailable(str(error)) from error
