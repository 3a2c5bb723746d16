"""The change feed: nothing is lost and nothing is reported twice, whatever order transactions
commit in.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction

from certification.lib import pubsub
from certification.models import AIModel, CertificationJob, CertificationRun, State
from certification.models.change_feed import Cursor, changes
from certification.reasons import Reason
from tests.factories import start_job

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 4
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")


@pytest.fixture
def job() -> CertificationJob:
    return start_job(AIModel.objects.filter(api_model_id__startswith="amazon.nova-")[:4], REGIONS)


@pytest.fixture
def elsewhere() -> Iterator[Any]:
    """Another connection, in a transaction that stays open until the test ends it."""
    other = connection.copy()
    other.set_autocommit(False)
    yield other
    other.rollback()
    other.close()


def begin(connection: Any, run: CertificationRun) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE certification_certificationrun "
            "SET status = 'CANCELLED', completed_at = now() WHERE id = %s",
            [run.pk],
        )


def read(job: CertificationJob, since: Cursor) -> tuple[list[Any], Cursor]:
    """The ids that changed, and the cursor after them, having gone through its text."""
    rows = list(changes(job.runs.all(), since))
    return [run.pk for run, _cursor in rows], Cursor.parse(str(rows[-1][1] if rows else since))


def test_a_change_that_is_committed_late_is_told_late(
    job: CertificationJob, elsewhere: Any
) -> None:
    early, late = job.runs.order_by("pk")[:2]
    start = Cursor.now()
    begin(elsewhere, late)  # first to change, last to commit
    CertificationRun.objects.claim(early.pk, "w")
    changed, cursor = read(job, start)
    assert changed == [early.pk]
    assert read(job, cursor) == ([], cursor)
    elsewhere.commit()
    changed, cursor = read(job, cursor)
    assert changed == [late.pk]
    assert read(job, cursor)[0] == []


def test_what_was_changing_when_the_reading_began_is_told(
    job: CertificationJob, elsewhere: Any
) -> None:
    run = job.runs.first()
    assert run is not None
    begin(elsewhere, run)
    start = Cursor.now()
    assert read(job, start)[0] == []
    elsewhere.commit()
    assert read(job, start)[0] == [run.pk]


def test_a_change_that_is_taken_back_is_not_told(job: CertificationJob, elsewhere: Any) -> None:
    run = job.runs.first()
    assert run is not None
    start = Cursor.now()
    begin(elsewhere, run)
    elsewhere.rollback()
    assert read(job, start)[0] == []


def test_a_sign_of_life_is_no_change(job: CertificationJob) -> None:
    run = CertificationRun.objects.claim(job.runs.all()[0].pk, "w")
    assert run is not None
    start = Cursor.now()
    CertificationRun.objects.heartbeat({run.pk: "w"})
    assert read(job, start)[0] == []
    run.mark_failed(Reason.DEADLINE, "Over.")
    assert read(job, start)[0] == [run.pk]


def test_many_runs_of_one_transaction_are_resumed_in_their_midst(job: CertificationJob) -> None:
    start = Cursor.now()
    job.cancel()
    rows = list(changes(job.runs.all(), start))
    assert len(rows) == 12
    for read_until in range(12):
        rest = list(changes(job.runs.all(), Cursor.parse(str(rows[read_until][1]))))
        assert [run.pk for run, _c in rest] == [run.pk for run, _c in rows[read_until + 1 :]]


def test_other_jobs_are_not_told_of(job: CertificationJob) -> None:
    other = start_job(AIModel.objects.filter(api_model_id__startswith="anthropic.")[:1], REGIONS)
    start = Cursor.now()
    other.cancel()
    assert read(job, start)[0] == []


def test_marks_from_another_server_are_not_told(job: CertificationJob) -> None:
    """A dump that is restored elsewhere brings transaction ids that have not come yet."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE certification_certificationrun SET changed_in = '9000000000000'")
    start = Cursor.now()
    assert read(job, start)[0] == []
    run = job.runs.all()[0]
    CertificationRun.objects.claim(run.pk, "w")
    assert read(job, start)[0] == [run.pk]


@pytest.mark.parametrize("seed", range(3))
def test_readers_that_lose_their_place_again_and_again_miss_nothing(
    job: CertificationJob, seed: int
) -> None:
    """Writers commit in any order; the reader is cut off in the midst of what it reads and resumes
    from the last id it saw.
    """
    start, dice = Cursor.now(), random.Random(seed)
    runs = list(job.runs.order_by("pk"))

    def work(mine: list[CertificationRun], dice: random.Random) -> None:
        try:
            for run in mine * ROUNDS:
                for change in (
                    lambda run=run: CertificationRun.objects.claim(run.pk, "w"),
                    lambda run=run: end(run),
                ):
                    with transaction.atomic():
                        change()
                        time.sleep(dice.random() / 50)
        finally:
            connection.close()

    def end(run: CertificationRun) -> None:
        assert type(run).objects.filter(pk=run.pk).update(status=State.PENDING, claimed_by="") == 1

    writers = [
        threading.Thread(target=work, args=(runs[i::4], random.Random(seed * 10 + i)))
        for i in range(4)
    ]
    for writer in writers:
        writer.start()
    observed: list[tuple[Any, str, int]] = []
    cursor, last = start, False
    while not last:
        last = not any(writer.is_alive() for writer in writers)
        rows = list(changes(job.runs.all(), cursor))
        part = rows if last or dice.random() < 0.5 else rows[: dice.randint(0, len(rows))]
        observed += [(run.pk, run.status, run.attempt) for run, _cursor in part]
        cursor = Cursor.parse(str(part[-1][1])) if part else cursor
        time.sleep(dice.random() / 100)
    assert {(pk, attempt) for pk, status, attempt in observed if status == State.PENDING} >= {
        (run.pk, ROUNDS) for run in runs
    }
    # Cut twice in the midst, with an older change committed in between, a reader is changed some
    # again: a cursor knows one place.
    assert max(Counter(observed).values()) <= 2
    assert list(changes(job.runs.all(), cursor)) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "done!",
        "5:4:",
        "5:9:6",
        "5:9:5,9",
        "5:9:5,5",
        "0:0:",
        "0:5:0",
        "05:9:5",
        "5:9:7,5",
        "5:9:5;DROP",
        "9:9:.4",
        "9:9:.4.nothing",
        "99999999999999999999:99999999999999999999:",
        "9999999999999999999:9999999999999999999:",
        "9:9:.0.00000000-0000-0000-0000-000000000001",
        "9:9:\n",
        "9:9:" + "1," * 5000,
        "９:９:",
    ],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Cursor.parse(text)


@pytest.mark.parametrize(
    "text", ["9:9:", "5:9:5", "5:9:5,6,8", "5:9:5.7.0f0f0f0f-0000-0000-0000-000000000001"]
)
def test_a_cursor_reads_back_as_it_was_written(text: str) -> None:
    assert str(Cursor.parse(text)) == text


def test_a_process_that_ends_at_once_still_tells(job: CertificationJob) -> None:
    """Its thread has sent the last message, and is over, before Python ends."""
    setup = "import django, uuid; django.setup(); from certification.lib import pubsub; "
    publish = f"pubsub._outbox.put(uuid.UUID('{job.pk}'))"
    watch = pubsub.Subscription(job.pk)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", setup + publish], cwd=settings.BASE_DIR, timeout=60, check=False
        )
        assert ended.returncode == 0
        assert watch.wait(10)
    finally:
        watch.close()
