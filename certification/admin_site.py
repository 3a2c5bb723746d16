"""The site of the admin: what holds for every list and form of it, those of other apps included."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AutocompleteSelect
from django.db.models import DateTimeField, Field, JSONField, Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class Autocomplete(AutocompleteSelect):
    """A choice that is no key of the other model shows as none: Django looks it up unchecked."""

    def optgroups(self, name: str, value: Any, attr: Any = None) -> Any:
        key = self.field.remote_field.model._meta.pk
        return super().optgroups(name, [v for v in value if is_value(key, v)], attr)


def is_value(field: Field[Any, Any], value: Any) -> bool:
    """Return whether a model's field can have this value."""
    try:
        field.to_python(value)
    except forms.ValidationError:
        return False
    return True


def moment_of(text: str) -> datetime | None:
    """Return the time that a text names, UTC where it names no zone; None for any other text."""
    try:
        moment = parse_datetime(text)
        return moment and (moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


class BoundedJSON(json.JSONDecoder):
    """JSON as people write it: what is nested too deeply, has endless numbers or NaN is invalid."""

    def __init__(self) -> None:
        super().__init__(parse_constant=self.refuse_constant, parse_float=self.finite)

    def decode(self, text: str, *args: Any) -> Any:
        try:
            return super().decode(text, *args)
        except (ValueError, RecursionError) as error:
            raise json.JSONDecodeError(str(error), text[:100], 0) from error

    @staticmethod
    def refuse_constant(name: str) -> float:
        raise ValueError(f"{name} is no number of JSON")

    @staticmethod
    def finite(digits: str) -> float:
        if math.isinf(value := float(digits)):
            raise ValueError(f"{digits} is too large")
        return value


class CheckedValues:
    """Checks what Django takes as it comes: the values that an address gives an empty form, the
    choices of `autocomplete_fields`, JSON.
    """

    formfield_overrides: Any = {JSONField: {"decoder": BoundedJSON}}

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Return the values of the address, times as times: their widget takes nothing else."""
        initial: dict[str, Any] = super().get_changeform_initial_data(request)  # type: ignore[misc]
        for field in self.opts.fields:  # type: ignore[attr-defined]
            if isinstance(field, DateTimeField) and field.name in initial:
                initial[field.name] = moment_of(initial[field.name])
        return initial

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        if db_field.name in self.autocomplete_fields:  # type: ignore[attr-defined]
            site = self.admin_site  # type: ignore[attr-defined]
            options["widget"] = Autocomplete(db_field, site, using=options.get("using"))
        return super().formfield_for_foreignkey(db_field, request, **options)  # type: ignore[misc]


# What stands where on the first page, by task; the rest is the last group.
GROUPS: dict[str | Promise, tuple[str, ...]] = {
    _("Catalogue"): ("Provider", "Region", "AIModel", "Route"),
    _("Certification"): (
        "CertificationJob", "CertificationRun", "TestResult", "ModelCertification", "Certificate",
        "RunJudgement", "CustomCase", "QueuePause",
    ),
    _("Schedules"): (
        "PeriodicTask", "IntervalSchedule", "CrontabSchedule", "ClockedSchedule", "SolarSchedule",
    ),
    _("Integrations"): ("WebhookSubscription", "WebhookDelivery", "ApiKey"),
    _("People"): ("User", "Group", "Contact"),
}  # fmt: skip
RECORD = _("Record")
MAX_ROWS = 500  # of one action: their keys come back in one form


def asks_first(action: Callable[..., HttpResponse | None]) -> Callable[..., HttpResponse | None]:
    """Have an action of a list show what it is about to do, and act only when that is confirmed: on
    the rows that were shown, whatever the list's filter says by then.
    """

    @functools.wraps(action)
    def confirmed(
        model_admin: admin.ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Any]
    ) -> HttpResponse | None:
        if "confirmed" in request.POST:
            return action(model_admin, request, queryset)
        rows = list(queryset[: MAX_ROWS + 1])
        if len(rows) > MAX_ROWS:
            text = _("More than %(n)d rows are selected. Narrow them down with a filter.")
            model_admin.message_user(request, text % {"n": MAX_ROWS}, messages.ERROR)
            return None
        context = {
            **model_admin.admin_site.each_context(request),
            "title": getattr(confirmed, "short_description", action.__name__),
            "action": action.__name__,
            "rows": rows,
            "opts": model_admin.opts,
            "back": request.get_full_path(),
        }
        return render(request, "admin/confirm_action.html", context)

    return confirmed


class Site(admin.AdminSite):
    site_header = _("MyIA Certification: admin")
    site_title = "MyIA Certification"
    index_title = _("Site administration")
    empty_value_display = "–"

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Return the lists by task; those of one app as they are."""
        apps = super().get_app_list(request, app_label)
        if app_label:
            return apps
        lists = {entry["object_name"]: entry for app in apps for entry in app["models"]}
        groups = [
            (label, [lists.pop(name) for name in names if name in lists])
            for label, names in GROUPS.items()
        ]
        groups.append((RECORD, list(lists.values())))
        index = reverse("admin:index", current_app=self.name)
        return [
            {
                "name": label,
                "app_label": f"group-{number}",
                "app_url": f"{index}#group-{number}",
                "has_module_perms": True,
                "models": entries,
            }
            for number, (label, entries) in enumerate(groups)
            if entries
        ]

    def register(
        self,
        model_or_iterable: type[Model] | Iterable[type[Model]],
        admin_class: type[admin.ModelAdmin[Any]] | None = None,
        **options: Any,
    ) -> None:
        """Register models, of whichever app, with an admin that checks the values it is given."""
        base = admin_class or admin.ModelAdmin
        checked = type(base.__name__, (CheckedValues, base), {"__module__": base.__module__})
        super().register(model_or_iterable, checked, **options)
