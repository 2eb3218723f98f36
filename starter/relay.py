"""What was acknowledged while Temporal was away reaches it later."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import structlog
from pydantic import TypeAdapter

from adapters.kept_acts import DONE, OTHER_KEY, UNBOUND
from adapters.store import Store, StoreUnavailable
from adapters.witnesses import LedgerWitnesses
from domain.commands import COMMANDS, Act, AnyCommand
from domain.errors import DomainError
from domain.lifecycle import AFTER_THE_END, decide, fold
from domain.ports import PendingAct
from starter.case_client import CaseClient, CaseNotRunning, TemporalUnavailable
from starter.executions import TemporalExecutions
from starter.identity import Directory
from starter.schedules import keep_anchor_schedule

_PAUSE = 1.0
_BATCH = 100
_RETRY = timedelta(seconds=10)
_LONGEST_RETRY = timedelta(seconds=30)
_log = structlog.get_logger()


class Relay:
    """Starts workflows of calls that were only committed, and repeats acts that were only committed.

    Everything is repeated safely: starts by workflow id, acts by update id. Any number of doors may run one.

    Args:
        anchor_every: how often every district is anchored.
        witnesses: what a ledger is held against before an ended case is taken up again.
    """

    def __init__(
        self,
        store: Store,
        cases: CaseClient,
        directory: Directory,
        *,
        anchor_every: timedelta = timedelta(hours=1),
        witnesses: LedgerWitnesses | None = None,
    ) -> None:
        self._witnesses = witnesses or LedgerWitnesses(store)
        self._anchor_every = anchor_every
        self._store = store
        self._cases = cases
        self._directory = directory
        self._served: set[str] = set()
        self._kicked = asyncio.Event()

    def kick(self) -> None:
        """Look at once: something new was committed."""
        self._kicked.set()

    async def run(self) -> None:
        """Work for ever; outages are waited out."""
        while True:
            self._kicked.clear()
            try:
                await self.start_cases()
                await self.repeat_acts()
                await self.serve_notices()
            except (StoreUnavailable, TemporalUnavailable) as error:
                _log.warning("relay_waits", reason=type(error).__name__)
            except Exception:
                _log.exception("relay_failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE):
                    await self._kicked.wait()

    async def start_cases(self) -> None:
        """Start what has not been started, oldest first."""
        for start in await self._store.unstarted(_now(), _BATCH):
            case_id = start.opened.case_id
            try:
                await self._cases.start(start)
            except TemporalUnavailable:
                raise  # an outage concerns every case; none is marked as failed for it
            except Exception as error:
                _log.exception("case_not_started", case_id=case_id)
                await self._store.start_failed(case_id, repr(error), _now() + _RETRY)
            else:
                await self._store.started(case_id, _now())
                _log.info("case_started", case_id=case_id)

    async def repeat_acts(self) -> None:
        """Repeat what waits, oldest first; an act that is refused now is told to the person who did it.

        An act that none of our processes has kept as it stands is never carried out.
        """
        for pending in await self._store.unsettled(_now(), _BATCH):
            if not pending.bound:
                await self._unbound(pending)
                continue
            waiting = await self._store.pending_of(pending.case_id)
            if waiting and waiting[0].id == pending.id:  # what people did on one case keeps its order
                await self._repeat(pending)

    async def _repeat(self, pending: PendingAct) -> None:
        try:
            await self._cases.act(pending.case_id, _command(pending))
        except CaseNotRunning:
            await self._over_or_not_started(pending)
        except DomainError as refused:
            await self._refused(pending, refused.detail)
        except TemporalUnavailable as error:
            await self._later(pending, error)
            raise  # perhaps it is this case only: the next round begins with another
        except Exception as error:
            _log.exception("act_not_repeated", case_id=pending.case_id, act=pending.act)
            await self._later(pending, error)
        else:
            await self._store.settled(pending.id, DONE, _now())
            _log.info("act_repeated", case_id=pending.case_id, act=pending.act)

    async def _unbound(self, pending: PendingAct) -> None:
        """Refuse what somebody wrote into the database; what another secret bound waits for that secret."""
        told = {"case_id": pending.case_id, "act": pending.act, "person": pending.person, "id": pending.id}
        if pending.other_key:
            _log.error(OTHER_KEY, **told)
            await self._store.act_failed(pending.id, OTHER_KEY, _now() + _LONGEST_RETRY)
            return
        _log.error(UNBOUND, **told)
        await self._store.settled(pending.id, UNBOUND, _now())
        district = await self._store.district_of(pending.case_id)
        if district is not None:
            await self._store.notify(
                pending.case_id,
                district=district,
                receiver=pending.person,
                reason=f"act-{pending.id}",
                title="以您名义的操作未予办理",
                text="一项以您名义暂存的操作没有有效的认证码,未予办理。本人所为的,请重新办理;并非本人所为的,请告知管理员和审计人员。",
                at=_now(),
            )

    async def _later(self, pending: PendingAct, error: Exception) -> None:
        pause = min(timedelta(seconds=2 ** min(pending.attempts, 10)), _LONGEST_RETRY)
        await self._store.act_failed(pending.id, type(error).__name__, _now() + pause)

    async def serve_notices(self) -> None:
        """See that every district has its workflow for notices, and is anchored."""
        for district in self._directory.districts():
            if district.code not in self._served:
                await self._cases.start_notices(district.code)
                await keep_anchor_schedule(
                    self._cases.client,
                    district.code,
                    every=self._anchor_every,
                )
                self._served.add(district.code)

    async def _over_or_not_started(self, pending: PendingAct) -> None:
        entries = await self._store.entries(pending.case_id)
        if any(
            entry.key == pending.update_id for entry in entries
        ):  # it had arrived, in a run that has ended
            await self._store.settled(pending.id, DONE, _now())
        elif not await self._store.is_started(pending.case_id):
            await self._store.act_failed(pending.id, "not started yet", _now() + timedelta(seconds=1))
        elif not fold(entries).is_over:  # its run is gone; reconciliation lets the case go on
            await self._later(pending, CaseNotRunning("the run of an open case is gone"))
        else:
            await self._take_up_or_refuse(pending)

    async def _take_up_or_refuse(self, pending: PendingAct) -> None:
        """A case that has ended goes on in a run of its own for an act that the rules let follow the end."""
        start = None
        if pending.act in AFTER_THE_END:
            try:
                known = await self._witnesses.of(pending.case_id)
                known += await TemporalExecutions(self._cases).acknowledged(pending.case_id)
                start = await self._store.reopening(pending.case_id, known)
            except Exception as error:  # the ledger is contradicted, or archive or Temporal cannot be asked
                _log.error("case_not_taken_up", case_id=pending.case_id, reason=str(error)[:200])
                await self._later(pending, error)
                return
        if start is None or start.carried is None:
            await self._refused(pending, "案件已经结束。")
            return
        try:
            decide(start.carried.state, _command(pending), _now(), start.terms)
        except DomainError as refused:
            await self._refused(pending, refused.detail)
            return
        await self._cases.start(start)
        await self._store.act_failed(pending.id, "taken up again", _now())

    async def _refused(self, pending: PendingAct, reason: str) -> None:
        command = _command(pending)
        await self._store.notify(
            pending.case_id,
            district=command.by.district,
            receiver=command.by.id,
            reason=f"act-{pending.id}",
            title="您的操作未被受理",
            text=f"服务恢复后补办您的操作时未获通过:{reason}",
            at=_now(),
        )
        await self._store.settled(pending.id, f"refused: {reason}", _now())


def _command(pending: PendingAct) -> AnyCommand:
    command: AnyCommand = TypeAdapter(COMMANDS[Act(pending.act)]).validate_python(pending.command)
    return command


def _now() -> datetime:
    return datetime.now(UTC)
