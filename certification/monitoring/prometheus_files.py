"""The files under deploy/monitoring that follow from the rules and metrics: for installations that
have Prometheus, Alertmanager and Grafana. `manage.py alerts files` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from django.conf import settings

from certification.monitoring import dashboard, received_alerts, runbooks
from certification.monitoring.alert_rules import RECORDED, RULES, Level, Rule, find_rule

FOLDER = settings.BASE_DIR / "deploy" / "monitoring"
HEADER = "# Written by `manage.py alerts files` from certification/monitoring/alert_rules.py.\n"
INTERVAL_S = 60  # between two looks at the rules, as beat's
CREDENTIALS_FILE = "/etc/alertmanager/maintenance_secret"  # has MAINTENANCE_SECRET
RECEIVERS = {"team": "http://127.0.0.1:9099/team", "on-call": "http://127.0.0.1:9099/on-call"}


def files() -> dict[str, str]:
    """Return the contents of the files by name, with the limits of the settings."""
    return {
        "rules.yml": HEADER + to_yaml(rules()),
        "alertmanager.yml": HEADER + to_yaml(alertmanager()),
        "dashboard.json": json.dumps(dashboard.dashboard(), indent=1) + "\n",
    }


def to_yaml(document: Any) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def rules() -> dict[str, Any]:
    """Return what is computed for several rules, and the alert rules: one for each level."""
    recorded = [{"record": name, "expr": expr} for name, expr in RECORDED.items()]
    alerts = [alert(rule, level) for rule in RULES for level in rule.current_levels()]
    every = [*recorded, *alerts, unreachable()]
    return {"groups": [{"name": "myia", "interval": duration(INTERVAL_S), "rules": every}]}


def unreachable() -> dict[str, Any]:
    """Return the alert of what no web server can tell of itself: that it does not answer, or has
    no database.
    """
    return {
        "alert": "web_unreachable",
        "expr": 'up{job="myia-web"} == 0',
        "for": "1m",
        "labels": {"severity": "critical"},
        "annotations": {
            "summary": "The web server or its database does not answer.",
            "command": "manage.py status",
            "runbook_url": runbooks.address("web_unreachable"),
        },
    }


def alert(rule: Rule, level: Level) -> dict[str, Any]:
    """Return one Prometheus alert. Of several hosts that give a figure the worst counts."""
    worst, beyond = ("min", "<") if rule.is_below else ("max", ">")
    by = f" by ({rule.subject_label})" if rule.subject_label else ""
    condition = f"{worst}{by} ({rule.promql}) {beyond} {level.beyond:g}"
    lasting = {"for": duration(level.held_s)} if level.held_s else {}
    subject = f"{{{{ $labels.{rule.subject_label} }}}}" if rule.subject_label else ""
    summary = str(rule.sentence).format(value='{{ printf "%.4g" $value }}', subject=subject)
    return {
        "alert": rule.name,
        "expr": condition,
        **lasting,
        "labels": {"severity": str(level.severity)},
        "annotations": {
            "summary": summary,
            "command": rule.command,
            "runbook_url": runbooks.address(rule.name),
        },
    }


def duration(seconds: float) -> str:
    return f"{seconds / 60:g}m" if seconds % 60 == 0 else f"{seconds:g}s"


def alertmanager() -> dict[str, Any]:
    """Return Alertmanager's configuration: what follows from another open alert is not sent, as in
    our own engine. Whatever it sends comes into our list too; the receivers' other addresses are
    to be replaced.
    """
    return {
        "route": {
            "receiver": "team",
            "group_by": ["alertname"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "4h",
            "routes": [
                {
                    "receiver": "on-call",
                    "matchers": ['severity="critical"'],
                    "group_wait": "10s",
                    "repeat_interval": "1h",
                }
            ],
        },
        "inhibit_rules": list(inhibitions()),
        "receivers": [
            {"name": name, "webhook_configs": [{"url": url}, into_our_list()]}
            for name, url in RECEIVERS.items()
        ],
    }


def into_our_list() -> dict[str, Any]:
    """Return the receiver that is ourselves."""
    return {
        "url": f"{settings.PUBLIC_URL}/maintenance/alerts",
        "http_config": {
            "authorization": {"type": "Bearer", "credentials_file": CREDENTIALS_FILE},
        },
        "max_alerts": received_alerts.MAX_ALERTS,
    }


def inhibitions() -> Iterator[dict[str, Any]]:
    subjects = sorted({rule.subject_label for rule in RULES} - {""})
    yield {
        "source_matchers": ['severity="critical"'],
        "target_matchers": ['severity="warning"'],
        "equal": ["alertname", *subjects],
    }
    for rule in RULES:
        of_all = [name for name in rule.because_of if not shares_subjects(rule, name)]
        of_same = [name for name in rule.because_of if shares_subjects(rule, name)]
        if of_all:
            yield inhibition(of_all, rule)
        if of_same:
            yield inhibition(of_same, rule) | {"equal": [rule.subject_label]}


def shares_subjects(rule: Rule, cause: str) -> bool:
    other = find_rule(cause)
    return other is not None and rule.shares_subjects(other)


def inhibition(causes: Sequence[str], rule: Rule) -> dict[str, Any]:
    return {
        "source_matchers": [f'alertname=~"{"|".join(causes)}"'],
        "target_matchers": [f'alertname="{rule.name}"'],
    }
