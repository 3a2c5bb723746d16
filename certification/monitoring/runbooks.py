"""The runbooks: what to do when something is wrong. This is their only text; pages show it in the
language of the reader, and docs/runbooks.md is written from it.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from django.conf import settings
from django.utils import translation
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

WIDTH = 120  # of a line in docs/runbooks.md
INTRODUCTION = (
    "One section for each alert, by its name, and for what no alert can tell. `manage.py alerts` "
    "lists what is open; `manage.py alerts ack ID` says that you look after it; `manage.py alerts "
    "silence RULE --for 2h --reason TEXT` has nobody notified. Times are what an operator should "
    "need. If a runbook does not help within its time, call who keeps the system and write down "
    "what you saw. `manage.py alerts runbooks` writes this page."
)


@dataclass(frozen=True)
class Runbook:
    """What to do: `text` is Markdown and begins with the time that it may take. That of an alert
    has the name of its rule.
    """

    name: str
    title: str | Promise
    text: str | Promise


RUNBOOKS = (
    Runbook(
        "redis_unreachable",
        _("Redis does not answer"),
        _(
            "**Within 3 min.** Jobs that are started wait in the database; pages and API go on "
            "without caches and limits; nothing is lost. `manage.py status` says whether the "
            "server runs here. An embedded one is started again by `manage.py up` within seconds; "
            "with a `REDIS_URL` of your own, start that server or correct the address. Workers go "
            "on by themselves, and `reconcile` sends every message again that was lost."
        ),
    ),
    Runbook(
        "worker_offline",
        _("Worker offline"),
        _(
            "**Within 5 min.** No worker answers, so nothing is certified. `manage.py status` "
            "shows the processes: one that is down is started by `manage.py up`; one that is `not "
            "answering` is replaced by the supervisor within two minutes, or at once with "
            "`manage.py restart worker`. Look at the end of `.myia/logs/worker.log` for why. Runs "
            "of a dead worker are handed to another after 30 s."
        ),
    ),
    Runbook(
        "region_unserved",
        _("A region without workers"),
        _(
            "**Within 10 min.** A region is pinned (`PINNED_REGIONS`) and no worker takes the runs "
            "of one of its two queues: they wait, those of other regions go on. Look at the "
            "machine that has `WORKER_REGIONS` with this region: `manage.py status` there, then "
            "`manage.py run worker` and `manage.py run worker-bulk`. Where it will not come back "
            "soon, start a worker elsewhere with `WORKER_REGIONS=<region>`, or take the region out "
            "of `PINNED_REGIONS` of every process: its runs go to the common queue then."
        ),
    ),
    Runbook(
        "nothing_completed",
        _("Nothing completed"),
        _(
            "**Within 15 min.** Runs wait and none ends. `manage.py queue show` says who works on "
            "what. Workers that answer with 0 runs take no messages: `manage.py restart worker`. "
            "Workers that are full wait for Bedrock: look at `manage.py queue active` and at "
            "AWS's status page. A paused queue is `credentials_invalid` or `queue_paused`."
        ),
    ),
    Runbook(
        "queue_waiting",
        _("Queue waiting"),
        _(
            "**Within 30 min.** More runs wait than usual. `manage.py queue show` lists them by "
            "region. A large job needs only time: look at the estimate on its page. Otherwise "
            "start more workers (`CERTIFICATION_BULK_WORKERS`), or cancel what nobody needs: "
            "`manage.py queue purge --bulk --dry-run` first."
        ),
    ),
    Runbook(
        "queue_oldest",
        _("The oldest run waits too long"),
        _(
            "**Within 30 min.** As `queue_waiting`; one old run among young ones waits for a "
            "pinned region without a worker: `manage.py queue waiting` names its region, "
            "`PINNED_REGIONS` and `WORKER_REGIONS` must agree."
        ),
    ),
    Runbook(
        "run_failures",
        _("Run failures"),
        _(
            "**Within 30 min.** Runs end without a verdict. `manage.py job list`, then `manage.py "
            "job show ID` for the reasons: access (permissions, agreements), quota (throttling: "
            "lower the calls in flight) or network. Each reason names its fix."
        ),
    ),
    Runbook(
        "success_rate",
        _("Success rate"),
        _(
            "**Today.** Fewer models are certified than yesterday. `manage.py list_uncertified` "
            "names them with their reasons; many of one region or vendor at once are an outage "
            "there: wait, then certify again."
        ),
    ),
    Runbook(
        "run_retries",
        _("Run retries"),
        _(
            "**Today.** Runs change workers because workers die. `manage.py status` counts the "
            "restarts of each process; the log has the reason: memory, a full disk, or somebody "
            "who ends them."
        ),
    ),
    Runbook(
        "credentials_invalid",
        _("Credentials do not work"),
        _(
            "**Within 15 min.** AWS refuses the credentials, and the runs of large jobs wait "
            "until there are valid ones. `aws sts get-caller-identity` with the worker's account "
            "shows what is wrong; "
            "docs/permissions.md has what they must allow. The queue goes on by itself within "
            "30 s once they are right. After an hour the waiting runs fail."
        ),
    ),
    Runbook(
        "queue_paused",
        _("Queue paused"),
        _(
            "**Within the time that its reason names.** A person paused the queue or began "
            "read-only mode; `manage.py queue show` and the queue's tab of the Operations page "
            "say who, since when and why. Runs that had begun go on to their end, no other "
            "begins, nothing is lost. Ask that person whether the reason is over; then `manage.py "
            "queue resume`, or `manage.py readonly off` for read-only mode. Runs go on within a "
            "minute. Next time give it an end: `--for 1h`."
        ),
    ),
    Runbook(
        "redis_memory",
        _("Redis memory"),
        _(
            "**Today.** At its `maxmemory` Redis takes no messages. Its memory holds messages, "
            "limits and caches: look at how many runs wait. Give it more memory; its policy must "
            "stay `noeviction`."
        ),
    ),
    Runbook(
        "redis_evictions",
        _("Redis evictions"),
        _(
            "**Within 30 min.** Redis drops keys to make room, messages among them. Set "
            "`maxmemory-policy noeviction`. `reconcile` sends lost messages again."
        ),
    ),
    Runbook(
        "database_connections",
        _("Database connections"),
        _(
            "**Within 15 min.** At the limit nobody can connect. Each process may open "
            "`DATABASE_POOL_SIZE`: lower it, or raise the server's `max_connections`, or put "
            "PgBouncer in front of it. `manage.py doctor` counts them."
        ),
    ),
    Runbook(
        "long_queries",
        _("Long queries"),
        _(
            "**Within 30 min.** Look at the query: `SELECT query FROM pg_stat_activity WHERE pid "
            "= ...`. A backup or an analysis may go on; end others with `SELECT "
            "pg_cancel_backend(pid)`."
        ),
    ),
    Runbook(
        "disk_space",
        _("Disk space"),
        _(
            "**Within 30 min; critical: at once.** A full disk stops PostgreSQL and Redis until "
            "there is room; nothing stored is lost. `manage.py cleanup --dry-run` says what "
            "transcripts would free. Look for old logs and backups."
        ),
    ),
    Runbook(
        "clock_off",
        _("The clock is wrong"),
        _(
            "**Today; critical: at once.** Work goes on by the database's clock, but AWS refuses "
            "calls from 300 s. Set the clock of the worker's machine: `timedatectl set-ntp true`."
        ),
    ),
    Runbook(
        "routine_late",
        _("Routine late"),
        _(
            "**Within 15 min.** Beat's routine did not end: beat or the worker that takes its "
            "messages is away. `manage.py status`, then `manage.py restart beat`. Run it by hand "
            "meanwhile: `manage.py reconcile`."
        ),
    ),
    Runbook(
        "routine_failed",
        _("Routine failed"),
        _(
            "**Today.** A step of a routine failed, or the routine took longer than it may. "
            "`manage.py routine list` has the fault of each; correct it and run the routine "
            "again: `manage.py routine run daily`, or one step of it with `--step`. A failed "
            "backup has its own alert when the next one is due."
        ),
    ),
    Runbook(
        "backup_late",
        _("Backup late"),
        _(
            "**Today; critical: at once.** No backup for over a day: what is lost when the disk "
            "is lost grows by the hour. `manage.py backup` makes one now and says what prevents "
            "it: a full disk (`BACKUP_DIR` may be elsewhere), a key that cannot be read "
            "(`manage.py backup key`), a `pg_dump` older than the server. Then look at why beat "
            "did not: `manage.py routine list`."
        ),
    ),
    Runbook(
        "restore_drill_failed",
        _("Restore drill failed"),
        _(
            "**At once.** The newest backup cannot be restored, so today there may be none. "
            "`manage.py backup verify` says why; `manage.py backup list` has the older ones: "
            "verify them until one is well. If the database role may not create databases (`ALTER "
            "ROLE ... CREATEDB`) or the disk has no room for a second database, the backup is "
            "good and the drill is not. Then make a new backup and verify it: `manage.py backup`, "
            "`manage.py backup verify`. Do not delete the older ones."
        ),
    ),
    Runbook(
        "restore_drill_late",
        _("Restore drill late"),
        _(
            "**This week.** No backup was restored for over eight days, so nobody knows whether "
            "they can be. Run the drill: `manage.py routine run weekly`. Then look at why beat "
            "did not: `manage.py routine list`, `manage.py restart beat`."
        ),
    ),
    Runbook(
        "certifications_expire",
        _("Certifications expire"),
        _(
            "**Within a day.** Certify them again: `manage.py recertify_stale`. Expired ones are "
            "shown as not tested."
        ),
    ),
    Runbook(
        "deliveries_given_up",
        _("Deliveries given up"),
        _(
            "**Today.** A receiver of webhooks did not accept messages for nine hours. Its "
            "deliveries in the admin have each answer; they can be sent again from there."
        ),
    ),
    Runbook(
        "channel_failing",
        _("Channel failing"),
        _(
            "**Within 30 min.** A channel of `ALERT_URLS` does not accept messages: nobody reads "
            "there of the next alert. `manage.py alerts channels` has the reason, without the "
            "address. Correct the address or the account (a token that was withdrawn, a chat that "
            "is gone, a mail server that refuses), then prove it with `manage.py alerts test`. "
            "What was not sent waits and is sent then; when every channel of a level fails, the "
            "next level is notified at once."
        ),
    ),
    Runbook(
        "database_unreachable",
        _("The database does not answer"),
        _(
            "**Within 3 min.** Pages and API answer 503, badges go on from what is cached; "
            "workers wait and go on where they stood. No alert can tell of it, because alerts are "
            "stored in the database: `/health` does, and `HEARTBEAT_URL` is not called any more. "
            "`manage.py status` says whether the server runs here. An embedded one is started "
            "again by `manage.py up` within seconds; with a `DATABASE_URL` of your own, start "
            "that server, make room on its disk, or correct the address. If it refuses "
            "connections because there are too many, see `database_connections`."
        ),
    ),
    Runbook(
        "web_unreachable",
        _("The web server does not answer"),
        _(
            "**Within 2 min.** Prometheus gets no metrics: the web server or its database does "
            "not answer, and our own list of alerts cannot tell of it. `manage.py status` shows "
            "the processes; `/live` answers when only the database is away. Start what is down "
            "with `manage.py up`; with a `DATABASE_URL` of your own, look at that server."
        ),
    ),
    Runbook(
        "budget_burns_fast",
        _("An error budget burns fast"),
        _(
            "**Within 15 min.** What people wait for fails far more often than a month allows: at "
            "this pace its whole error budget is spent within two days. `manage.py targets` names "
            "the target: `availability` is the web server itself (see `everything_down`), "
            "`api_errors` requests that end with 5xx (see `api_errors`), `api_latency` answers "
            "that take longer than 200 ms (see `slow`). When a release has just begun, go back "
            "first (see `bad_release`), then look for the cause."
        ),
    ),
    Runbook(
        "budget_burns",
        _("An error budget burns"),
        _(
            "**Within 2 hours.** As `budget_burns_fast`, at a pace that spends the month's budget "
            "within five days. Look at what began six hours ago: a release, a setting, a region "
            "that fails, a job that is larger than others."
        ),
    ),
    Runbook(
        "budget_burns_slowly",
        _("An error budget burns slowly"),
        _(
            "**This week.** For three days more has failed than the target allows; at this pace "
            "the "
            "budget is spent before the month ends. Nothing is urgent: find out with `manage.py "
            "analyze_performance --hours 72` and `manage.py logs --errors --by reason` which part "
            "it is, and repair it before anything else is added."
        ),
    ),
    Runbook(
        "error_lines",
        _("Error lines"),
        _(
            "**Today.** Well-kept installations write fewer than ten error lines a day. "
            "`manage.py logs --errors --by reason` counts them by reason, each with what to do; a "
            "traceback without a reason is an error of ours: send it, with `manage.py doctor "
            "--support`, to whoever keeps the system."
        ),
    ),
    Runbook(
        "many_error_lines",
        _("Many error lines"),
        _(
            "**Within 15 min.** Over a hundred error lines in an hour are one fault that repeats. "
            "`manage.py logs --errors --by reason` names it, `manage.py logs --errors --follow` "
            "shows whether it goes on. Other open alerts usually name the cause; repair that "
            "first."
        ),
    ),
    Runbook(
        "process_restarts",
        _("Process restarts"),
        _(
            "**Within 30 min.** Processes end without being told to and are started again; their "
            "runs were handed on, nothing is lost. `manage.py status` names the process, the end "
            "of its log in `.myia/logs` the reason: an exit code 137 or the signal SIGKILL is the "
            "machine's memory (see `memory`), anything else an error of ours, with its traceback."
        ),
    ),
    Runbook(
        "api_errors",
        _("API errors"),
        _(
            "**Within 15 min.** Requests end with 500. `manage.py logs --errors --since 1h --by "
            "reason` has the reason; each line has the id of its request, which the caller has in "
            "the answer's `requestId`: `manage.py logs --request ID` shows all of it. After a "
            "release see `bad_release`; for 503 see `database_unreachable` and "
            "`redis_unreachable`. A traceback is for the developers, with the archive of "
            "`manage.py doctor --support`."
        ),
    ),
    Runbook(
        "api_slow",
        _("API slow"),
        _(
            "**Within 15 min.** More than one request in twenty takes longer than two seconds. "
            "`manage.py analyze_performance` says whether runs or AWS are slow too, `manage.py "
            "doctor` names long queries; `/metrics` has the time of each route. See `slow` for "
            "what to do at once."
        ),
    ),
    Runbook(
        "accept_backlog",
        _("Accept backlog"),
        _(
            "**Within 5 min.** Requests arrive faster than the web processes take them. Somebody "
            "may load the site: the access log of the proxy names the addresses. Otherwise more "
            "processes help (`WEB_PROCESSES`, then `manage.py restart web`), or a second web "
            "server behind the proxy; with a database that is slow they do not (see `slow`)."
        ),
    ),
    Runbook(
        "runs_given_up",
        _("Runs were given up"),
        _(
            "**Today.** These runs ended without a verdict, whatever was tried; the reason is in "
            "the alert. `manage.py job list --failed`, then `manage.py job show ID` has model, "
            "region and fix of each. `manage.py job retry ID` runs them again when the reason is "
            "gone. Very many of one region at once: see `region_outage`."
        ),
    ),
    Runbook(
        "certifications_worse",
        _("Certifications got worse"),
        _(
            "**Today.** A model that was certified is not any more. `manage.py list_uncertified` "
            "has the reason of each; its page compares the two runs test by test. Certify it "
            "again before you tell others: `manage.py certify MODEL --region REGION`. Many of one "
            "region or vendor at once are an outage (see `region_outage`) or a change of AWS."
        ),
    ),
    Runbook(
        "models_end",
        _("Models reach their end of life"),
        _(
            "**Within a month; critical: this week.** AWS will stop offering a model that is "
            "certified here. The models' list in the admin has each day of end of life; the "
            "model's page names its successor where AWS does. Tell who uses it, and certify the "
            "successor."
        ),
    ),
    Runbook(
        "redis_keys",
        _("Redis keys"),
        _(
            "**This week.** Redis holds more keys than caches, limits and waiting runs need. "
            "`manage.py redis_report` counts them by kind and names keys without an end; what is "
            "not ours belongs to another program, which should have a Redis of its own."
        ),
    ),
    Runbook(
        "replication_lag",
        _("Replication lag"),
        _(
            "**Within 30 min.** The replica shows what was true some time ago, so pages are read "
            "from the primary until it has caught up. Look at its disk and at the network between "
            "the two; a backup or a long query on the replica holds it up too. A replica that "
            "is hours behind is made again faster than it catches up."
        ),
    ),
    Runbook(
        "dead_rows",
        _("Dead rows"),
        _(
            "**This week.** A fifth of a table is rows that nobody can see any more: it is read "
            "more slowly and takes room. `manage.py routine run daily --step vacuum` makes them "
            "free for new rows; if they stay, an old transaction holds them: see `long_queries`."
        ),
    ),
    Runbook(
        "transaction_ids",
        _("Transaction ids run out"),
        _(
            "**This week; critical: at once.** PostgreSQL stops taking writes when its "
            "transaction ids are used up. `manage.py routine run daily --step vacuum` frees old "
            "ones; an open transaction, a prepared one or a replication slot that nobody uses "
            "prevents it: `SELECT pid, xact_start FROM pg_stat_activity ORDER BY xact_start`, and "
            "the views `pg_prepared_xacts` and `pg_replication_slots`."
        ),
    ),
    Runbook(
        "process_memory",
        _("Memory of a process"),
        _(
            "**Within 30 min.** A process uses more memory than it should. `manage.py restart "
            "web` or `manage.py restart worker` frees it and loses nothing. If it grows again, "
            "write down what was at work then, and send `manage.py doctor --support` to whoever "
            "keeps the system. See `memory` for what helps meanwhile."
        ),
    ),
    Runbook(
        "machine_memory",
        _("Memory of the machine"),
        _(
            "**Within 15 min.** When memory runs out, the kernel ends the largest process, the "
            "database among them. `manage.py status` shows what ours take, `top` the others. See "
            "`memory`."
        ),
    ),
    Runbook(
        "machine_cpu",
        _("CPUs of the machine"),
        _(
            "**Within 30 min.** The CPUs have been busy for ten minutes: pages and runs become "
            "slower, nothing is lost. A large job does that by itself: `manage.py queue show` "
            "says how much is left. `manage.py queue pause --reason load --for 30m` gives people "
            "their pages back. For good: fewer calls in flight (`CERTIFICATION_CONCURRENCY`), or "
            "workers on another machine."
        ),
    ),
    Runbook(
        "tls_certificate",
        _("TLS certificate"),
        _(
            "**This week; critical: at once.** After its end browsers and programs refuse the "
            "address. See why whatever renews it did not: the log of the proxy, port 80 closed, a "
            "name that points elsewhere. Caddy renews by itself while it is reached from outside."
        ),
    ),
    Runbook(
        "everything_down",
        _("Everything is down"),
        _(
            "**Within 2 min.** Pages, API and badges do not answer. `manage.py status` says what "
            "runs on this machine: nothing means `manage.py up --detach`; all of it means that "
            "the proxy or the network in front is down: ask `curl http://127.0.0.1:3001/live` on "
            "the machine itself. A port that another program took is named by `manage.py up`. If "
            "it does not stay up, read the end of `.myia/logs/web.log`, and call the next level "
            "after five minutes: the machine or its disk may be gone (see `restore`)."
        ),
    ),
    Runbook(
        "slow",
        _("Everything is slow"),
        _(
            "**Within 5 min.** Pages or the API take seconds. `manage.py status` shows memory, "
            "`manage.py doctor` long queries and a full disk, `manage.py analyze_performance` "
            "whether AWS answers slower too. A large job makes pages slower only where one "
            "machine does everything: `manage.py queue pause --reason slow --for 30m` shows "
            "whether that is it. Otherwise end a query that has run for minutes (see "
            "`long_queries`), or restart the process that uses the most: `manage.py restart web`."
        ),
    ),
    Runbook(
        "runs_stuck",
        _("Runs are stuck"),
        _(
            "**Within 15 min.** A run is in progress for longer than it may. `manage.py queue "
            "active` says which worker has it and since when; a worker that died is noticed "
            "within 30 s and its runs are taken up by another. If it does not: `manage.py "
            "reconcile`, then `manage.py restart worker`. A run that hangs again and again on one "
            "model is cancelled with `manage.py job cancel ID`; `manage.py diagnose` explains its "
            "last error."
        ),
    ),
    Runbook(
        "certifications_missing",
        _("Certifications are missing"),
        _(
            "**Today.** A model that should be certified is not. `manage.py list_uncertified` "
            "says why of each: never tested, expired, failed with a reason, or offered nowhere "
            "that is enabled. What AWS has added is taken over by `manage.py sync_catalogue`; "
            "what expired is certified again by `manage.py recertify_stale`. A reason about "
            "access names the permission or the agreement that is missing."
        ),
    ),
    Runbook(
        "memory",
        _("No memory left"),
        _(
            "**Within 30 min.** A process grows, or the machine has no memory left and the kernel "
            "ends the largest process. `manage.py status` shows each process; a web process "
            "is replaced after 20,000 requests by itself. `manage.py restart worker` frees what a "
            "worker holds and loses no run. When it comes back: fewer calls in flight "
            "(`CERTIFICATION_CONCURRENCY`), fewer processes (`WEB_PROCESSES`, "
            "`CERTIFICATION_BULK_WORKERS`), or a larger machine."
        ),
    ),
    Runbook(
        "region_outage",
        _("Outage of a region or vendor"),
        _(
            "**Within 30 min.** Many runs of one region or one vendor fail at once, and none "
            "elsewhere. Compare with AWS's status page; no certification is lost because of "
            "it: what failed for lack of an answer is not judged. Silence the alert meanwhile "
            "(`manage.py alerts silence run_failures --for 2h --reason TEXT`), cancel the jobs "
            "that only try again, and certify anew when it is over: `manage.py job retry ID`."
        ),
    ),
    Runbook(
        "bad_release",
        _("A bad release"),
        _(
            "**Within 15 min.** Something is wrong since an upgrade. `manage.py doctor "
            "--after-deploy` says what. Go back to the release before: put its code in place, "
            "`make setup`, `manage.py restart`; tables that are newer than the code do not "
            "disturb it as long as the upgrade has not removed anything, which its notes in the "
            "changelog say. Data that the new release has spoilt come from the backup that was "
            "made before the upgrade: see `restore`."
        ),
    ),
    Runbook(
        "restore",
        _("Restore a backup"),
        _(
            "**Within 15 min.** Data are lost or wrong. Begin read-only mode, so that nothing is "
            "added: `manage.py readonly on --reason TEXT`. `manage.py backup list` has the "
            "backups, `manage.py backup verify FILE` proves one without touching anything, "
            "`manage.py restore FILE --dry-run` says what would be done. A restore leaves the "
            "current database beside the new one for seven days. Afterwards `manage.py doctor "
            "--data`, look through users and API keys (what was revoked since works again), and "
            "`manage.py readonly off`."
        ),
    ),
    Runbook(
        "lost_secrets",
        _("Secrets are lost"),
        _(
            "**Within 1 hour.** If `SECRET_KEY` is lost, set a new one: all sessions and tokens "
            "end, people log in again, and receivers of webhooks need new secrets. If the key "
            "of backups is lost, the old backups cannot be read any more: make a new key and a "
            "backup at "
            "once. If the key that signs certificates is lost, make another with `manage.py "
            "certificate_key --rotate`; what the old one signed can still be checked by its "
            "public part. AWS credentials: make new ones in AWS, withdraw the old ones."
        ),
    ),
    Runbook(
        "security_breach",
        _("A security breach"),
        _(
            "**At once.** Somebody may have had access who should not. Do not delete anything. "
            "Begin read-only mode, withdraw API keys and users in the admin, and make new AWS "
            "credentials; a new `SECRET_KEY` without fallbacks ends every session and token. The "
            "audit trail says who did what, when and from where; export it before it is needed. "
            "Save the logs (`manage.py logs --day DAY --json`) and a backup of this moment, then "
            "call the next level: who keeps the system decides what is told to whom."
        ),
    ),
)
BY_NAME = {book.name: book for book in RUNBOOKS}


def address(name: str) -> str:
    """Return where people read the runbook of this name, as messages name it."""
    # not by `reverse`: loading all pages for it would cost each worker 27 MB
    return f"{settings.PUBLIC_URL}/operations/runbooks/{name}/"


def document() -> str:
    """Return docs/runbooks.md."""
    with translation.override("en"):
        parts = ["# Runbooks", wrapped(INTRODUCTION)]
        for book in RUNBOOKS:
            parts += [f"## {book.name}", wrapped(str(book.text))]
    return "\n\n".join(parts) + "\n"


def wrapped(text: str) -> str:
    lines = textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)
