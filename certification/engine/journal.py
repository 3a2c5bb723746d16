"""The calls of runs that are under way, stored in Redis as they end: a run whose worker died goes
on where it stopped, and pays again only for what was in flight.

Each claim of a run has a list of its own, so that a frozen worker that wakes up adds nothing to
another's; a pointer names the list of the latest claim. Whoever claims a run again copies what it
takes over. Losing any of it costs calls, never a result. Entries are authenticated: who can write
to Redis must not be able to make up answers.

Calls that end within FLUSH_S are written together: so many are lost when a worker is killed,
besides those in flight.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import redis.asyncio as redis
import structlog
from django.conf import settings

from certification.inference import (
    Block,
    EmbedReply,
    Failure,
    Operation,
    Outcome,
    Reasoning,
    Reply,
    RouteTarget,
    Text,
    Timing,
    ToolUse,
    Usage,
)
from certification.lib import event_loop, redis_client
from certification.lib.circuit_breaker import CircuitBreaker
from certification.lib.redis_client import UNAVAILABLE, Purpose
from certification.reasons import Reason

log = structlog.get_logger(__name__)

FLUSH_S = 0.02
TTL_S = 2 * 3600  # a run that waits longer for a worker starts anew
FLUSH_TIMEOUT_S = 2.0
MAC_BYTES = 16
# KEYS: a list for each of ARGV. One command for all: each costs a tenth of a millisecond of Python.
# A list that is gone is that of a claim that is over.
APPEND = """
for i, key in ipairs(KEYS) do redis.call('RPUSHX', key, ARGV[i]) end
"""
UNENCODABLE = (ValueError, TypeError, OverflowError)  # half a character, a number of any size
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, msgspec.DecodeError)


class StoredAttempt(NamedTuple):
    """One attempt of a call, without its request, which the trial's script gives again."""

    outcome: Outcome
    number: int
    at: str
    route: RouteTarget


class StoredCall(NamedTuple):
    """One call that ended, the `number`th of its trial, with all its attempts."""

    case_id: str
    trial: int
    number: int
    attempts: tuple[StoredAttempt, ...]


Trial = tuple[str, int]  # case id and index


@dataclass(eq=False)
class RunJournal:
    """The calls of one claim of a run. Used on the event loop, but for `flush` and `close`.

    `spared` names the features that the run's requests do not try, as its first claim knew them.
    """

    journal: Journal
    run_id: uuid.UUID
    key: str  # of its list
    spared: frozenset[str]
    stored: dict[Trial, list[StoredCall]] = field(default_factory=dict)
    _unencodable: set[Trial] = field(default_factory=set)

    def take(self, case_id: str, trial: int, number: int) -> StoredCall | None:
        """Return a trial's next call, if an earlier claim of the run made it; each is given once.
        A call that is missing ends what is taken over of the trial.
        """
        calls = self.stored.get((case_id, trial))
        if not calls:
            return None
        if calls[0].number != number:
            calls.clear()
            return None
        return calls.pop(0)

    def add(self, call: StoredCall) -> None:
        """Store a call that ended, soon and without waiting."""
        trial = call.case_id, call.trial
        if trial in self._unencodable:
            return
        try:
            self.journal.append(self, msgspec.msgpack.encode(call))
        except UNENCODABLE as error:
            self._unencodable.add(trial)
            log.info("call_not_stored", run=str(self.run_id), case=trial[0], error=str(error))

    def flush(self) -> None:
        """Wait until everything is stored. Call from a thread, before the run is handed back."""
        self.journal.flush_from_thread()

    def close(self) -> None:
        """Forget the calls of a run that ended. Call from a thread."""
        self.journal.forget(self)


class Journal:
    """The journals of the runs of this process."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.breaker = CircuitBreaker(Purpose.JOURNAL, open_s=1.0)
        self._secret = hashlib.blake2b(settings.SECRET_KEY.encode()).digest()
        self._started: dict[str, tuple[str, list[bytes]]] = {}  # pointer and entries, by list
        self._pending: dict[str, list[bytes]] = defaultdict(list)
        self._deleted: list[str] = []
        self._append = client.register_script(APPEND)
        self._timer: asyncio.TimerHandle | None = None
        self._flusher: asyncio.Task[None] | None = None

    def open(
        self,
        run_id: uuid.UUID,
        *,
        basis: Sequence[str],
        spared: Iterable[str],
        is_first_claim: bool,
    ) -> RunJournal:
        """Return the journal of a run that was just claimed, with the calls of earlier claims.

        `basis` is what the run's requests follow from besides its seed, `spared` the features known
        to be refused: calls made on another basis, or without features that are tried now, are not
        taken over. Call from a thread: it waits for Redis where the run was claimed before.
        """
        known = frozenset(spared)
        key, entries = ("", []) if is_first_claim else self.read(run_id)
        earlier = spared_of(entries[:1], basis)
        if earlier is None or not earlier <= known:
            earlier, entries = known, [b""]
        run = RunJournal(self, run_id, f"{pointer_key(run_id)}:{uuid.uuid4().hex}", earlier)
        header = msgspec.msgpack.encode((list(basis), sorted(earlier)))
        entries = entries[1:]
        event_loop.get_loop().call_soon_threadsafe(self.begin, run, key, [header, *entries])
        calls = decoded(entries)
        for call in sorted(calls, key=lambda call: call.number):
            run.stored.setdefault((call.case_id, call.trial), []).append(call)
        if calls:
            log.info("run_resumed", run=str(run_id), calls=len(calls))
        return run

    def begin(self, run: RunJournal, earlier: str, entries: Iterable[bytes]) -> None:
        """Start a claim's list with what it takes over of an earlier one, which goes."""
        started = [self.mac(run.key, entry) + entry for entry in entries]
        self._started[run.key] = pointer_key(run.run_id), started
        self._deleted += [earlier] if earlier else []
        self.flush_soon()

    def append(self, run: RunJournal, entry: bytes) -> None:
        """Add an entry to a run's list with the next flush."""
        self._pending[run.key].append(self.mac(run.key, entry) + entry)
        self.flush_soon()

    def forget(self, run: RunJournal) -> None:
        """Delete a run's list with the next flush. Call from a thread."""

        def delete() -> None:
            self._started.pop(run.key, None)
            self._pending.pop(run.key, None)
            self._deleted += (run.key, pointer_key(run.run_id))
            self.flush_soon()

        event_loop.get_loop().call_soon_threadsafe(delete)

    def flush_soon(self) -> None:
        """Have what is pending written in FLUSH_S."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(FLUSH_S, self.start_flusher)

    def start_flusher(self) -> None:
        self._timer = None
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.get_running_loop().create_task(self.flush())

    async def flush(self) -> None:
        """Write everything that is pending; what cannot be written is lost."""
        while self._started or self._pending or self._deleted:
            started, self._started = self._started, {}
            pending, self._pending = self._pending, defaultdict(list)
            deleted, self._deleted = self._deleted, []
            if self.breaker.is_open:
                continue
            try:
                if started or deleted:
                    await self.write_lists(started, deleted)
                if pending:
                    keys = [key for key, entries in pending.items() for _ in entries]
                    args = [entry for entries in pending.values() for entry in entries]
                    await self._append(keys=keys, args=args)
            except UNAVAILABLE as error:
                self.breaker.record_failure(error)

    async def write_lists(
        self, started: Mapping[str, tuple[str, list[bytes]]], deleted: Sequence[str]
    ) -> None:
        """Create lists and their pointers, and delete others."""
        pipe = self.client.pipeline(transaction=False)
        for key, (pointer, entries) in started.items():
            pipe.rpush(key, *entries)
            pipe.expire(key, TTL_S)
            pipe.set(pointer, key, ex=TTL_S)
        if deleted:
            pipe.delete(*deleted)
        await pipe.execute()

    def flush_from_thread(self) -> None:
        """Wait until everything that is pending is written, at most FLUSH_TIMEOUT_S."""
        try:
            event_loop.run(self.flush(), FLUSH_TIMEOUT_S)
        except TimeoutError:
            log.warning("journal_not_flushed")

    def read(self, run_id: uuid.UUID) -> tuple[str, list[bytes]]:
        """Return the list of the latest claim of a run, "" without one, and its entries, up to one
        that is not authentic.
        """

        async def fetch() -> tuple[str, list[bytes]]:
            pointer = await self.client.get(pointer_key(run_id))
            key = pointer.decode(errors="replace") if isinstance(pointer, bytes) else ""
            if not key.startswith(pointer_key(run_id)):
                return "", []
            stored = await self.client.lrange(key, 0, -1)
            return key, [value for value in stored if isinstance(value, bytes)]

        try:
            key, stored = event_loop.run(fetch(), FLUSH_TIMEOUT_S)
        except (TimeoutError, *UNAVAILABLE) as error:
            log.warning("journal_unavailable", run=str(run_id), error=str(error))
            return "", []
        entries = []
        for value in stored:
            entry = value[MAC_BYTES:]
            if not hmac.compare_digest(value[:MAC_BYTES], self.mac(key, entry)):
                log.error("journal_forged", run=str(run_id))
                break
            entries.append(entry)
        return key, entries

    def mac(self, key: str, entry: bytes) -> bytes:
        """Authenticate an entry of a list."""
        mac = hashlib.blake2b(key.encode(), digest_size=MAC_BYTES, key=self._secret)
        mac.update(entry)
        return mac.digest()


def pointer_key(run_id: uuid.UUID) -> str:
    return f"myia:journal:{run_id}"


def spared_of(header: Sequence[bytes], basis: Sequence[str]) -> frozenset[str] | None:
    """Return what the calls behind a header spared; None where they were made on another basis."""
    try:
        [first] = header
        earlier, spared = msgspec.msgpack.decode(first, type=tuple[list[str], list[str]])
    except (ValueError, msgspec.DecodeError):
        return None
    return frozenset(spared) if earlier == list(basis) else None


def decoded(entries: Iterable[bytes]) -> list[StoredCall]:
    """Decode calls, up to the first that cannot be read."""
    calls = []
    for entry in entries:
        try:
            calls.append(call_from(msgspec.msgpack.decode(entry)))
        except UNREADABLE as error:
            log.warning("journal_unreadable", error=str(error))
            break
    return calls


def call_from(value: Any) -> StoredCall:
    """Decode a call. Raises UNREADABLE."""
    case_id, trial, number, attempts = value
    return StoredCall(str(case_id), int(trial), int(number), tuple(map(attempt_from, attempts)))


def attempt_from(value: Any) -> StoredAttempt:
    outcome, number, at, route = value
    target = msgspec.convert(route, RouteTarget)
    return StoredAttempt(outcome_from(outcome), int(number), str(at), target)


def outcome_from(value: Mapping[str, Any]) -> Outcome:
    """Decode a reply, vectors or a failure."""
    if "reason" in value:
        partial = value["partial"]
        return Failure(
            **{
                **value,
                "reason": Reason(value["reason"]),
                "operation": Operation(value["operation"]),
                "timing": msgspec.convert(value["timing"], Timing),
                "partial": reply_from(partial) if partial is not None else None,
            }
        )
    if "vectors" in value:
        return msgspec.convert(value, EmbedReply)
    return reply_from(value)


def reply_from(value: Mapping[str, Any]) -> Reply:
    return Reply(
        **{
            **value,
            "content": tuple(map(block_from, value["content"])),
            "usage": msgspec.convert(value["usage"], Usage | None),
            "timing": msgspec.convert(value["timing"], Timing),
            "operation": Operation(value["operation"]),
            "events": tuple(value["events"]),
        }
    )


def block_from(value: Mapping[str, Any]) -> Block:
    """Decode a block of an answer: text, reasoning or a tool call."""
    if "signature" in value:
        return msgspec.convert(value, Reasoning)
    if "raw_input" in value:
        return ToolUse(**value)
    return msgspec.convert(value, Text)


def connect(url: str) -> Journal:
    """Return the journal on the Redis at `url`."""
    return Journal(redis_client.async_client(Purpose.JOURNAL, url=url, max_connections=2))
