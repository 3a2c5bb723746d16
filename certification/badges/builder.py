"""The page that helps to show a badge: addresses and texts to copy, and how every state looks."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

from django.conf import settings
from django.http import QueryDict
from django.utils import translation
from django.utils.translation import gettext as _

from certification.badges import content, svg
from certification.badges.content import BadgeContent, RegionStatus
from certification.lib import foreign_text
from certification.models import AIModel, Backend
from certification.reasons import Status

MAX_LABEL = 200


@dataclass(frozen=True)
class Choice:
    """What the address of the page says, unchecked. `label` None leaves the model's name; `badge`
    is the language of the picture.
    """

    model: str = ""
    region: str = ""
    style: str = svg.STYLES[0]
    label: str | None = None
    badge: str = "en"

    @classmethod
    def from_query(cls, query: QueryDict) -> Choice:
        style, language = query.get("style", ""), query.get("badge", "")
        return cls(
            model=query.get("model", "").strip()[: content.MAX_ADDRESS],
            region=query.get("region", ""),
            style=style if style in svg.STYLES else svg.STYLES[0],
            label=query.get("label", "")[:MAX_LABEL] or None,
            badge=language if language in dict(settings.LANGUAGES) else "en",
        )


@dataclass(frozen=True)
class Snippet:
    """A text to copy, and what it is for."""

    title: str
    text: str


@dataclass(frozen=True)
class Sample:
    """How a badge looks in a state, as a `data:` address, and what the state means."""

    picture: str
    message: str
    meaning: str


@dataclass(frozen=True)
class BuilderPage:
    """`model` is None for an unknown one, or none. `picture` is the address of the badge here."""

    choice: Choice
    models: Sequence[tuple[str, str]]
    model: BadgeContent | None
    picture: str
    alt: str
    snippets: Sequence[Snippet]
    samples: Sequence[Sample]
    max_age_s: int
    styles: Sequence[str] = svg.STYLES
    languages: Sequence[tuple[str, str]] = ()


def load(choice: Choice, now: datetime) -> BuilderPage:
    """Load the page, in two queries."""
    names = AIModel.objects.active().order_by("name").values_list("api_model_id", "name")
    model = content.find(choice.model) if choice.model else None
    if model is None or model.region is not None:  # `<id>/<region>` is no id
        model = None
    elif choice.region not in {region.region for region in model.regions}:
        choice = replace(choice, region="")
    picture, alt = (address_of(model, choice, ".svg"), alt_of(model, choice)) if model else ("", "")
    return BuilderPage(
        choice=choice,
        models=[(name, foreign_text.clean(title)) for name, title in names],
        model=model,
        picture=picture,
        alt=alt,
        snippets=snippets(model, choice) if model else (),
        samples=samples(choice, now),
        max_age_s=settings.BADGE_MAX_AGE + settings.BADGE_CACHE_SECONDS,
        languages=[(code, str(name)) for code, name in settings.LANGUAGES],
    )


def address_of(model: BadgeContent, choice: Choice, ending: str) -> str:
    """Return the path of a badge with its query."""
    path = quote(model.model_id, safe="")
    if choice.region:
        path += f"/{quote(choice.region, safe='')}"
    options: Mapping[str, str | None] = {
        "style": choice.style if choice.style != svg.STYLES[0] else None,
        "label": choice.label,
        "lang": choice.badge if choice.badge != settings.LANGUAGE_CODE else None,
    }
    query = urlencode({name: value for name, value in options.items() if value})
    return f"/badges/{path}{ending}" + (f"?{query}" if query else "")


def alt_of(model: BadgeContent, choice: Choice) -> str:
    """Return what the picture is, in words, in the badge's language."""
    name = svg.clean(choice.label or model.name) or svg.clean(model.model_id)
    with translation.override(choice.badge):
        if choice.region:
            values = {"model": name, "region": choice.region}
            return _("certification of %(model)s in %(region)s") % values
        return _("certification of %(model)s") % {"model": name}


def snippets(model: BadgeContent, choice: Choice) -> list[Snippet]:
    """Return the texts to copy. A name of a model is text in each of them, and no markup."""
    alt = alt_of(model, choice)
    picture = settings.PUBLIC_URL + address_of(model, choice, ".svg")
    shields = settings.PUBLIC_URL + address_of(model, choice, ".shields.json")
    page = f"{settings.PUBLIC_URL}/m/{quote(model.model_id, safe='')}/"
    if choice.region:
        page += f"?{urlencode({'region': choice.region})}"
    markdown_alt = re.sub(r"([\\\[\]`*_<>!])", r"\\\1", alt)
    asciidoc_alt = alt.replace("\\", "").replace('"', "'").replace("]", r"\]")
    image = f'<img src="{html.escape(picture)}" alt="{html.escape(alt)}" height="20">'
    return [
        Snippet("Markdown", f"[![{markdown_alt}]({picture})]({page})"),
        Snippet("HTML", f'<a href="{html.escape(page)}">{image}</a>'),
        Snippet("AsciiDoc", f'image:{picture}["{asciidoc_alt}",link="{page}"]'),
        Snippet(_("Address of the picture"), picture),
        Snippet("shields.io", f"https://img.shields.io/endpoint?{urlencode({'url': shields})}"),
    ]


def samples(choice: Choice, now: datetime) -> list[Sample]:
    """Return every state as its badge looks, with what it means."""
    month = timedelta(days=30)

    def one(
        status: str, score: int | None = None, rating: str = "", backend: str = ""
    ) -> BadgeContent:
        region = RegionStatus(
            "sa-east-1", status, score=score, rating=rating, backend=backend, expires_at=now + month
        )
        return BadgeContent("model", _("Model"), "sa-east-1", (region,), offered=True)

    certified = RegionStatus("a", Status.CERTIFIED)
    expired = RegionStatus("sa-east-1", Status.CERTIFIED, expires_at=now - month)
    all_regions = (certified, certified, RegionStatus("b", Status.FAILED))
    with translation.override(choice.badge):
        badges = [
            one(Status.CERTIFIED, 94, "A"),
            one(Status.QUALITY_WARNING, 74, "C"),
            one(Status.FAILED, 41, "F"),
            one(Status.PERMISSION_REQUIRED),
            one(Status.CONFIGURATION_REQUIRED),
            one(Status.PENDING),
            one(Status.NOT_TESTED),
            BadgeContent("model", _("Model"), "sa-east-1", (expired,), offered=True),
            one(Status.CERTIFIED, 94, "A", backend=Backend.EMULATOR.value),
            BadgeContent("model", _("Model"), None, all_regions, offered=True),
        ]
        drawn = [(b.label, b.message(now), b.color(now)) for b in badges]
    drawn += [("certification", content.UNKNOWN, "grey"), ("certification", "unavailable", "grey")]
    return [
        Sample(data_address(label, message, color, choice.style), message, meaning)
        for (label, message, color), meaning in zip(drawn, meanings(), strict=True)
    ]


def meanings() -> list[str]:
    """Return what each of the samples means, in the active language."""
    return [
        _("certified, with grade and score"),
        _("works, below a line of quality"),
        _("a gate failed, or the quality is too low for any use"),
        _("an AWS account must be allowed to use it"),
        _("a route or a setting must change"),
        _("no verdict yet"),
        _("never tested"),
        _("tested too long ago: nothing is claimed"),
        _("the calls went to an emulator, not to AWS"),
        _("all regions: how many of them are certified"),
        _("no model or region of this name here (status 404)"),
        _("the service cannot be reached now (status 503)"),
    ]


def data_address(label: str, message: str, color: str, style: str) -> str:
    """Draw a badge as a `data:` address."""
    picture = svg.draw(svg.shorten(label), message, color, style, f"{label}: {message}")
    return f"data:image/svg+xml;base64,{base64.b64encode(picture.encode()).decode()}"
