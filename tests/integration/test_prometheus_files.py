"""deploy/monitoring/ says the same as the alert engine, in the words of Prometheus and Grafana."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser
import pytest
import yaml
from django.core.management import CommandError, call_command
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from certification.engine import calls
from certification.inference import Failure, Operation, Timing
from certification.lib import clock, counters
from certification.models import AIModel, AlertEpisode, RoutineMark, TargetDay, TargetMinute
from certification.monitoring import (
    alert_rules,
    alerts,
    channels,
    machine,
    prometheus_files,
    queue_stats,
    runbooks,
    targets,
)
from certification.monitoring.alert_rules import CRITICAL, RULES, WARNING, Facts, Rule
from certification.monitoring.alerts import Round
from certification.reasons import Reason
from tests.factories import certify

FOLDER = prometheus_files.FOLDER
OF_PROMETHEUS = {"up"}  # what it measures itself
OF_TARGETS = {"instance", "job", "le"}  # labels that it adds, and those of buckets


def program(name: str) -> str:
    """Return the path of a program of Debian's packages prometheus and prometheus-alertmanager."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*command: str | Path) -> None:
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", prometheus_files.files())
def test_the_files_are_those_of_the_rules(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert text == prometheus_files.files()[name], "Run: manage.py alerts files"


def test_the_command_writes_them_with_the_limits_of_the_settings(
    tmp_path: Path, settings: Any, db: None
) -> None:
    settings.ALERT_LIMITS = {"queue_waiting": (200.0, 2000.0)}
    call_command("alerts", "files", "--folder", str(tmp_path / "new"))
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == sorted(
        prometheus_files.files()
    )
    rules = yaml.safe_load((tmp_path / "new" / "rules.yml").read_text())["groups"][0]["rules"]
    assert [rule["expr"] for rule in rules if rule.get("alert") == "queue_waiting"] == [
        "max (queue_waiting) > 2000",
        "max (queue_waiting) > 200",
    ]
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("alerts", "files", "--folder", str(tmp_path / "new" / "rules.yml"))


def test_promtool_and_amtool_accept_them() -> None:
    run(program("promtool"), "check", "rules", FOLDER / "rules.yml")
    run(program("promtool"), "check", "config", FOLDER / "prometheus.yml")
    run(program("amtool"), "check-config", FOLDER / "alertmanager.yml")


def queries() -> list[str]:
    """Return the PromQL of every rule and panel."""
    rules = prometheus_files.rules()["groups"][0]["rules"]
    recorded = [rule["record"] for rule in rules if "record" in rule]
    assert recorded == list(alert_rules.RECORDED)
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    targets = [target for panel in panels for target in panel.get("targets", ())]
    return [part["expr"] for part in (*rules, *targets)]


def parts(node: Any) -> Iterator[Any]:
    """Yield a parsed expression and everything in it."""
    yield node
    for name in ("lhs", "rhs", "expr", "args", "vector_selector"):
        inner = getattr(node, name, None)
        for part in inner if isinstance(inner, list) else [inner]:
            if part is not None:
                yield from parts(part)


def test_every_metric_of_rules_and_dashboard_exists_with_its_labels(
    client: Client, catalogue: None, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.PINNED_REGIONS = ["sa-east-1"]
    monkeypatch.setattr(queue_stats.workers, "get_soon", lambda: 1)
    monkeypatch.setattr(queue_stats.workers_by_queue, "get_soon", dict)
    for name in ("long_queries", "dead_rows", "runs_without_verdict", "certifications_worse"):
        monkeypatch.setattr(alert_rules, name, lambda _facts: {"pid 7": 99.0})
    monkeypatch.setattr(alert_rules, "models_end", lambda _facts: {"": 9.0})
    for name in ("accept_backlog", "certificate_days_left"):
        monkeypatch.setattr(machine, name, lambda: 9)
    monkeypatch.setattr(machine, "process_memory", lambda: {"web 7": 9})
    certify(AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0"), "us-east-1")
    throttled = Failure(Reason.THROTTLED_REQUESTS, "Slow down.", timing=Timing(20.0, 5.0))
    calls.count_call("us-east-1", replace(throttled, operation=Operation.STREAM))
    AlertEpisode.objects.create(rule="disk_space", severity=WARNING, opened_at=clock.now())
    RoutineMark.record("reconcile")
    TargetDay.objects.create(name="api_errors", day=clock.now().date(), good=1, total=1)
    TargetMinute.objects.create(name="stops", at=clock.now(), total=1)
    settings.ALERT_SECRET_URLS = {"": ["nosuchkind://a"]}
    channels.send_test(channels.configured()[0])
    client.get("/live")
    counters.counters.flush()
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").content.decode()):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    for query in queries():
        nodes = list(parts(promql_parser.parse(query)))
        selectors = [node for node in nodes if isinstance(node, promql_parser.VectorSelector)]
        assert selectors
        available = set(OF_TARGETS)
        for selector in selectors:
            if selector.name in alert_rules.RECORDED:
                available.add("target")
            elif selector.name not in OF_PROMETHEUS:
                assert selector.name in labels, query
                matched = {matcher.name for matcher in selector.matchers.matchers}
                assert matched <= labels[selector.name], query
                available |= labels[selector.name]
        for node in nodes:
            if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
                assert set(node.modifier.labels) <= available, query


Series = Mapping[str, Sequence[float]]
RUNS_PER_STEP = 100


def gauge(name: str) -> Callable[[Sequence[float]], Series]:
    return lambda values: {name: values}


def per_cent(part: str, whole: str) -> Callable[[Sequence[float]], Series]:
    return lambda values: {part: values, whole: [100.0] * len(values)}


def paces(values: Sequence[float], long: str, short: str) -> Series:
    """Return two paces of which now the one, now the other is the lower one."""
    higher = [value + 5 for value in values]
    first = [higher[n] if n % 2 else value for n, value in enumerate(values)]
    second = [value if n % 2 else higher[n] for n, value in enumerate(values)]
    names = (f'target:budget_burn:{window}{{target="api_errors"}}' for window in (long, short))
    return dict(zip(names, (first, second), strict=True))


# by rule: what is scraped when the rule's value is so, minute by minute
SCRAPED: dict[str, Callable[[Sequence[float]], Series]] = {
    "redis_unreachable": lambda values: {"redis_up": [1 - value for value in values]},
    "worker_offline": lambda values: {"workers_alive": [0 if value else 2 for value in values]},
    "region_unserved": gauge('region_unserved{region="sa-east-1"}'),
    "nothing_completed": gauge("queue_idle_seconds"),
    "queue_waiting": gauge("queue_waiting"),
    "queue_oldest": gauge("queue_oldest_seconds"),
    "credentials_invalid": gauge('queue_paused{cause="credentials"}'),
    "queue_paused": gauge('queue_paused{cause="person"}'),
    "redis_memory": per_cent("redis_memory_bytes", "redis_memory_limit_bytes"),
    "redis_evictions": gauge("redis_evicted_keys_total"),
    "database_connections": per_cent("database_connections", "database_connections_allowed"),
    "long_queries": gauge('database_query_seconds{query="pid 7"}'),
    "disk_space": per_cent("disk_free_bytes", "disk_size_bytes"),
    "clock_off": lambda values: {"clock_offset_seconds": [-value for value in values]},
    "routine_late": lambda values: {
        'routine_last_success_timestamp_seconds{routine="reconcile"}': [
            60 * minute - value for minute, value in enumerate(values)
        ]
    },
    "routine_failed": gauge('routine_failed{routine="daily"}'),
    "backup_late": gauge("backup_age_seconds"),
    "restore_drill_failed": gauge('routine_failed{routine="restore drill"}'),
    "restore_drill_late": gauge("restore_drill_age_seconds"),
    "certifications_expire": gauge("certifications_expiring"),
    "deliveries_given_up": gauge("webhook_deliveries_given_up"),
    "channel_failing": gauge('alert_channel_failures{channel="slack (1a2b)"}'),
    "budget_burns_fast": lambda values: paces(values, "1h", "5m"),
    "budget_burns": lambda values: paces(values, "6h", "30m"),
    "budget_burns_slowly": lambda values: paces(values, "3d", "6h"),
    "error_lines": gauge('target_events_recently{target="error_lines", window="1d"}'),
    "many_error_lines": gauge('target_events_recently{target="error_lines", window="1h"}'),
    "api_errors": gauge('target:bad_percent:5m{target="api_errors"}'),
    "api_slow": gauge('target:bad_percent:5m{target="api_within_2s"}'),
    "accept_backlog": gauge("http_accept_backlog"),
    "runs_given_up": gauge('runs_given_up_recently{reason="timeout"}'),
    "certifications_worse": gauge('certifications_worse_recently{region="us-east-1"}'),
    "models_end": gauge("model_end_of_life_days"),
    "redis_keys": gauge("redis_keys"),
    "replication_lag": gauge("database_replication_lag_seconds"),
    "dead_rows": gauge('database_dead_rows_percent{table="t"}'),
    "transaction_ids": gauge("database_wraparound_percent"),
    "process_memory": lambda values: {
        'process_memory_bytes{process="web 7"}': [value * 1e6 for value in values]
    },
    "machine_memory": gauge("machine_memory_free_percent"),
    "machine_cpu": gauge("machine_cpu_percent"),
    "tls_certificate": gauge("tls_certificate_days"),
    "process_restarts": gauge('target_events_recently{target="stops", window="1h"}'),
}


class Share(NamedTuple):
    """A rule of shares: its counter, another of the runs that are not in it (of all runs, when they
    are other metrics), how many steps its window has, and the per cent of each step's runs.
    """

    part: str
    other: str
    window: int
    steps: list[float]

    @property
    def is_other_all(self) -> bool:
        return self.part.partition("{")[0] != self.other.partition("{")[0]


SHARES = {
    "run_failures": Share(
        'certification_runs_total{status="FAILED"}',
        'certification_runs_total{status="COMPLETED"}',
        6,
        [2.0] * 2 + [7.0] * 3 + [30.0] * 6 + [0.0] * 8,
    ),
    "success_rate": Share(
        'certification_runs_total{status="COMPLETED", verdict="certified"}',
        'certification_runs_total{status="COMPLETED", verdict="failed"}',
        12,
        [98.0] * 2 + [90.0] * 3 + [50.0] * 10 + [100.0] * 14,
    ),
    "run_retries": Share(
        'run_retries_total{status="COMPLETED"}',
        'certification_runs_total{status="COMPLETED"}',
        12,
        [4.0] * 3 + [30.0] * 6 + [0.0] * 14,
    ),
}
# minutes between two looks, where every minute would be too many of them
STEPS = {
    "certifications_expire": 30,
    "dead_rows": 30,
    "run_failures": 10,
    "success_rate": 120,
    "run_retries": 120,
}
SUBJECTS = {
    "long_queries": "pid 7",
    "queue_paused": "person",
    "routine_late": "reconcile",
    "region_unserved": "sa-east-1",
    "channel_failing": "slack (1a2b)",
    "routine_failed": "daily",
    "runs_given_up": "timeout",
    "certifications_worse": "us-east-1",
    "dead_rows": "t",
    "process_memory": "web 7",
    **dict.fromkeys(("budget_burns_fast", "budget_burns", "budget_burns_slowly"), "api_errors"),
}
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def course(rule: Rule) -> list[float]:
    """Return values of a rule, step by step: well, beyond each level for too short a time and for
    long enough, well for a while and beyond again.
    """
    *_, mild = rule.levels
    severe = rule.levels[0]
    worst = severe.beyond + (-1 if rule.is_below else 1)
    worse = (mild.beyond + severe.beyond) / 2 if severe.beyond != mild.beyond else worst
    well, values = mild.beyond, [mild.beyond] * 2
    for value, level in ((worse, mild), (worst, severe)):
        steps = int(level.held_s / 60 / STEPS.get(rule.name, 1))
        values += [value] * steps + [well] + [value] * (steps + 2) + [worse] * 2
    return [*values, well, well, worse, well]


def counted(share: Share) -> tuple[list[float | None], Series]:
    """Return the values of a rule of shares, None for too few runs, and what is scraped."""
    first, second = [1000.0], [1000.0]
    for per_cent_of_step in share.steps[1:]:
        first.append(first[-1] + per_cent_of_step / 100 * RUNS_PER_STEP)
        rest = 100 if share.is_other_all else 100 - per_cent_of_step
        second.append(second[-1] + rest / 100 * RUNS_PER_STEP)
    values: list[float | None] = []
    for now in range(len(share.steps)):
        then = max(0, now - share.window)
        some, others = first[now] - first[then], second[now] - second[then]
        every = others if share.is_other_all else some + others
        values.append(100 * some / every if every else None)
    return values, {share.part: first, share.other: second}


def decisions(rule: Rule, values: Sequence[float | None], now: list[datetime]) -> list[str]:
    """Return how severe the engine finds each step's value."""
    result = []
    for number, value in enumerate(values):
        now[0] = BEGIN + number * timedelta(minutes=STEPS.get(rule.name, 1))
        measured = {} if value is None else {SUBJECTS.get(rule.name, ""): value}
        alerts.check(
            replace(rule, measure=lambda _facts, v=measured: v), Facts(), Round(now[0], [])
        )
        severities = AlertEpisode.objects.open().values_list("severity", flat=True)
        result.append(severities.first() or "")
    return result


def promtool_test(
    rule: Rule, values: Sequence[float | None], series: Series, severities: Sequence[str]
) -> dict[str, Any]:
    """Return promtool's test that the rule fires exactly when the engine does."""
    minutes, subject = STEPS.get(rule.name, 1), SUBJECTS.get(rule.name, "")
    labels = {rule.subject_label: subject} if rule.subject_label else {}
    checks = []
    for number, value in enumerate(values):
        # of a rule that is critical, Prometheus has the warning too
        firing = {"": [], "warning": [WARNING], "critical": [CRITICAL, WARNING]}[severities[number]]
        expected = [
            {
                "exp_labels": {"severity": str(level.severity), **labels},
                "exp_annotations": {
                    "summary": rule.describe(value or 0, subject),
                    "command": rule.command,
                    "runbook_url": runbooks.address(rule.name),
                },
            }
            for level in rule.levels
            if level.severity in firing
        ]
        at = f"{number * minutes}m"
        checks.append({"eval_time": at, "alertname": rule.name, "exp_alerts": expected})
    inputs = [
        {"series": name, "values": " ".join(f"{value:.10g}" for value in scraped)}
        for name, scraped in series.items()
    ]
    return {"interval": f"{minutes}m", "input_series": inputs, "alert_rule_test": checks}


def test_every_rule_is_compared() -> None:
    assert {*SCRAPED, *SHARES} == {rule.name for rule in RULES}


@pytest.mark.parametrize("minutes", sorted({1, *STEPS.values()}))
def test_prometheus_and_the_engine_decide_alike(
    minutes: int, tmp_path: Path, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    promtool, now = program("promtool"), [BEGIN]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    tests = []
    for rule in RULES:
        if STEPS.get(rule.name, 1) != minutes:
            continue
        values: list[float | None]
        if rule.name in SHARES:
            values, series = counted(SHARES[rule.name])
        else:
            values = [*(simple := course(rule))]
            series = SCRAPED[rule.name](simple)
        severities = decisions(rule, values, now)
        assert set(severities) == {"", *(level.severity for level in rule.levels)}, rule.name
        tests.append(promtool_test(rule, values, series, severities))
        AlertEpisode.objects.all().delete()
    document = {
        "rule_files": [str(FOLDER / "rules.yml")],
        "evaluation_interval": f"{minutes}m",
        "tests": tests,
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(document))
    run(promtool, "test", "rules", file)


def test_budgets_burn_alike_in_prometheus_and_here(tmp_path: Path, db: None) -> None:
    """From the same requests: ours from the minutes that are stored, theirs from our counters."""
    promtool = program("promtool")
    per_step, step = 100, timedelta(minutes=5)
    bad = [0] * 73 + [2] * 13 + [0] * 3 + [40] * 13 + [0] * 12
    few = [0] * len(bad)  # of a target with too few requests, all of which fail
    few[-30] = few[-20] = 4
    totals = {"api_errors": [per_step] * len(bad), "api_latency": few}
    fails = {"api_errors": bad, "api_latency": few}
    rows, series = [], {}
    for name, counts in totals.items():
        good, every = 0.0, 0.0
        goods, everies = [], []
        for number, total in enumerate(counts):
            failed = fails[name][number]
            rows.append(
                TargetMinute(name=name, at=BEGIN + number * step, good=total - failed, total=total)
            )
            good, every = good + total - failed, every + total
            goods.append(good)
            everies.append(every)
        series[f'target_good_events_total{{target="{name}"}}'] = goods
        series[f'target_events_total{{target="{name}"}}'] = everies
        goal = targets.BY_NAME[name].goal / 100
        series[f'target_goal_ratio{{target="{name}"}}'] = [goal] * len(counts)
    TargetMinute.objects.bulk_create(rows)
    rules = [rule for rule in RULES if rule.name.startswith("budget_burns")]
    expected: dict[str, list[int]] = {rule.name: [] for rule in rules}
    # from when on both look back over whole windows
    for number in range(73, len(bad)):
        facts = Facts()
        facts.__dict__["recent"] = targets.recent(BEGIN + number * step)
        for rule in rules:
            values = rule.measure(facts)
            assert not rule.severities(values["api_latency"])
            if rule.severities(values["api_errors"]):
                expected[rule.name].append(number)
    assert all(expected.values())
    checks = [
        {
            "eval_time": f"{number * 5}m",
            "expr": f"count(ALERTS{{alertname='{rule.name}', alertstate='firing'}}) or vector(0)",
            "exp_samples": [{"labels": "{}", "value": int(number in expected[rule.name])}],
        }
        for rule in rules
        for number in range(73, len(bad))
    ]
    document = {
        "rule_files": [str(FOLDER / "rules.yml")],
        "evaluation_interval": "5m",
        "tests": [
            {
                "interval": "5m",
                "input_series": [
                    {"series": name, "values": " ".join(map(str, values))}
                    for name, values in series.items()
                ],
                "promql_expr_test": checks,
            }
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(document))
    run(promtool, "test", "rules", file)
