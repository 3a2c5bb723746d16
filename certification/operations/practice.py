"""Drills: a fault that a new operator finds and mends, on an installation with the emulator.

A drill switches the emulator's scenario (or pauses the queue) and starts a quick certification that
shows it. The operator names the cause; then the emulated account is mended, as somebody would mend
the real one, and what is left to do is the operator's: the drill is passed when a new certification
went through. Passed drills tick steps of the operator's training.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from certification.engine import backend, dispatch, pauses
from certification.engine.dispatch import CertifyOptions
from certification.lib import clock
from certification.models import (
    Backend,
    CertificationJob,
    CertificationRun,
    Drill,
    PauseCause,
    Priority,
    QueuePause,
    State,
    Tier,
    TrainingTick,
)
from certification.operations.documents import DRILLS_OF
from certification.reasons import Status
from certification.stack import programs

MODEL, REGION = "amazon.nova-micro-v1:0", "us-east-1"  # what a drill certifies
ANSWERED = (Status.CERTIFIED, Status.QUALITY_WARNING, Status.FAILED)  # the model was reached
TIMEOUT_S = 5


class DrillFault(Exception):
    """A drill cannot be done; the text says why and what to do."""


CAUSES = {
    "credentials_expired": gettext_lazy("The credentials have expired."),
    "access_denied": gettext_lazy("A policy does not allow the model."),
    "throttled": gettext_lazy("AWS throttles: the quota is used up."),
    "service_unavailable": gettext_lazy("AWS has an outage in the region."),
    "queue_paused": gettext_lazy("Somebody has paused the queue."),
    "worker_stopped": gettext_lazy("No worker takes messages."),
}


@dataclass(frozen=True)
class Scenario:
    """`rules` are TOML for the emulator, empty where it goes on as it is. `commands` show
    where to look; `mended` says what was done once the cause was named, `left`
    what the operator does then.
    """

    name: str
    symptom: str | Promise
    cause: str
    rules: str
    commands: Sequence[str]
    mended: str | Promise
    left: Sequence[str]


CERTIFY_AGAIN = f"manage.py certify {MODEL} --regions {REGION} --tier quick --wait"
ON_ACCOUNT = ("manage.py alerts", "manage.py job list", "manage.py logs --errors --since 10m")
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "credentials",
            gettext_lazy("Nothing is certified any more, in no region."),
            "credentials_expired",
            "[[rule]]\nexpired_credentials = true\n",
            (*ON_ACCOUNT, "manage.py doctor"),
            gettext_lazy("The account's administrator has issued new credentials."),
            ("manage.py queue", CERTIFY_AGAIN),
        ),
        Scenario(
            "access",
            gettext_lazy("One model is not certified any more; others are."),
            "access_denied",
            f'[[rule]]\nmodel = "{MODEL}"\naccess = "iam"\n',
            (*ON_ACCOUNT, "manage.py list_uncertified"),
            gettext_lazy("The account's administrator has allowed the model."),
            (CERTIFY_AGAIN,),
        ),
        Scenario(
            "quota",
            gettext_lazy("A model takes long, and ends without a verdict."),
            "throttled",
            f'[[rule]]\nmodel = "{MODEL}"\nthrottle = "requests"\n',
            (*ON_ACCOUNT, "manage.py analyze_performance --hours 1"),
            gettext_lazy("AWS has raised the quota."),
            (CERTIFY_AGAIN,),
        ),
        Scenario(
            "outage",
            gettext_lazy("One region answers nothing of use."),
            "service_unavailable",
            f'[[rule]]\nregion = "{REGION}"\nerror = 503\n',
            (*ON_ACCOUNT, "manage.py logs --by reason --since 10m"),
            gettext_lazy("The outage is over."),
            (CERTIFY_AGAIN,),
        ),
        Scenario(
            "paused",
            gettext_lazy("A certification was started and does not begin."),
            "queue_paused",
            "",
            ("manage.py queue", "manage.py status", "manage.py alerts"),
            gettext_lazy("Whoever paused the queue agrees that it goes on."),
            ("manage.py queue resume", "manage.py queue"),
        ),
    )
}


def require_emulator() -> None:
    """Raise DrillFault on an installation that calls AWS."""
    if backend.name() != Backend.EMULATOR:
        raise DrillFault(
            _("This installation calls AWS. Drills need one with the emulator: ")
            + "BEDROCK_BACKEND=emulator"
        )


def switch_emulator(scenario: str) -> None:
    """Have the emulator use a scenario: a shipped one by its name, or TOML. Raises DrillFault."""
    address = urlsplit(backend.endpoint_url())
    is_name = scenario.isidentifier() or scenario.replace("-", "_").isidentifier()
    body = json.dumps({"name": scenario}) if is_name else scenario
    headers = {"X-Emulator-Secret": programs.emulator_secret()}
    connection = http.client.HTTPConnection(
        address.hostname or "127.0.0.1", address.port, timeout=TIMEOUT_S
    )
    try:
        connection.request("POST", "/_emulator/scenario", body.encode(), headers)
        answer = connection.getresponse()
        text = answer.read(1000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise DrillFault(
            _("The emulator does not answer (%s). Start it with: manage.py up") % error
        ) from error
    finally:
        connection.close()
    if answer.status != 200:
        raise DrillFault(
            _("The emulator refuses: %s Start it again with: manage.py restart emulator") % text
        )


def usual_scenario() -> str:
    """Return what the emulator uses outside drills."""
    configured: str = settings.EMULATOR_SCENARIO or "default"
    path = Path(configured)
    return path.read_text(encoding="utf-8") if path.suffix == ".toml" else configured


def start(name: str, person: str) -> tuple[Drill, CertificationJob]:
    """Begin a drill. Raises DrillFault, and DispatchError where its certification cannot start."""
    require_emulator()
    scenario = SCENARIOS[name]
    try:
        with transaction.atomic():
            drill = Drill.objects.create(scenario=name, person=person)
    except IntegrityError:
        raise DrillFault(_("A drill is on already. End it with: manage.py practice stop")) from None
    try:
        if scenario.rules:
            switch_emulator(f'name = "practice"\ndescription = "A drill."\n\n{scenario.rules}')
        else:
            pauses.begin(
                PauseCause.PERSON, _("a drill"), _("Practice."), duration=timedelta(hours=2)
            )
        return drill, certify()
    except Exception:
        with contextlib.suppress(DrillFault):
            stop(drill)
        raise


def certify() -> CertificationJob:
    """Start the certification that shows the fault; the one that is at it already, if any."""
    pairs = dispatch.pairs_of(dispatch.find_models([MODEL]), dispatch.find_regions([REGION]))
    options = CertifyOptions(tier=Tier.QUICK, priority=Priority.INTERACTIVE, note="drill")
    try:
        return dispatch.certify(pairs, options).job
    except dispatch.AlreadyRunning as error:
        return error.job


def mend(scenario: Scenario) -> None:
    """Have the emulated account as it usually is."""
    if scenario.rules:
        switch_emulator(usual_scenario())


def answer(drill: Drill, cause: str) -> bool:
    """Take the operator's word for the cause. When it is right, the account is mended."""
    scenario = SCENARIOS[drill.scenario]
    if cause != scenario.cause:
        drill.wrong_answers += 1
        drill.save(update_fields=["wrong_answers"])
        return False
    if drill.fixed_at is None:
        mend(scenario)
        drill.fixed_at = clock.now()
        drill.save(update_fields=["fixed_at"])
    return True


def missing(drill: Drill) -> str:
    """Say what is not yet as it should be, "" when the drill is solved."""
    if drill.fixed_at is None:
        return _("The cause is not named yet.")
    if QueuePause.objects.open().filter(backend=backend.name()).exists():
        return _("The queue is still paused.")
    runs = CertificationRun.objects.filter(
        model__api_model_id=MODEL, region_id=REGION, completed_at__gt=drill.fixed_at
    )
    if not runs.filter(status=State.COMPLETED, verdict__in=ANSWERED).exists():
        return _("No certification of %(model)s in %(region)s has gone through since then.") % {
            "model": MODEL,
            "region": REGION,
        }
    return ""


def check(drill: Drill) -> str:
    """End a drill that is solved, and tick what it proves. Returns what is missing."""
    if sentence := missing(drill):
        return sentence
    drill.end(passed=True)
    passed = Drill.objects.filter(person=drill.person, passed=True)
    kinds = passed.order_by().values("scenario").distinct().count()
    for step, number in DRILLS_OF.items():
        if kinds >= number:
            TrainingTick.add(drill.person, step)
    return ""


def stop(drill: Drill) -> None:
    """Break a drill off: it is not passed, and the installation is as before."""
    drill.end(passed=False)
    scenario = SCENARIOS[drill.scenario]
    if not scenario.rules:
        pauses.end(PauseCause.PERSON, _("a drill"))
    mend(scenario)
