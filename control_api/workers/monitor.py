"""The monitor: one leader that looks every few seconds and records who has fallen silent or come back."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from control_api.db import Database, Leadership
from control_api.errors import DatabaseUnavailable
from control_api.workers import history_store, index_store, operations, store, watch_store
from control_api.workers.lifecycle import Rules
from control_api.workers.store import Change
from control_api.workers.watch_store import Census

INDEX_SECONDS = 60  # between two checks of the index of statuses, which cost half a look each
STOP_SECONDS = 3  # how long a stop waits for the look that is under way
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Caution:
    """When the monitor doubts itself.

    tick: time from one look to the next. interval: time between two heartbeats. guard_share, guard_count: when
    more live workers than both fall silent at once, it suspects the master's own network for guard_hold.
    stall: a loop that has not looked for longer may have missed heartbeats. clock_jump: the same of a wall clock
    that went further than this from the monotonic one.
    """

    tick: timedelta
    interval: timedelta
    guard_share: float = 0.30
    guard_count: int = 2
    guard_hold: timedelta = timedelta(seconds=120)
    stall: timedelta = timedelta(seconds=15)
    clock_jump: timedelta = timedelta(seconds=5)

    @property
    def patience(self) -> timedelta:
        """How long the loop may not look before it counts as stalled."""
        return max(self.stall, 3 * self.tick)

    @property
    def candidacy(self) -> timedelta:
        """Time between two attempts to lead; with `idle`, a leader that is lost is replaced within 15 s."""
        return min(self.tick / 2, timedelta(seconds=2.5))

    @property
    def idle(self) -> timedelta:
        """How long a leader's session may be idle before the database ends it, in case the leader is suspended."""
        return max(2 * self.tick, timedelta(seconds=5))


@dataclass(frozen=True, slots=True)
class Memory:
    """What the leader remembers from one look to the next.

    monotonic: seconds of a clock that nobody sets. grace_until: nobody is declared silent before it.
    held: the guard has spoken in this episode of mass silence and does not speak again. An episode ends with its
    hold at the earliest, so that between two holds there is a look that judges, however the fleet flickers.
    """

    now: datetime
    monotonic: float
    grace_until: datetime
    held: bool = False
    notes: tuple[str, ...] = ()


def judge(
    last: Memory | None, census: Census, *, now: datetime, monotonic: float, rules: Rules, caution: Caution
) -> Memory:
    """Decide until when nobody may be declared silent, and return what to remember.

    last: what was remembered at the look before; None when this leader has just begun.
    The notes say why: `began`, `stalled`, `clock jumped`, `mass silence`, `mass silence over`.
    """
    notes = [] if last is not None else ["began"]
    grace_until, held = (now + rules.timeout, False) if last is None else (last.grace_until, last.held)
    if last is not None:
        elapsed = timedelta(seconds=monotonic - last.monotonic)
        if elapsed > caution.patience:
            notes.append("stalled")
        if abs((now - last.now) - elapsed) > caution.clock_jump:
            notes.append("clock jumped")
        if notes:
            grace_until = now + rules.timeout
    mass = census.late > max(caution.guard_count, caution.guard_share * census.live)
    if held and not mass and now >= grace_until:
        held, notes = False, [*notes, "mass silence over"]
    elif mass and census.due > 0 and not held and now >= grace_until - 2 * caution.tick:
        held, notes = True, [*notes, "mass silence"]
        grace_until = now + caution.guard_hold
    return Memory(now, monotonic, grace_until, held, tuple(notes))


class Monitor:
    """The thread that looks."""

    def __init__(
        self,
        database: Database,
        *,
        rules: Rules,
        caution: Caution,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; nothing runs before `start`. alive: called after every look, for systemd's watchdog."""
        self._leadership = Leadership(database, idle=caution.idle.total_seconds())
        self._rules = rules
        self._caution = caution
        self._clock = clock
        self._monotonic = monotonic
        self._alive = alive
        self._memory: Memory | None = None
        self._index_due = -math.inf
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._looked_at: float | None = None

    @property
    def leads(self) -> bool:
        """Say whether this process judges the fleet."""
        return self._leadership.held

    @property
    def age_seconds(self) -> float | None:
        """Seconds since the loop of this process last looked, as leader or in vain; None before it ever did."""
        looked_at = self._looked_at
        return None if looked_at is None else self._monotonic() - looked_at

    @property
    def is_alive(self) -> bool:
        """Say whether the loop has looked lately; if not, it is stuck."""
        age = self.age_seconds
        return age is not None and age <= self._caution.patience.total_seconds()

    def start(self) -> None:
        """Look once, so that readers find the grace of this start; then keep looking."""
        self._look()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop looking and let another process lead; a look that the database does not answer is left behind."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
            if self._thread.is_alive():
                return  # its connection ends with the process, and the lock with it
        self._leadership.release()

    def tick(self) -> list[str]:
        """Look once, if this process leads or can; return what was noted. Raises DatabaseUnavailable."""
        if not self._leadership.held:
            self._memory = None
            if not self._leadership.acquire():
                return []
        now, monotonic = self._clock(), self._monotonic()
        with self._leadership.transaction() as session:
            caution, rules = self._caution, self._rules
            counted = watch_store.census(
                session,
                store.moment(session, now, rules),
                late=rules.timeout - caution.interval,
                due=rules.timeout - 2 * caution.tick,
            )
            memory = judge(self._memory, counted, now=now, monotonic=monotonic, rules=rules, caution=caution)
            if "clock jumped" in memory.notes:
                watch_store.pull_back(session, now)
            watch_store.save_watch(session, now, memory.grace_until)
            heard = {"live": counted.live, "late": counted.late, "due": counted.due}
            evidence = {**heard, "graceUntil": memory.grace_until.isoformat()}
            for note in memory.notes:
                history_store.record_note(session, note, evidence=evidence, now=now)
            at = store.moment(session, now, rules)
            changes = operations.resume_those_due(session, at)
            if counted.changed or memory.notes:
                many = counted.changed > store.CHUNK
                changes += store.record_changes(session, at, actor="monitor", many=many)
        self._memory = memory
        for note in memory.notes:
            grace_until = memory.grace_until.isoformat()
            log.warning(f"monitor: {note}", live=counted.live, late=counted.late, grace_until=grace_until)
        tell(changes)
        self._check_index(monotonic)
        return list(memory.notes)

    def _check_index(self, monotonic: float) -> None:
        """Now and then find what a process of the version before has changed during an upgrade."""
        if monotonic < self._index_due:
            return
        self._index_due = monotonic + INDEX_SECONDS
        with self._leadership.transaction() as session:
            wrong = index_store.repair(session)
        if wrong:
            log.warning("monitor: the index of statuses was behind", workers=wrong)

    def _run(self) -> None:
        due = self._monotonic()
        while True:
            # From look to look, not from the end of one to the next: the bound of detection rests on it.
            pause = self._caution.tick if self.leads else self._caution.candidacy
            due = max(due + pause.total_seconds(), self._monotonic())
            if self._stop.wait(due - self._monotonic()):
                return
            self._look()

    def _look(self) -> None:
        try:
            self.tick()
        except DatabaseUnavailable:
            log.warning("monitor: the database does not answer")
        except Exception:  # the loop must outlive whatever it meets
            log.exception("monitor: a look failed")
        self._looked_at = self._monotonic()
        self._alive()


def tell(changes: Iterable[Change]) -> None:
    """Log changes of status: a line a kind, since a whole site may fall silent at once."""
    for change in changes:
        old, new = change.from_status.value, change.to_status.value
        workers = [str(worker_id) for worker_id in change.examples]
        log.info("status changed", old=old, new=new, count=change.workers, workers=workers)
