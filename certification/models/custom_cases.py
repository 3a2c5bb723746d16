"""Cases of the suite that operators write themselves."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from certification.suite import custom

GRADERS = [(name, name.replace("_", " ")) for name in custom.GRADERS]
CATEGORIES = [(category.value, category.value) for category in custom.CATEGORIES]


class CustomCaseQuerySet(models.QuerySet["CustomCase"]):
    def specs(self) -> tuple[custom.Spec, ...]:
        """The enabled cases as the suite takes them, in the order of their ids."""
        return tuple(row.spec for row in self.filter(enabled=True).order_by("case_id"))


class CustomCase(models.Model):
    case_id = models.CharField(
        _("case"),
        max_length=20,
        unique=True,
        help_text=_("X and 1 to 19 capital letters or digits, e.g. XINVOICE2."),
    )
    title = models.CharField(_("title"), max_length=100)
    category = models.CharField(_("category"), max_length=20, choices=CATEGORIES)
    prompt = models.TextField(_("prompt"))
    system = models.TextField(_("system prompt"), blank=True)
    grader = models.CharField(_("grader"), max_length=20, choices=GRADERS)
    expected = models.JSONField(
        _("expected"),
        help_text=_(
            'JSON: what the grader compares with, e.g. "Paris" or {"value": 42, "tolerance": 0.5}.'
        ),
    )
    weight = models.FloatField(
        _("weight in its category"),
        default=1.0,
        validators=[MinValueValidator(0.1), MaxValueValidator(10)],
    )
    repeats = models.PositiveSmallIntegerField(
        _("repeats"), default=3, validators=[MinValueValidator(1), MaxValueValidator(9)]
    )
    max_tokens = models.PositiveIntegerField(
        _("max answer tokens"),
        default=500,
        validators=[MinValueValidator(16), MaxValueValidator(8000)],
    )
    good_sample = models.TextField(_("an answer that must pass"))
    bad_sample = models.TextField(_("an answer that must fail"))
    enabled = models.BooleanField(pgettext_lazy("custom case", "enabled"), default=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        verbose_name=_("created by"),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    objects = CustomCaseQuerySet.as_manager()

    class Meta:
        db_table = "certification_operatorcase"
        verbose_name = _("custom case")
        verbose_name_plural = _("custom cases")
        ordering = ["case_id"]

    def __str__(self) -> str:
        return f"{self.case_id} {self.title}"

    @property
    def spec(self) -> custom.Spec:
        return custom.Spec(
            id=self.case_id,
            title=self.title,
            category=self.category,
            prompt=self.prompt,
            grader=self.grader,
            expected=self.expected,
            system=self.system,
            max_tokens=self.max_tokens,
            repeats=self.repeats,
            weight=self.weight,
        )

    def clean(self) -> None:
        """Run the grader on both samples: a case that cannot tell them apart is not stored."""
        problems: dict[str, Any] = {}
        try:
            good = custom.rehearse(self.spec, self.good_sample)
            bad = custom.rehearse(self.spec, self.bad_sample)
        except custom.BadSpec as error:
            raise ValidationError(str(error)) from error
        if not good.passed:
            problems["good_sample"] = _("The grader does not pass this answer: %(why)s") % {
                "why": good.sentence
            }
        if bad.passed:
            problems["bad_sample"] = _("The grader passes this answer: %(why)s") % {
                "why": bad.sentence
            }
        if problems:
            raise ValidationError(problems)
