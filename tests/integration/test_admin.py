"""The admin: every model opens with data, evidence is read-only, actions call the engine, users are
kept by administrators.
"""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.http import QueryDict
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils.http import urlencode
from django_celery_beat.models import (
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

from bench.fuzz_requests import STRANGE
from certification import admin_site
from certification.admin import MAX_CERTIFIED
from certification.models import (
    AIModel,
    ApiKey,
    CertificationJob,
    CertificationRun,
    ModelCertification,
    Provider,
    QueuePause,
    Region,
    Route,
    State,
    TestResult,
    User,
)
from certification.reasons import Reason, Status
from tests.factories import certify, finish, start_job

pytestmark = pytest.mark.django_db

OURS = [
    AIModel, CertificationJob, CertificationRun, ModelCertification, Provider, QueuePause, Region,
    Route, TestResult, User,
]  # fmt: skip
EVIDENCE = [CertificationJob, CertificationRun, ModelCertification, QueuePause, TestResult]
admin.autodiscover()  # the tests below take every list there is

MOMENTS = [
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00", "2026-01-02",
    "2026-01-02 03:04", "2026-01-02T03:04:05Z", "12:00", "2026-01-02T25:00",
]  # fmt: skip
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def model(catalogue: None) -> AIModel:
    return AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0")


@pytest.fixture
def data(model: AIModel) -> CertificationRun:
    """A row of every model, with text that must be escaped."""
    run = certify(
        model,
        "us-east-1",
        Status.FAILED,
        reason=Reason.GATE_FAILED,
        message=EVIL,
        fix={"text": EVIL},
        results=[("G01", "failed", EVIL)],
    )
    TestResult.objects.update(trials=[{"reply": EVIL}])
    QueuePause.objects.create(
        backend="aws",
        error_category="AUTHENTICATION_ERROR",
        error_reason=Reason.CREDENTIALS_INVALID,
        message=EVIL,
    )
    return run


@pytest.fixture
def as_superuser(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root@example.org", "a-long-test-password"))
    return client


def address(row_or_class: object, page: str, *args: object) -> str:
    meta = row_or_class._meta  # type: ignore[attr-defined]
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_{page}", args=args)


def act(client: Client, cls: type, action: str, *rows: object) -> str:
    """What the page says after a confirmed action on these rows."""
    keys = [str(row.pk) for row in rows]  # type: ignore[attr-defined]
    chosen = {"action": action, "_selected_action": keys, "confirmed": "yes"}
    response = client.post(address(cls, "changelist"), chosen, follow=True)
    return str(response.content.decode())


@pytest.mark.parametrize("cls", OURS, ids=lambda cls: cls.__name__)
def test_list_search_and_detail_open(
    as_superuser: Client, data: CertificationRun, cls: type
) -> None:
    row = cls.objects.first()  # type: ignore[attr-defined]
    for path in (
        address(cls, "changelist"),
        address(cls, "changelist") + "?q=nova",
        address(cls, "changelist") + f"?q={data.pk}",
        address(cls, "change", row.pk),
    ):
        response = as_superuser.get(path)
        assert response.status_code == 200, path
        assert EVIL not in response.content.decode()


@pytest.mark.parametrize("cls", admin.site._registry, ids=lambda cls: cls._meta.label)
def test_every_list_opens(as_superuser: Client, cls: type) -> None:
    assert as_superuser.get(address(cls, "changelist")).status_code == 200


@pytest.mark.parametrize("cls", admin.site._registry, ids=lambda cls: cls._meta.label)
def test_an_address_may_give_an_empty_form_any_values(
    as_superuser: Client, catalogue: None, rf: RequestFactory, cls: type
) -> None:
    model_admin = admin.site._registry[cls]
    names = [f.name for f in model_admin.opts.get_fields() if hasattr(f, "attname")]
    request = rf.get("/")
    request.user = User.objects.get(email="root@example.org")
    if not model_admin.has_add_permission(request):
        return
    form = model_admin.get_form(request)
    fields = form.base_fields.items()  # a long list is drawn once, with its page
    short = [name for name, field in fields if len([*getattr(field, "choices", ())]) < 50]
    # an address with a NUL is refused before
    for value in (value for value in (*STRANGE, *MOMENTS) if "\0" not in value):
        query = dict.fromkeys([*names, "groups", "user_permissions"], value)
        request.GET = QueryDict(urlencode(query))
        empty = form(initial=model_admin.get_changeform_initial_data(request))
        assert all(str(empty[name]) for name in short)
    assert as_superuser.get(address(cls, "add"), query).status_code == 200


def test_an_address_gives_an_empty_form_its_times(as_superuser: Client) -> None:
    path = address(ApiKey, "add")
    html = as_superuser.get(path, {"expires_at": "2027-03-04T05:06:00-03:00"}).content.decode()
    assert 'value="2027-03-04"' in html
    assert 'value="08:06:00"' in html


def test_filters_speak_the_reader_s_language(as_superuser: Client, data: CertificationRun) -> None:
    path = address(CertificationRun, "changelist") + "?verdict__exact=failed"
    html = as_superuser.get(path, headers={"Accept-Language": "pt-BR"}).content.decode()
    assert "permissão necessária" in html
    assert "permission required" not in html


def test_the_index_opens(as_superuser: Client) -> None:
    assert "MyIA Certification" in as_superuser.get("/admin/").content.decode()


@pytest.mark.parametrize("cls", EVIDENCE, ids=lambda cls: cls.__name__)
def test_evidence_is_read_only_even_for_superusers(
    as_superuser: Client, data: CertificationRun, cls: type
) -> None:
    row = cls.objects.first()  # type: ignore[attr-defined]
    assert as_superuser.get(address(cls, "add")).status_code == 403
    assert as_superuser.get(address(cls, "delete", row.pk)).status_code == 403
    assert as_superuser.post(address(cls, "change", row.pk), {"score": 100}).status_code == 403
    html = as_superuser.get(address(cls, "change", row.pk)).content.decode()
    assert 'name="_save"' not in html


def test_lists_have_few_columns() -> None:
    wide = {
        cls.__name__: len(model_admin.list_display)
        for cls, model_admin in admin.site._registry.items()
        if len(model_admin.list_display) > 8
    }
    assert not wide


def test_the_first_page_groups_the_lists_by_task(as_superuser: Client, rf: RequestFactory) -> None:
    request = rf.get("/admin/")
    request.user = User.objects.get(email="root@example.org")
    groups = {group["name"]: group["models"] for group in admin.site.get_app_list(request)}
    assert [*groups] == [
        "Catalogue", "Certification", "Schedules", "Integrations", "People", "Record",
    ]  # fmt: skip
    listed = [entry["model"] for entries in groups.values() for entry in entries]
    assert set(listed) == set(admin.site._registry)
    assert len(listed) == len(set(listed))
    html = as_superuser.get("/admin/").content.decode()
    assert html.index("Catalogue") < html.index("Schedules") < html.index("People")


@pytest.mark.parametrize("theme", ["auto", "dark"])
def test_the_admin_has_the_theme_and_the_links_of_the_product(
    as_superuser: Client, theme: str
) -> None:
    as_superuser.cookies["theme"] = theme
    html = as_superuser.get("/admin/certification/region/").content.decode()
    assert f"theme-{theme}" in html
    assert '<a href="/jobs/">' in html
    assert "admin/js/theme.js" not in html


def test_rows_lead_to_the_pages_of_the_product(
    as_superuser: Client, data: CertificationRun
) -> None:
    for cls, path in (
        (CertificationRun, f"/runs/{data.pk}/"),
        (CertificationJob, f"/jobs/{data.job_id}/"),
        (ModelCertification, f"/certifications/{data.model_id}/us-east-1/"),
        (AIModel, f"/matrix/?q={data.model.api_model_id.replace(':', '%3A')}"),
    ):
        query = {"q": data.model.api_model_id} if cls is not CertificationJob else {}
        html = as_superuser.get(address(cls, "changelist"), query).content.decode()
        assert f'href="{path}"' in html, cls
    html = as_superuser.get(address(CertificationRun, "changelist")).content.decode()
    assert '<span class="badge s-failed">✕ failed</span>' in html


def test_a_schedule_says_when_it_runs_next(as_superuser: Client) -> None:
    every, _new = IntervalSchedule.objects.get_or_create(every=6, period="hours")
    at, _new = CrontabSchedule.objects.get_or_create(minute="30", hour="4")
    sun = SolarSchedule.objects.create(event="sunrise", latitude=1, longitude=1)
    for schedule in ({"interval": every}, {"crontab": at}, {"solar": sun}):
        PeriodicTask.objects.create(name=str(schedule), task="a.task", **schedule)
    html = as_superuser.get(address(PeriodicTask, "changelist")).content.decode()
    assert "every 6 hours" in html
    assert "At 04:30" in html


def test_evidence_is_shown_readable_and_escaped(
    as_superuser: Client, data: CertificationRun
) -> None:
    html = as_superuser.get(address(TestResult, "change", data.results.get().pk)).content.decode()
    assert '<pre class="evidence">' in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize(
    ("cls", "budget"),
    [(CertificationRun, 12), (ModelCertification, 12), (AIModel, 12), (Route, 12)],
)
def test_lists_do_not_ask_once_per_row(
    as_superuser: Client,
    catalogue: None,
    django_assert_max_num_queries: object,
    cls: type,
    budget: int,
) -> None:
    for model in AIModel.objects.filter(routes__region="us-east-1").distinct()[:15]:
        certify(model, "us-east-1")
    with django_assert_max_num_queries(budget):  # type: ignore[operator]
        assert as_superuser.get(address(cls, "changelist")).status_code == 200


class TestActions:
    def test_certify_opens_the_page_that_says_what_it_takes(
        self, as_operator: Client, model: AIModel
    ) -> None:
        html = act(as_operator, AIModel, "certify", model)
        offered = model.routes.filter(region__enabled=True).values("region").distinct().count()
        assert f"Start {offered} runs" in html
        assert not CertificationJob.objects.exists()

    def test_certify_takes_as_many_models_as_an_address_can_name(
        self, as_operator: Client, catalogue: None
    ) -> None:
        models = AIModel.objects.all()[: MAX_CERTIFIED + 1]
        assert "More than 60 models" in act(as_operator, AIModel, "certify", *models)

    @pytest.mark.parametrize("action", ["cancel", "retry"])
    def test_what_stops_or_costs_asks_first_and_then_acts_on_what_it_showed(
        self, as_operator: Client, model: AIModel, action: str
    ) -> None:
        jobs = [start_job([model], [region]) for region in ("us-east-1", "us-west-2")]
        chosen = {"action": action, "_selected_action": [str(jobs[0].pk)]}
        response = as_operator.post(address(CertificationJob, "changelist"), chosen)
        html = response.content.decode()
        assert "This affects 1 row:" in html
        assert f'name="_selected_action" value="{jobs[0].pk}"' in html
        assert str(jobs[1].pk) not in html
        assert not CertificationJob.objects.filter(status=State.CANCELLED).exists()
        assert CertificationJob.objects.count() == 2

    def test_more_rows_than_can_be_confirmed_are_refused(
        self, as_operator: Client, model: AIModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(admin_site, "MAX_ROWS", 1)
        jobs = [start_job([model], [region]) for region in ("us-east-1", "us-west-2")]
        chosen = {"action": "cancel", "_selected_action": [str(job.pk) for job in jobs]}
        path = address(CertificationJob, "changelist")
        html = as_operator.post(path, chosen, follow=True).content.decode()
        assert "More than 1 rows are selected." in html

    def test_cancel_ends_the_jobs(self, as_operator: Client, model: AIModel) -> None:
        job = start_job([model], ["us-east-1"])
        assert "1 job cancelled." in act(as_operator, CertificationJob, "cancel", job)
        job.refresh_from_db()
        assert job.status == State.CANCELLED

    def test_retry_starts_a_new_job(self, as_operator: Client, model: AIModel) -> None:
        job = start_job([model], ["us-east-1"])
        finish(job.runs.get(), "", reason=Reason.READ_TIMEOUT)
        html = act(as_operator, CertificationJob, "retry", job)
        new = CertificationJob.objects.exclude(pk=job.pk).get()
        assert f'href="/jobs/{new.pk}/"' in html

    def test_retry_without_failures_says_so(self, as_operator: Client, model: AIModel) -> None:
        job = certify(model, "us-east-1").job
        assert "no failed runs" in act(as_operator, CertificationJob, "retry", job)

    def test_regions_are_switched(self, as_operator: Client, catalogue: None) -> None:
        region = Region.objects.get(pk="us-east-1")
        assert "1 region changed." in act(as_operator, Region, "disable", region)
        region.refresh_from_db()
        assert not region.enabled
        act(as_operator, Region, "enable", region)
        region.refresh_from_db()
        assert region.enabled

    def test_viewers_with_a_key_to_the_admin_may_act_on_nothing(
        self, viewer: User, as_viewer: Client, model: AIModel
    ) -> None:
        User.objects.filter(pk=viewer.pk).update(is_staff=True)
        job = start_job([model], ["us-east-1"])
        act(as_viewer, CertificationJob, "cancel", job)
        act(as_viewer, AIModel, "certify", model)
        act(as_viewer, Region, "disable", Region.objects.get(pk="us-east-1"))
        job.refresh_from_db()
        assert job.status != State.CANCELLED
        assert CertificationJob.objects.count() == 1
        assert Region.objects.get(pk="us-east-1").enabled


class TestUsers:
    def new(self, email: str = "New@Example.org") -> dict[str, object]:
        return {
            "email": email,
            "name": "New",
            "usable_password": "true",
            "is_staff": "on",
            "password1": "correct-horse-battery",
            "password2": "correct-horse-battery",
            "groups": [Group.objects.get(name="operator").pk],
        }

    def test_administrators_add_users_with_email_and_password(
        self, as_administrator: Client, client: Client
    ) -> None:
        response = as_administrator.post(address(User, "add"), self.new())
        assert response.status_code == 302
        user = User.objects.get(email="new@example.org")
        assert user.role == "operator"
        assert client.login(
            request=response.wsgi_request,
            username="new@example.org",
            password="correct-horse-battery",
        )

    def test_an_address_is_taken_whatever_its_case(
        self, as_administrator: Client, operator: User
    ) -> None:
        response = as_administrator.post(address(User, "add"), self.new("OPERATOR@example.org"))
        assert "Another user has this e-mail address." in response.content.decode()

    def test_a_weak_password_is_refused(self, as_administrator: Client) -> None:
        weak = {**self.new(), "password1": "12345678", "password2": "12345678"}
        assert as_administrator.post(address(User, "add"), weak).status_code == 200
        assert not User.objects.filter(email="new@example.org").exists()

    @pytest.mark.parametrize("page", ["changelist", "add"])
    def test_operators_do_not_see_users(self, as_operator: Client, page: str) -> None:
        assert as_operator.get(address(User, page)).status_code == 403

    def test_operators_may_not_change_users(self, as_operator: Client, viewer: User) -> None:
        assert (
            as_operator.post(address(User, "change", viewer.pk), {"is_staff": "on"}).status_code
            == 403
        )

    def test_administrators_change_users(self, as_administrator: Client, viewer: User) -> None:
        form = {
            "email": "VIEWER2@example.org",
            "name": "V",
            "is_active": "on",
            "groups": [Group.objects.get(name="operator").pk],
        }
        assert as_administrator.post(address(User, "change", viewer.pk), form).status_code == 302
        viewer = User.objects.get(pk=viewer.pk)
        assert (viewer.email, viewer.role) == ("viewer2@example.org", "operator")

    def test_administrators_make_nobody_a_superuser(
        self, as_administrator: Client, viewer: User
    ) -> None:
        form = {
            "email": viewer.email,
            "is_active": "on",
            "is_superuser": "on",
            "user_permissions": ["1"],
        }
        as_administrator.post(address(User, "change", viewer.pk), form)
        viewer.refresh_from_db()
        assert not viewer.is_superuser
        assert not viewer.user_permissions.exists()

    def test_administrators_do_not_touch_superusers(
        self, as_administrator: Client, as_superuser: Client
    ) -> None:
        root = User.objects.get(email="root@example.org")
        before = root.password
        new = {
            "password1": "correct-horse-battery",
            "password2": "correct-horse-battery",
            "usable_password": "true",
        }
        assert (
            as_administrator.post(address(User, "change", root.pk), {"email": "x@y.z"}).status_code
            == 403
        )
        assert (
            as_administrator.post(f"/admin/certification/user/{root.pk}/password/", new).status_code
            == 403
        )
        assert (
            as_administrator.post(address(User, "delete", root.pk), {"post": "yes"}).status_code
            == 403
        )
        act(as_administrator, User, "delete_selected", root)
        root.refresh_from_db()
        assert root.password == before

    def test_administrators_set_a_password(self, as_administrator: Client, viewer: User) -> None:
        new = {
            "password1": "correct-horse-battery",
            "password2": "correct-horse-battery",
            "usable_password": "true",
        }
        as_administrator.post(f"/admin/certification/user/{viewer.pk}/password/", new)
        viewer.refresh_from_db()
        assert viewer.check_password("correct-horse-battery")
