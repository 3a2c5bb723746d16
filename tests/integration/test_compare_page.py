"""The page that compares runs: is B worse than A, in what, and could it be chance?"""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from certification.models import AIModel, CertificationRun
from certification.reasons import Reason, Status
from certification.suite import graders
from tests.factories import certify, certify_judged, judged_run, start_job

pytestmark = pytest.mark.django_db

NOVA = "amazon.nova-lite-v1:0"


def trials(passes: int, fails: int) -> list[dict[str, Any]]:
    return [
        {"trial": number, "valid": True, "passed": number < passes, "sentence": f"Trial {number}."}
        for number in range(passes + fails)
    ]


def finished(region: str, cases: dict[str, tuple[int, int]], **outcome: Any) -> CertificationRun:
    """A run of Nova with these cases: (trials passed, trials failed); (0, 0) is skipped."""
    verdicts = {
        case: "skipped" if not sum(n) else "failed" if n[1] else "passed"
        for case, n in cases.items()
    }
    return certify(
        AIModel.objects.get(api_model_id=NOVA),
        region,
        results=[(case, verdict, f"It {verdict}.") for case, verdict in verdicts.items()],
        trials={case: trials(*n) for case, n in cases.items()},
        **outcome,
    )


def page(client: Client, **query: Any) -> str:
    response = client.get("/compare/", query)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


@pytest.fixture
def regions(catalogue: None) -> tuple[CertificationRun, CertificationRun]:
    """Virginia passes everything; in São Paulo six cases broke."""
    cases = {f"T{n}": (3, 0) for n in range(1, 7)}
    here = finished("us-east-1", {**cases, "G01": (1, 0), "G02": (0, 1), "G16": (0, 0)}, score=95)
    broken = {f"T{n}": (0, 3) for n in range(1, 7)}
    there = finished("sa-east-1", {**broken, "G01": (1, 0), "G02": (0, 1), "G05": (1, 0)}, score=60)
    return here, there


def test_worse_beyond_chance(
    as_viewer: Client, regions: tuple[CertificationRun, CertificationRun]
) -> None:
    html = page(as_viewer, a=f"{NOVA}@us-east-1", b=f"{NOVA}@sa-east-1")
    assert "Nova Lite sa-east-1 is worse than Nova Lite us-east-1, unlikely to be chance" in html
    assert "6 cases broke, 0 were fixed (p = &lt; 0.001)." in html
    for title, n in (
        ("Broke: passed in A, fails in B", 6),
        ("Only in B", 1),
        ("Both fail", 1),
        ("Both pass", 1),
    ):
        assert f'{title} <span class="quiet">{n}</span>' in html
    assert "G16" not in html  # it applied to neither side
    assert "95" in html
    assert "worse" in html


def test_the_other_way_round_it_is_better(
    as_viewer: Client, regions: tuple[CertificationRun, CertificationRun]
) -> None:
    here, there = regions
    html = page(as_viewer, a=str(there.pk), b=str(here.pk))
    assert "us-east-1 is better than Nova Lite sa-east-1" in html
    assert "Mended: failed in A, passes in B" in html


def test_one_broken_case_could_be_chance(as_viewer: Client, catalogue: None) -> None:
    a = finished("us-east-1", {"T1": (1, 0), "T2": (1, 0)})
    b = finished("us-west-2", {"T1": (0, 1), "T2": (1, 0)})
    html = page(as_viewer, a=str(a.pk), b=str(b.pk))
    assert "there is no difference that could not be chance: 1 case broke" in html
    assert "The runs differ in prompts (seed)" in html


def test_an_open_case_shows_both_sides(
    as_viewer: Client, regions: tuple[CertificationRun, CertificationRun]
) -> None:
    html = page(as_viewer, a=f"{NOVA}@us-east-1", b=f"{NOVA}@sa-east-1", case="T1")
    opened = html[html.index('id="open"') :]
    assert opened.count("Trial 0.") == 2
    assert 'id="1T1.1"' in opened
    assert 'id="2T1.1"' in opened


@pytest.mark.parametrize(
    ("side", "words"),
    [
        ("nonsense", "names no run"),
        ("no.such@us-east-1", "names no run"),
        (f"{NOVA}@eu-west-1", "was never tested in eu-west-1"),
        ("00000000-0000-4000-8000-000000000000", "There is no run"),
        ("\0@\0", "names no run"),
        (f"{NOVA}@\0", "names no run"),
        ("<script>", "&lt;script&gt;"),
    ],
)
def test_a_side_that_cannot_be_shown_says_why(
    as_viewer: Client, regions: Any, side: str, words: str
) -> None:
    html = page(as_viewer, a=f"{NOVA}@us-east-1", b=side)
    assert words in html
    assert "<script>" not in html.replace("<script src", "")


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ({"only": "broke"}, {"T1", "T6"}),
        ({"only": "both_failed"}, {"G02"}),
        ({"only": "nonsense"}, {"T1", "T6", "G01", "G02", "G05"}),
        ({"q": "right tool"}, {"T1"}),
        ({"category": "vision"}, set()),
        ({"category": "contract", "q": "g0"}, {"G01", "G02", "G05"}),
        ({"q": "\0"}, set()),
    ],
)
def test_cases_are_filtered_and_the_sentence_stays(
    as_viewer: Client, regions: Any, query: dict[str, str], shown: set[str]
) -> None:
    html = page(as_viewer, a=f"{NOVA}@us-east-1", b=f"{NOVA}@sa-east-1", **query)
    cases = {"T1", "T6", "G01", "G02", "G05"}
    assert {case for case in cases if f"<code>{case}</code>" in html} == shown
    assert "6 cases broke" in html
    assert ("No case matches" in html) == (not shown)


def test_a_day_names_the_run_of_then(
    as_viewer: Client, regions: tuple[CertificationRun, CertificationRun]
) -> None:
    today = timezone.now().date().isoformat()
    html = page(as_viewer, a=f"{NOVA}@us-east-1@{today}", b=f"{NOVA}@sa-east-1")
    assert "6 cases broke" in html
    html = page(as_viewer, a=f"{NOVA}@us-east-1@2020-01-01", b=f"{NOVA}@sa-east-1")
    assert "had no verdict in us-east-1 until 2020-01-01" in html
    html = page(as_viewer, a=f"{NOVA}@us-east-1@2026-13-45", b=f"{NOVA}@sa-east-1")
    assert "There is no day 2026-13-45." in html


def test_another_run_can_be_the_reference(
    as_viewer: Client, regions: tuple[CertificationRun, CertificationRun]
) -> None:
    here, there = (str(run.pk) for run in regions)
    assert f'href="?a={there}&amp;b={here}"> Swap' in page(as_viewer, a=here, b=there).replace(
        ">Swap", "> Swap"
    )
    html = page(as_viewer, a=here, b=[there, here])
    assert f'href="?a={there}&amp;b={here}&amp;b={here}"' in html
    assert "One more" in html


def test_speed_of_all_sides_is_drawn_on_one_axis(as_viewer: Client, catalogue: None) -> None:
    nova = AIModel.objects.get(api_model_id=NOVA)
    a, b = (certify_judged(nova, r, judged_run("full", {})) for r in ("us-east-1", "us-west-2"))
    html = page(as_viewer, a=str(a.pk), b=str(b.pk))
    assert html.count('<svg class="chart dots"') == 2
    assert "style=" not in html


def test_a_run_that_has_not_ended_says_so(as_viewer: Client, regions: Any) -> None:
    job = start_job([AIModel.objects.get(api_model_id=NOVA)], ["us-west-2"])
    assert "has not ended yet" in page(as_viewer, a=f"{NOVA}@us-east-1", b=str(job.runs.get().pk))


def test_without_sides_it_asks(as_viewer: Client) -> None:
    assert "Name two runs" in page(as_viewer)


def test_a_certification_links_to_the_comparison_with_its_best_region(
    as_viewer: Client, regions: tuple[CertificationRun, CertificationRun]
) -> None:
    model = AIModel.objects.get(api_model_id=NOVA)
    html = as_viewer.get(f"/certifications/{model.pk}/sa-east-1/").content.decode()
    assert "Compare with us-east-1" in html


def test_a_run_without_a_verdict_can_be_compared(as_viewer: Client, regions: Any) -> None:
    finished("eu-west-1", {}, verdict=Status.PERMISSION_REQUIRED, reason=Reason.IAM_DENIED)
    html = page(as_viewer, a=f"{NOVA}@us-east-1", b=f"{NOVA}@eu-west-1")
    assert "Only in A" in html


def test_it_takes_few_queries(
    as_viewer: Client, regions: Any, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    # session, user, groups, header; models, ids of runs, runs, results
    sides = [f"{NOVA}@sa-east-1", f"{NOVA}@us-east-1@2999-01-01", str(regions[1].pk)]
    with django_assert_max_num_queries(4 + 4):
        page(as_viewer, a=f"{NOVA}@us-east-1", b=sides)


def answered(region: str, text: str) -> CertificationRun:
    call = {"reply": {"content": [{"reasoning": "Hm."}, {"text": text}]}}
    trial = {"trial": 0, "valid": True, "passed": True, "calls": [call], "has_transcript": True}
    return certify(
        AIModel.objects.get(api_model_id=NOVA),
        region,
        results=[("G05", "passed", "It passed.")],
        trials={"G05": [trial]},
    )


def test_the_answers_of_an_open_case_are_marked_by_words(
    as_viewer: Client, catalogue: None
) -> None:
    a, b = answered("us-east-1", "It is <b> 12."), answered("sa-east-1", "It is <b> 21.")
    html = page(as_viewer, a=str(a.pk), b=str(b.pk), case="G05")
    assert "It is &lt;b&gt; <mark>12</mark>." in html
    assert "It is &lt;b&gt; <mark>21</mark>." in html
    same = answered("us-west-2", "It is <b> 12.")
    html = page(as_viewer, a=str(a.pk), b=str(same.pk), case="G05")
    assert "Both gave the same answer." in html


def test_the_reasons_of_the_policy_stand_on_both_sides(as_viewer: Client, catalogue: None) -> None:
    nova = AIModel.objects.get(api_model_id=NOVA)
    certify_judged(nova, "us-east-1", judged_run("full", {}))
    broken = {case: [graders.failed("It is wrong.")] * 3 for case in ("T1", "T2", "T3", "T4")}
    certify_judged(nova, "sa-east-1", judged_run("full", broken))
    html = page(as_viewer, a=f"{NOVA}@us-east-1", b=f"{NOVA}@sa-east-1")
    assert "By the policy" in html
    assert "points lost: tools" in html
    assert "✕" in html
    again = page(as_viewer, a=f"{NOVA}@us-east-1", b=f"{NOVA}@us-east-1")
    assert "By the policy" not in again  # nothing differs


def test_without_stored_trials_it_says_so(as_viewer: Client, catalogue: None) -> None:
    finished("us-east-1", {"T1": (3, 0)})
    finished("sa-east-1", {"T1": (0, 3)})
    html = page(as_viewer, a=f"{NOVA}@us-east-1", b=f"{NOVA}@sa-east-1")
    assert html.count("no longer stored") == 1
