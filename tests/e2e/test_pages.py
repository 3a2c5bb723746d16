"""What people click, in a real browser against a real server."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from certification.models import AIModel, CertificationJob, User
from certification.reasons import Reason, Status
from tests.browser import NEEDS_BROWSER, PASSWORD
from tests.factories import certify, finish, start_job

pytestmark = NEEDS_BROWSER
ONE_ROW = "/matrix/?q=amazon.nova-lite"  # the whole matrix has a hundred


@pytest.fixture
def model(live_server: LiveServer) -> AIModel:
    """A model that is certified in one region, refused in another and running in a third."""
    for role in ("viewer", "operator", "administrator"):
        User.objects.create_user(
            f"{role}@example.org", PASSWORD, role=role, is_staff=role != "viewer"
        )
    row = AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0")
    certify(row, "us-east-1", results=[("G01", "passed", "It answered.")])
    certify(
        row,
        "eu-west-1",
        Status.PERMISSION_REQUIRED,
        reason=Reason.IAM_DENIED,
        message="You are not authorized.",
        fix={"text": "Attach a policy."},
    )
    start_job([row], ["us-west-2"])
    return row


def cell(page: Page, model: AIModel, region: str) -> Any:
    return page.locator(f'#matrix a[href="/certifications/{model.pk}/{region}/"]')


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_viewer_logs_in_and_opens_a_cell(visit: Any, model: AIModel, scheme: str) -> None:
    page = visit(scheme=scheme).fill_in_login("viewer@example.org", "/matrix/")
    expect(page.locator("#matrix")).to_be_visible()
    expect(page.get_by_text("Results from the emulator, not from AWS.").first).to_be_visible()
    cell(page, model, "eu-west-1").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("You are not authorized.")
    expect(dialog).to_contain_text("Attach a policy.")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert page.url.endswith("/matrix/")


def test_dark_is_dark(visit: Any, model: AIModel) -> None:
    def brightness(scheme: str) -> int:
        page = visit(scheme=scheme).open("/login/")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))

    assert brightness("dark") < 150
    assert brightness("light") > 600


def test_the_chosen_theme_stays(visit: Any, model: AIModel) -> None:
    page = visit(scheme="light").log_in("viewer@example.org", "/")
    page.locator("#account-menu summary").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colour == "rgb(17, 21, 28)"
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_keys_lead_to_pages_and_show_themselves(visit: Any, model: AIModel) -> None:
    page = visit().log_in("operator@example.org", "/")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Keyboard shortcuts")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("m")
    page.wait_for_url("**/matrix/")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Model")).to_be_focused()
    page.keyboard.type("gm?")
    assert page.get_by_role("searchbox", name="Model").input_value() == "gm?"


def test_a_page_says_when_it_hears_nothing_and_can_be_paused(visit: Any, model: AIModel) -> None:
    visitor = visit()
    visitor.page.clock.install()
    page = visitor.log_in("viewer@example.org", "/")
    strip = page.locator("#live")
    page.clock.run_for(2_000)
    expect(strip).to_contain_text("updated")
    page.get_by_role("button", name="Pause").click()
    expect(strip).to_contain_text("paused")
    page.get_by_role("button", name="Resume").click()
    page.context.set_offline(True)
    for _ in range(4):
        page.clock.run_for(3_000)
        page.wait_for_timeout(50)
    expect(strip).to_contain_text("not updated since")
    page.context.set_offline(False)
    page.clock.run_for(3_000)
    expect(strip).to_contain_text("updated")
    visitor.complaints.clear()  # the browser complains about the network that was away


def test_keys_move_in_the_matrix_and_select_what_is_started(visit: Any, model: AIModel) -> None:
    page = visit().log_in("operator@example.org", "/matrix/?q=nova-lite-v1")
    cell(page, model, "us-east-1").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(cell(page, model, "us-east-1")).to_be_focused()
    card, place = page.locator("#cell-card"), page.locator("#matrix").bounding_box()
    expect(card).to_contain_text(f"{model.name} · us-east-1")
    expect(card.locator(".words")).to_contain_text("Certified")
    page.keyboard.press("Tab")
    expect(card.get_by_role("link", name="Open as a page")).to_be_focused()
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()
    expect(cell(page, model, "us-east-1")).to_be_focused()
    assert page.locator("#matrix").bounding_box() == place
    page.keyboard.press("Space")
    bar = page.locator("#selection")
    expect(bar).to_contain_text("Pairs chosen: 1, never tested: 0")
    page.keyboard.press("Shift+End")
    page.keyboard.press("Escape")
    expect(bar).to_be_hidden()
    page.keyboard.press("Control+a")
    page.keyboard.press("Escape")
    cell(page, model, "eu-west-1").focus()
    page.keyboard.press("Space")
    page.get_by_role("columnheader", name="us-east-1").click()
    expect(bar).to_contain_text("Pairs chosen: 2")
    assert page.locator("#matrix a[tabindex='0']").count() == 1
    page.get_by_role("button", name="Certify these").click()
    page.wait_for_url("**/jobs/new/?pair=*")
    expect(page.get_by_role("button", name="Start 2 runs")).to_be_visible()


def test_a_cell_opens_as_a_page_without_javascript(visit: Any, model: AIModel) -> None:
    page = visit(java_script_enabled=False).log_in("viewer@example.org", ONE_ROW)
    cell(page, model, "us-east-1").click()
    assert page.url.endswith(f"/certifications/{model.pk}/us-east-1/")
    expect(page.locator("main")).to_contain_text("It answered.")


def test_a_phone_shows_regions_as_chips(visit: Any, model: AIModel) -> None:
    page = visit(width=390).log_in("viewer@example.org")
    chip = cell(page, model, "us-east-1")
    expect(chip.locator("em")).to_be_hidden()
    page.locator(".fold summary", has_text=model.vendor).click()
    expect(chip.locator("em")).to_be_visible()
    chip.click()
    expect(page.get_by_role("dialog")).to_contain_text("Usable.")


def test_the_language_is_switched(visit: Any, model: AIModel) -> None:
    page = visit().log_in("viewer@example.org", ONE_ROW)
    page.locator("#account-menu summary").click()
    page.get_by_role("button", name="PT").click()
    expect(page.locator("html")).to_have_attribute("lang", "pt-br")
    expect(page.get_by_text("Resultados do emulador, não da AWS.").first).to_be_visible()
    cell(page, model, "eu-west-1").click()
    expect(page.get_by_role("dialog")).to_contain_text("permissão necessária")


def test_choosing_a_vendor_filters_at_once(visit: Any, model: AIModel) -> None:
    page = visit().log_in("viewer@example.org")
    page.locator("select[name=vendor]").select_option("Anthropic")
    page.wait_for_url("**/matrix/?vendor=Anthropic")
    expect(page.locator("tr.vendor")).to_have_count(1)


def test_a_finished_run_appears_without_a_reload(visit: Any, model: AIModel) -> None:
    visitor = visit()
    visitor.page.clock.install()
    page = visitor.log_in("viewer@example.org", ONE_ROW)
    running = cell(page, model, "us-west-2")
    expect(running).to_have_attribute("aria-label", "us-west-2: not tested, running")
    finish(model.runs.get(region="us-west-2"), Status.CERTIFIED, score=89, rating="B")
    page.clock.run_for(60_000)  # until the page asks again
    expect(running).to_have_attribute(
        "aria-label", re.compile("us-west-2: certified, gates only, score 89")
    )


def test_the_admin_works_under_the_content_policy(visit: Any, model: AIModel) -> None:
    visitor = visit()
    page = visitor.log_in("administrator@example.org", "/account/")
    run = model.runs.filter(region="us-east-1").get()
    for path in (
        "/admin/",
        "/admin/certification/aimodel/",
        f"/admin/certification/aimodel/{model.pk}/change/",
        f"/admin/certification/certificationrun/{run.pk}/change/",
        f"/admin/certification/testresult/{run.results.get().pk}/change/",
        "/admin/certification/user/add/",
        "/admin/certification/route/add/",
        "/admin/certification/region/",
    ):
        visitor.open(path)
        expect(page.locator("#content")).to_be_visible()


# What the browser would show beside its window, noted; the tab is hidden.
NOTE_NOTICES = """
  window.notices = [];
  window.Notification = class {
    static permission = "granted";
    static requestPermission() { window.notices.push("asked"); }
    constructor(title, options) { document.documentElement.dataset.notice = options.body.trim(); }
  };
  if (location.pathname.startsWith("/jobs/")) {
    Object.defineProperty(document, "visibilityState", {get: () => "hidden"});
  }
"""


def test_who_wants_it_is_told_when_a_job_in_a_hidden_tab_ends(visit: Any, model: AIModel) -> None:
    """What is wanted is saved by itself, and leaves the keyboard where it is."""
    visitor = visit()
    page = visitor.page
    page.add_init_script(NOTE_NOTICES)
    visitor.log_in("viewer@example.org", "/account/")
    box = page.locator("#id_job_notices")
    box.focus()
    page.keyboard.press("Space")
    expect(page.locator(".saved", has_text="Saved")).to_have_count(1)
    expect(box).to_be_focused()
    expect(page.locator("html")).to_have_attribute("data-notices", "on")
    assert page.evaluate("notices") == ["asked"]
    job = CertificationJob.objects.get(completed_at=None)
    visitor.open(f"/jobs/{job.pk}/")
    finish(job.runs.get(), Status.CERTIFIED, score=91, rating="A")
    notice = "1 of 1 run finished: 1 certified."
    expect(page.locator("html")).to_have_attribute("data-notice", notice)


def test_new_jobs_wait_until_somebody_wants_to_see_them(visit: Any, model: AIModel) -> None:
    visitor = visit()
    visitor.page.clock.install()
    page = visitor.log_in("viewer@example.org", "/jobs/")
    rows = page.locator("#job-list tbody tr")
    expect(rows).to_have_count(3)
    first = rows.first.get_attribute("id")
    new = start_job([model], ["ap-south-1"])
    page.clock.run_for(15_000)
    expect(page.get_by_role("button", name="1 new: show")).to_be_visible()
    expect(page.locator(f"#job-{new.pk}")).to_be_hidden()
    expect(page.locator(f"#{first}")).to_be_visible()
    page.get_by_role("button", name="1 new: show").click()
    expect(page.locator(f"#job-{new.pk} a")).to_be_focused()


def test_a_cell_that_changed_is_marked(visit: Any, model: AIModel) -> None:
    page = visit().log_in("viewer@example.org", ONE_ROW)
    changing = cell(page, model, "us-west-2")
    expect(changing).to_be_visible()
    page.evaluate(
        """() => {
            window.changed = new Promise((resolve, reject) => {
                setTimeout(reject, 30000, new Error("No cell was marked."));
                new MutationObserver((records) => {
                    const cells = records.map((record) => record.target);
                    const marked = cells.filter((cell) => cell.classList.contains("changed"));
                    if (marked.length) resolve([...new Set(marked.map((cell) => cell.href))]);
                }).observe(document.body, { attributeFilter: ["class"], subtree: true });
            });
        }"""
    )
    finish(model.runs.get(region="us-west-2"), Status.CERTIFIED, score=95, rating="A")
    page.keyboard.press("r")
    [marked] = page.evaluate("() => window.changed")
    assert marked.endswith("/us-west-2/")
