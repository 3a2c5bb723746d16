"""The steps of a smoke test: pages, API, and one quick certification from its start to its badge.

Each step asks as a user would and ends with a sentence; what a step learns, later ones use.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from certification.engine import dispatch
from certification.engine.dispatch import CertifyOptions
from certification.lib import foreign_text
from certification.management import follow
from certification.models import (
    TERMINAL,
    AIModel,
    CertificationJob,
    ModelKind,
    Priority,
    Region,
    State,
    TestResult,
    Tier,
)
from certification.operations.site import Answer, NotAnswered, Site

NOTE = "smoke test"
STYLESHEET = re.compile(r'<link rel="stylesheet" href="(/[^"]+)"')
MAX_DETAIL = 300  # characters


class StepFailed(Exception):
    """A step did not go well; the text says what happened and what to do."""


@dataclass(frozen=True)
class Step:
    """How one step went: `detail` is a sentence."""

    name: str
    ok: bool
    seconds: float
    detail: str


@dataclass(frozen=True)
class Pair:
    """What is certified, as its id and the region's code."""

    model: str
    region: str


@dataclass
class Smoke:
    """A smoke test of one installation. With `remote` its certification is started by the API and
    with the site's key, else by this installation's own database.
    """

    site: Site
    pair: Pair | None  # None: only pages and API
    remote: bool
    max_cost_usd: float
    patience_s: float
    job_id: str = ""
    verdict: str = ""
    _runs: Any = None  # ours of the job
    _is_ours: bool = False  # the job

    def steps(self) -> Mapping[str, Callable[[], str]]:
        """Return what will be done, in this order, by name."""
        steps = {
            "live": self.live,
            "ready": self.ready,
            "health": self.health,
            "pages": self.pages,
            "api": self.api,
        }
        if self.pair:
            steps |= {
                "start": self.start,
                "certification": self.certification,
                "evidence": self.evidence,
                "badge": self.badge,
            }
        return steps

    def run(self) -> Iterator[Step]:
        """Do the steps; after one of the certification failed, those that rest on it are left
        out.
        """
        for name, do in self.steps().items():
            started = time.monotonic()
            try:
                ok, detail = True, do()
            except (StepFailed, NotAnswered, dispatch.DispatchError) as error:
                ok, detail = False, str(error)
            text = foreign_text.clean(detail)[:MAX_DETAIL]
            yield Step(name, ok, round(time.monotonic() - started, 2), text)
            if not ok and name in ("start", "certification"):
                return

    def live(self) -> str:
        expect(self.site.get("/live"), 200)
        return "The web server answers."

    def ready(self) -> str:
        answer = self.site.get("/ready")
        if answer.status != 200:
            raise StepFailed(f"Not ready: {faults_of(answer)}.")
        return "Database, Redis and tables are ready."

    def health(self) -> str:
        answer = self.site.get("/health")
        if answer.status != 200:
            raise StepFailed(f"Degraded: {faults_of(answer)}. See: manage.py doctor")
        return "All is well."

    def pages(self) -> str:
        """Read the page of the login and a stylesheet: without it every page is bare."""
        page = expect(self.site.get("/login/"), 200, "text/html")
        sheet = STYLESHEET.search(page.text)
        if "<form" not in page.text or sheet is None:
            raise StepFailed("/login/ is not our page. Does the address lead to something else?")
        if self.site.get(sheet[1]).content_type != "text/css":
            raise StepFailed(f"{sheet[1]} is missing. Run: manage.py collectstatic")
        return "The page of the login comes with its style."

    def api(self) -> str:
        expect(self.site.get("/api/health"), 200, "application/json")
        refused = self.site.get("/api/auth/me").json()
        if not isinstance(refused, dict) or refused.get("code") != 401:
            raise StepFailed("/api/auth/me answers without a login.")
        if self.remote and self.site.key:
            expect(self.site.get("/api/auth/me", signed=True), 200, "application/json")
            return "The API answers, and takes the key."
        return "The API answers, and asks for a login."

    def start(self) -> str:
        assert self.pair is not None  # noqa: S101 - `steps` leaves it out otherwise
        if self.remote:
            body = {
                "modelId": self.pair.model,
                "region": self.pair.region,
                "tier": Tier.QUICK,
                "priority": Priority.INTERACTIVE,
                "maxCostUsd": self.max_cost_usd,
                "note": NOTE,
            }
            answer = self.site.post("/api/certification-queue/certify-model", body)
            self.job_id = str(value_in(answer.json(), "data", "jobId") or "")
            self._is_ours = answer.status == 201
            if self._is_ours and self.job_id:
                return f"Job {self.job_id} was started."
            message = value_in(answer.json(), "message") or answer.status
            if not (answer.status == 409 and self.job_id):
                raise StepFailed(f"It was refused: {message}")
            return f"Job {self.job_id} is already at it."
        options = CertifyOptions(
            tier=Tier.QUICK,
            priority=Priority.INTERACTIVE,
            max_cost_usd=self.max_cost_usd,
            note=NOTE,
        )
        models, regions = dispatch.find_models([self.pair.model]), [self.pair.region]
        pairs = dispatch.pairs_of(models, dispatch.find_regions(regions))
        try:
            job, words = dispatch.certify(pairs, options).job, "was started."
            self._is_ours = True
        except dispatch.AlreadyRunning as error:
            job, words = error.job, "is already at it."
        self.job_id = str(job.pk)
        self._runs = job.runs.filter(model__in=models, region__in=regions).select_related("model")
        return f"Job {job.pk} {words}"

    def cancel(self) -> None:
        """Cancel the job, if we started it."""
        if self._is_ours and self.remote:
            with suppress(NotAnswered):
                path = f"/api/certification-queue/jobs/{quote(self.job_id)}"
                self.site.call("DELETE", path, signed=True)
        elif self._is_ours:
            job = CertificationJob.objects.get(pk=self.job_id)
            follow.cancel(job, "Cancelled from the terminal with Ctrl-C.")

    def certification(self) -> str:
        """Wait for the verdict, whichever it is: whether the model is good is not asked here."""
        deadline = time.monotonic() + self.patience_s
        status, run = "", dict[str, Any]()
        while status not in TERMINAL:
            if time.monotonic() > deadline:
                raise StepFailed(
                    f"The job has not ended within {self.patience_s:g} s: it is {status}. "
                    "Do workers run? See: manage.py queue"
                )
            time.sleep(follow.POLL_S)
            status, run = self.read_remote_job() if self.remote else self.read_job()
        self.verdict = str(run.get("verdict") or "")
        if status != State.COMPLETED or not self.verdict:
            why = run.get("errorMessage") or "without a reason"
            raise StepFailed(f"The run ended as {status}: {why}")
        return f"The verdict is {self.verdict.replace('_', ' ')}."

    def read_job(self) -> tuple[str, dict[str, Any]]:
        """Return the state of our run, and the run."""
        run = self._runs.all().first()
        return (run.status, run.to_dict()) if run else (State.FAILED, {})

    def read_remote_job(self) -> tuple[str, dict[str, Any]]:
        answer = self.site.get(f"/api/certification-queue/jobs/{quote(self.job_id)}", signed=True)
        runs = value_in(answer.json(), "data", "certifications")
        for run in runs if isinstance(runs, list) else ():
            if value_in(run, "region") == (self.pair and self.pair.region):
                return str(value_in(run, "status")), run
        raise StepFailed(f"The job's run could not be read (status {answer.status}).")

    def evidence(self) -> str:
        """Look for the results of single cases, which prove the verdict."""
        assert self.pair is not None  # noqa: S101
        if self.remote:
            name = quote(f"{self.pair.model}:{self.pair.region}", safe=":")
            answer = self.site.get(f"/api/certification-queue/certifications/{name}", signed=True)
            results = value_in(answer.json(), "data", "results")
            number = len(results) if isinstance(results, list) else 0
        else:
            number = TestResult.objects.filter(run__in=self._runs.all()).count()
        if not number:
            raise StepFailed("The run stored no results of its cases.")
        return f"{number} cases have stored results."

    def badge(self) -> str:
        assert self.pair is not None  # noqa: S101
        path = f"/badges/{quote(self.pair.model, safe=':')}/{quote(self.pair.region)}.svg"
        if "<svg" not in expect(self.site.get(path), 200, "image/svg+xml").text:
            raise StepFailed("The badge is no picture.")
        return "The badge is drawn."


def cheapest_pair(region: str = "", model: str = "") -> Pair | None:
    """Return the offered pair whose model has the lowest known price, of this region and model
    where they are named; None without any. Raises DispatchError for unknown ones.
    """
    regions = dispatch.find_regions([region]) if region else list(Region.objects.enabled())
    if model:
        models = AIModel.objects.filter(pk=dispatch.find_models([model])[0].pk)
    else:
        models = AIModel.objects.active().filter(kind=ModelKind.TEXT, output_price__gt=0)
    offered = models.filter(routes__region__in=regions)
    order = ("output_price", "api_model_id", "routes__region")
    row = offered.order_by(*order).values_list("api_model_id", "routes__region").first()
    return Pair(*row) if row else None


def expect(answer: Answer, status: int, content_type: str = "") -> Answer:
    """Return the answer. Raises StepFailed where it has another status or kind."""
    if answer.status != status:
        raise StepFailed(f"It answered {answer.status} instead of {status}.")
    if content_type and answer.content_type != content_type:
        kind = answer.content_type[:60] or "no type"
        raise StepFailed(f"It answered {kind} instead of {content_type}.")
    return answer


def faults_of(answer: Answer) -> str:
    """Name what a health page says is wrong; its status where it says nothing."""
    checks = value_in(answer.json(), "checks")
    if not isinstance(checks, dict):
        return f"status {answer.status}"
    return "; ".join(
        f"{name}: {state}" for name, state in checks.items() if not str(state).startswith("ok")
    )


def value_in(document: Any, *names: str) -> Any:
    """Return the value under these names, one inside the other; None where there is none."""
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document
