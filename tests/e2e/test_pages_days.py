"""Whole days at the pages: an operator's by mouse and by keyboard, a viewer's, a stranger's."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import resolve
from django_celery_results.models import TaskResult
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from certification.engine import certificates
from certification.models import (
    AIModel,
    Certificate,
    CertificationJob,
    CertificationRun,
    NextAction,
    User,
)
from certification.operations.tasks import run_routine
from certification.reasons import Reason, Status
from tests.browser import NEEDS_BROWSER, PASSWORD, Keyboard, Mouse, Visitor
from tests.factories import certify, finish, start_job
from tests.integration.test_run_page import TRIAL

pytestmark = NEEDS_BROWSER

REPORT = "6e1c7f0e-0000-4000-8000-000000000001"  # of a routine
NOVA, MICRO = "amazon.nova-lite-v1:0", "amazon.nova-micro-v1:0"
FIX = {
    "text": "Attach a policy that allows bedrock:InvokeModel.",
    "command": "aws iam put-role-policy --role-name caller",
    "who": "AWS account administrator",
    "wait": "",
    "url": "",
}
PASSED = [("G01", "passed", "It answered."), ("G02", "passed", "It streamed.")]


@dataclass
class World:
    """What there is, besides a refusal and a model below the line."""

    certificate: Certificate
    failed: CertificationRun
    waiting: CertificationJob


@pytest.fixture
def world(live_server: LiveServer, settings: Any, tmp_path: Path) -> World:
    settings.CERTIFICATE_FOLDER = tmp_path / "certificates"
    for role in ("viewer", "operator", "administrator"):
        is_staff = role == "administrator"
        User.objects.create_user(f"{role}@example.org", PASSWORD, role=role, is_staff=is_staff)
    nova, micro = (AIModel.objects.get(api_model_id=name) for name in (NOVA, MICRO))
    certify(nova, "us-east-1", tier="full", score=92, rating="A", results=PASSED)
    assert certificates.issue_due() == 1
    certify(
        nova,
        "us-west-2",
        Status.QUALITY_WARNING,
        tier="full",
        score=74,
        rating="C",
        reason=Reason.QUALITY_BELOW_LINE,
        message="The score is below the line.",
        results=[PASSED[0], ("G02", "failed", "It did not stream.")],
    )
    certify(
        nova,
        "eu-west-1",
        Status.PERMISSION_REQUIRED,
        reason=Reason.IAM_DENIED,
        message="You are not authorized.",
        fix=FIX,
    )
    failed = certify(
        micro,
        "us-east-1",
        Status.FAILED,
        score=31,
        rating="F",
        reason=Reason.GATE_FAILED,
        message="A gate failed.",
        results=[PASSED[0], ("G05", "failed", "It said something else.")],
        trials={"G05": [TRIAL]},
    )
    waiting = start_job([micro], ["eu-west-1"])
    store_report()
    return World(Certificate.objects.get(), failed, waiting)


def store_report() -> None:
    """A report of a routine in which a step failed, and what is to do about it."""
    step = {"step": "backup", "well": False, "seconds": 2.5, "text": "The disk is full."}
    report = {"routine": "daily", "well": False, "seconds": 2.5, "budgetSeconds": 300}
    TaskResult.objects.create(
        task_id=REPORT, task_name=run_routine.name, result=json.dumps({**report, "steps": [step]})
    )
    NextAction.objects.carry_over("daily", REPORT, [("backup", "The disk is full.")])


@pytest.mark.parametrize("hand", [Mouse, Keyboard])
def test_an_operators_day(visit: Any, world: World, hand: type[Mouse], tmp_path: Path) -> None:
    visitor = visit(permissions=["clipboard-read", "clipboard-write"])
    act = hand(visitor.page)
    log_in(visitor, act)
    start_two_models_in_three_regions_and_watch(visitor, act)
    read_and_copy_the_fix_of_a_red_cell(visitor, act)
    look_at_a_failed_trial(visitor, act)
    compare_two_regions(visitor, act)
    download_and_verify_the_certificate(visitor, act, world.certificate, tmp_path)
    cancel_a_job(visitor, act, world.waiting)
    change_language_and_theme(visitor, act)


def log_in(visitor: Visitor, act: Mouse) -> None:
    page = visitor.open("/login/?next=/")
    act.write(page.get_by_label("E-mail"), "operator@example.org")
    act.write(page.locator("#id_password"), PASSWORD)
    act.press(page.locator("main button[type=submit], main form button").first)
    expect(page.get_by_role("link", name="Start", exact=True)).to_be_visible()


def three_regions() -> list[str]:
    """Regions in which both models are offered and nothing was tested."""
    offered = [
        set(AIModel.objects.get(api_model_id=name).routes.values_list("region_id", flat=True))
        for name in (NOVA, MICRO)
    ]
    tested = set(CertificationRun.objects.values_list("region_id", flat=True))
    return sorted(set.intersection(*offered) - tested)[:3]


def start_two_models_in_three_regions_and_watch(visitor: Visitor, act: Mouse) -> None:
    page, regions = visitor.page, three_regions()
    act.press(page.get_by_role("link", name="Start", exact=True))
    page.wait_for_url("**/jobs/new/**")
    act.write(page.get_by_label("Find a model"), "nova")
    for name in (NOVA, MICRO):
        act.tick(page.locator(f'input[name=model][value="{name}"]'))
    for code in regions:
        act.tick(page.locator(f'input[name=region][value="{code}"]'))
    quick = page.locator('input[name=tier][value="quick"]')
    if isinstance(act, Keyboard):  # a group of radio buttons is one stop: arrows choose
        act.reach(page.locator("input[name=tier]:checked"))
        page.keyboard.press("ArrowUp")
        expect(quick).to_be_checked()
    else:
        quick.check()
    act.write(page.get_by_label("Note"), "before go-live")
    expect(page.locator("#plan input[name=note]")).to_have_value("before go-live")
    expect(page.locator("#plan .lead")).to_contain_text("6 runs, about")
    act.press(page.get_by_role("button", name=re.compile("^Start 6 runs")))
    expect(page.get_by_text("The job was started with 6 runs.").first).to_be_visible()
    expect(page.get_by_text("before go-live")).to_be_visible()
    job = CertificationJob.objects.get(note="before go-live")
    for run in job.runs.all():
        finish(run, Status.CERTIFIED, score=91, rating="A")
    expect(page.locator("h1 .j-COMPLETED")).to_be_visible()  # it polls: nobody reloads


def read_and_copy_the_fix_of_a_red_cell(visitor: Visitor, act: Mouse) -> None:
    page = visitor.page
    if isinstance(act, Keyboard):
        page.keyboard.press("g")
        page.keyboard.press("m")
        page.wait_for_url("**/matrix/**")
        page.keyboard.press("/")
        page.keyboard.type("nova")
        page.keyboard.press("Enter")
    else:
        page.get_by_role("link", name="Matrix", exact=True).first.click()
        page.get_by_label("Model", exact=True).fill("nova")
        page.get_by_label("Model", exact=True).press("Enter")
    page.wait_for_url("**q=nova**")
    cell = page.locator(f'tr[data-model="{NOVA}"] a[href$="/eu-west-1/"]').first
    act.press_cell(cell)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("You are not authorized.")
    expect(dialog).to_contain_text(FIX["text"])
    act.press(dialog.locator("button.copy"))
    expect(dialog.locator("button.copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == FIX["command"]
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def look_at_a_failed_trial(visitor: Visitor, act: Mouse) -> None:
    page = visitor.page
    act.press_cell(page.locator(f'tr[data-model="{MICRO}"] a[href$="/us-east-1/"]').first)
    act.press(page.get_by_role("dialog").get_by_role("link", name="Open as a page"))
    act.press(page.locator("ul.cases a", has_text="G05").first)
    page.wait_for_url("**/runs/**")
    exchange = page.locator(".exchange").last
    expect(exchange).to_contain_text("Say <b>hello</b>.")
    expect(exchange).to_contain_text("<script>alert(1)</script>")


def compare_two_regions(visitor: Visitor, act: Mouse) -> None:
    page = visitor.open(f"/certifications/{NOVA}/us-west-2/")
    act.press(page.get_by_role("link", name="Compare with us-east-1"))
    page.wait_for_url("**/compare/**")
    expect(page.locator("main .lead").first).to_be_visible()
    expect(page.locator("main")).to_contain_text("G02")


def download_and_verify_the_certificate(
    visitor: Visitor, act: Mouse, certificate: Certificate, folder: Path
) -> None:
    page = visitor.open(f"/certificates/{certificate.code}/")
    expect(page.locator("main")).to_contain_text("EMULATED")
    with page.expect_download() as download:
        act.press(page.get_by_role("link", name="JSON", exact=True))
    file = folder / "certificate.json"
    download.value.save_as(file)
    page = visitor.open("/verify/")
    page.get_by_label("Or the file").set_input_files(file)
    act.press(page.get_by_role("button", name="Verify the file"))
    expect(page.locator("#answer")).to_contain_text("Genuine, and in force")


def cancel_a_job(visitor: Visitor, act: Mouse, job: CertificationJob) -> None:
    page = visitor.open("/jobs/")
    act.press(page.locator(f'main a[href="/jobs/{job.pk}/"]').first)
    act.press(page.get_by_role("link", name="Cancel the job"))
    act.press(page.get_by_role("button", name="Cancel the job"))
    expect(page.get_by_text(re.compile("The job was cancelled")).first).to_be_visible()
    job.refresh_from_db()
    assert (job.status, job.cancelled_runs) == ("CANCELLED", 1)


def change_language_and_theme(visitor: Visitor, act: Mouse) -> None:
    page = visitor.page
    for button, attribute, value in (
        ("button[value=dark]", "data-theme", "dark"),
        ("button[value=pt-br]", "lang", "pt-br"),
    ):
        act.press(page.locator("#account-menu summary"))
        act.press(page.locator(f"#account-menu {button}"))
        expect(page.locator("html")).to_have_attribute(attribute, value)


# What each of the others may see. Pages by role; `{}` is filled by `addresses`.

PUBLIC = ("/login/", "/verify/", "/certificates/{code}/", "/badges/", "/m/{nova}/", "/m/no.such/")
INSIDE = (
    "/",
    "/matrix/",
    "/matrix/?q=nova&select=1&size=compact&show=score&since=7d",
    "/matrix/?q=nova&size=map",
    "/search/?q=nova",
    "/jobs/",
    "/jobs/{job}/",
    "/runs/{run}/?case=G05",
    "/certifications/{nova}/us-west-2/",
    "/compare/?a={nova}@us-east-1&b={nova}@us-west-2",
    "/operations/",
    "/operations/?tab=targets",
    "/operations/?tab=alerts",
    "/operations/?tab=queue",
    "/operations/?tab=routines",
    "/operations/?tab=capacity",
    "/operations/reports/{report}/",
    "/operations/people/",
    "/operations/checklists/daily/",
    "/operations/training/",
    "/operations/guides/user/",
    "/operations/guides/operations/",
    "/operations/runbooks/",
    "/operations/runbooks/queue_waiting/",
    "/account/",
    "/account/password/",
)
OPERATORS = (
    "/jobs/new/?model={nova}&region=us-east-1",
    "/jobs/{job}/cancel/",
    "/jobs/selection/?action=cancel&job={job}",
    "/operations/?tab=audit",
)

ADMIN = (
    "/admin/",
    "/admin/certification/certificationrun/",
    "/admin/certification/region/us-east-1/change/",
)


def addresses(world: World, *groups: tuple[str, ...]) -> Iterator[str]:
    names = {
        "code": world.certificate.code,
        "nova": NOVA,
        "job": world.waiting.pk,
        "run": world.failed.pk,
        "report": REPORT,
    }
    for group in groups:
        for path in group:
            yield path.format(**names)


VIEWERS_FORMS = {
    "/i18n/setlang/", "/theme/", "/logout/", "/matrix/selection/", "/matrix/views/", "/dismiss/",
    "/account/", "/account/end-other-sessions/", "/account/end-session/", "/account/keys/",
    "/account/password/",
}  # fmt: skip


def test_a_viewers_day_has_nothing_to_press_that_refuses(visit: Any, world: World) -> None:
    visitor = visit()
    page = visitor.log_in("viewer@example.org", "/")
    followed: set[str] = set()
    kinds: Counter[tuple[str, ...]] = Counter()
    for path in addresses(world, INSIDE):
        visitor.open(path)
        forms = page.locator("form[method=post]").evaluate_all(
            "forms => forms.map(form => form.getAttribute('action'))"
        )
        assert {form.partition("?")[0] for form in forms} <= VIEWERS_FORMS, path
        expect(page.locator("button[value=certify]")).to_have_count(0)
        for link in sorted(internal_links(page, visitor.root) - followed):
            followed.add(link)
            kinds[kind_of(link)] += 1
            if kinds[kind_of(link)] <= 2:
                answer = page.request.get(visitor.root + link, max_redirects=0)
                assert answer.status < 400, (path, link)
    assert len(followed) > 30


def internal_links(page: Page, root: str) -> set[str]:
    """The addresses on this server that a page links to."""
    links = page.locator("a[href]").evaluate_all("links => links.map(link => link.href)")
    inside = (urlsplit(link) for link in links if urljoin(root, link).startswith(root + "/"))
    return {part._replace(scheme="", netloc="", fragment="").geturl() for part in inside}


def kind_of(link: str) -> tuple[str, ...]:
    """The page that a link leads to and the names of what it is given: a matrix has a thousand
    links of a few kinds.
    """
    address = urlsplit(link)
    return resolve(address.path).route, *sorted(parse_qs(address.query, keep_blank_values=True))


def test_a_strangers_day(visit: Any, world: World) -> None:
    visitor = visit()
    page = visitor.page
    for path in addresses(world, INSIDE, OPERATORS):
        visitor.open(path)
        assert urlsplit(page.url).path == "/login/", path
    visitor.open(f"/m/{NOVA}/")
    expect(page.locator("main")).to_contain_text("us-east-1")
    text = page.locator("body").inner_text()
    assert "not authorized" not in text, "reasons are internal"
    assert "example.org" not in text
    visitor.open("/verify/")
    page.get_by_label("The code").fill(world.certificate.code.lower())
    page.get_by_role("button", name="Verify the code").click()
    expect(page.locator("#answer")).to_contain_text("Genuine, and in force")
    page.get_by_role("link", name=re.compile("^Open the certificate")).click()
    expect(page.locator("main h1")).to_contain_text("Nova Lite")
    page.get_by_role("link", name="Português").click()
    expect(page.locator("html")).to_have_attribute("lang", "pt-br")


AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
EVERYTHING = {"runOnly": {"type": "tag", "values": AXE_TAGS}}
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
RUN_AXE = """async rules => {
  const options = {...rules, resultTypes: ["violations"], preload: false};
  const places = fault => fault.nodes.slice(0, 3).map(node => node.target.join(" "));
  const {violations} = await axe.run(document, options);
  return violations.map(v => `${v.id} ${places(v)} ${v.nodes.length}`);
}"""
# A hundred rows of a matrix are alike: models that were never tested. Axe looks at ten of them.
DROP_ROWS_ALIKE = """() => {
  const alike = "#matrix tbody tr:not(.vendor, :has(a:not(.s-not_tested)))";
  for (const row of [...document.querySelectorAll(alike)].slice(10)) row.remove();
}"""
# Whatever the keyboard reaches shows that it does, by a line around it.
WITHOUT_VISIBLE_FOCUS = """() => {
  const fields = "a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']";
  const shown = [...document.querySelectorAll(fields)].filter(element => element.checkVisibility());
  const hidden = shown.filter(element => {
    element.focus({focusVisible: true, preventScroll: true});
    const style = getComputedStyle(element);
    return element === document.activeElement && element.matches(":focus-visible") &&
      (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2);
  });
  return hidden.slice(0, 3).map(element => element.outerHTML.slice(0, 80));
}"""
# WCAG 1.4.12, by a sheet that the policy of the page allows
SPACED = """() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync("*{line-height:1.5!important;letter-spacing:.12em!important;" +
    "word-spacing:.16em!important} p{margin-bottom:2em!important}");
  document.adoptedStyleSheets = [sheet];
}"""


def test_every_page_is_accessible_in_both_themes_and_fits_a_small_phone(
    visit: Any, world: World
) -> None:
    """By axe; the dark theme by its contrast alone, which is all that it changes. 320 px are also a
    window of 1280 px at 400 %; 640 px, with wider spaces in the text, one at 200 %.
    """
    visitor, source, faults = visit(), Axe().axe_script, []
    visitor.log_in("operator@example.org", "/")
    for path in addresses(world, PUBLIC[1:], INSIDE, OPERATORS):
        faults += faults_of(visitor, path, source)
    visitor.complaints[:] = [c for c in visitor.complaints if "404" not in c]  # of /m/no.such/
    administrator = visit()
    administrator.log_in("administrator@example.org", "/")
    for path in ADMIN:
        faults += faults_of(administrator, path, source)
    assert faults == []


def faults_of(visitor: Visitor, path: str, source: str) -> list[str]:
    """Return what is wrong with a page; `source` is axe's."""
    page, faults = visitor.open(path), []
    page.set_viewport_size({"width": 320, "height": 700})
    if visitor.overflow > 0:
        faults.append(f"{path}: {visitor.overflow} px too wide at 320")
    page.evaluate(DROP_ROWS_ALIKE)
    page.set_viewport_size({"width": 640, "height": 450})
    page.evaluate(SPACED)
    if visitor.overflow > 0:
        faults.append(f"{path}: {visitor.overflow} px too wide at 200 % with wide text")
    page.evaluate("document.adoptedStyleSheets = []")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.evaluate(source)
    for theme, rules in (("light", EVERYTHING), ("dark", CONTRAST)):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        faults += [f"{path} {theme}: {fault}" for fault in page.evaluate(RUN_AXE, rules)]
    faults += [f"{path}: no focus on {e}" for e in page.evaluate(WITHOUT_VISIBLE_FOCUS)]
    page.emulate_media(color_scheme="light")
    return faults


TRANSCRIPTS = Path(__file__).parent / "transcripts"
SPOKEN = {
    "matrix": ("/matrix/?q=nova-lite", "#matrix"),
    "job": ("/jobs/{finished}/", "main"),
    "certification": ("/certifications/{nova}/us-west-2/", "main"),
}
# what differs from day to day
CHANGING = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}", "ID"),
    (r"\b\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?", "TIME"),
    (r"\b\d{1,2} [A-Z][a-z]+ \d{4}(, \d\d:\d\d)?|[A-Z][a-z]{2,8}\.? \d{1,2}, \d{4}", "DAY"),
    (r"\b\d+([.,]\d+)? (ms|s|min|h|seconds?|minutes?|hours?|days?)\b", "TIME"),
    (r"just now|TIME ago|today|yesterday", "AGO"),
)


def test_what_a_screen_reader_says_is_what_it_said(visit: Any, world: World) -> None:
    """The tree of the main pages, as kept in `transcripts`. Where a page changed on purpose, delete
    its transcript and run this once: it is written anew. Read it aloud before you commit it.
    """
    visitor = visit()
    page = visitor.log_in("viewer@example.org", "/")
    changed = []
    for name, (path, part) in SPOKEN.items():
        visitor.open(path.format(nova=NOVA, finished=world.failed.job_id))
        text = page.locator(part).first.aria_snapshot() + "\n"
        for pattern, word in CHANGING:
            text = re.sub(pattern, word, text)
        file = TRANSCRIPTS / f"{name}.yaml"
        if not file.exists():
            file.write_text(text)
        if file.read_text() != text:
            changed += difflib.unified_diff(
                file.read_text().splitlines(), text.splitlines(), name, "now", lineterm=""
            )
    assert not changed, "\n".join(changed)
