"""`manage.py practice`: a failure for a new operator to find and mend."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from certification import checks
from certification.lib import clock
from certification.management import terminal
from certification.management.guard import cannot_look, friendly_errors
from certification.models import Drill, User
from certification.operations import practice
from certification.operations.practice import CAUSES, SCENARIOS, DrillFault

# What an action prints, what its JSON has, and whether it went well.
Outcome = tuple[list[str], dict[str, Any], bool]


class Command(BaseCommand):
    help = (
        "Starts a failure to practise on, where the emulator stands for AWS: the operator finds "
        "it, names its cause and mends what is left; passed drills tick steps of the training. "
        "Exit code 0: done, 1: a wrong answer, or not solved yet, 2: it cannot be done here."
    )
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("start", "answer", "check", "stop")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        actions = parser.add_subparsers(dest="action", metavar="ACTION")
        actions.add_parser("list", help="the drills, and the one that is on; the default")
        start = actions.add_parser("start", help="begin one")
        start.add_argument("name", choices=list(SCENARIOS))
        start.add_argument("--user", required=True, metavar="EMAIL", help="the operator")
        start.add_argument("--dry-run", action="store_true", help="only print what it would do")
        answer = actions.add_parser("answer", help="name the cause")
        answer.add_argument("cause", choices=list(CAUSES))
        actions.add_parser("check", help="whether it is solved; ends it when it is")
        actions.add_parser("stop", help="break it off")
        for action in actions.choices.values():
            action.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        act = ACTIONS.get(options["action"] or "", show_drills)
        try:
            lines, facts, is_well = act(options)
        except DrillFault as fault:
            raise CommandError(str(fault)) from fault
        if options["json"]:
            terminal.print_json(facts)
        else:
            self.stdout.write("\n".join(lines))
        if not is_well:
            sys.exit(1)


def show_drills(options: dict[str, Any]) -> Outcome:
    """List the drills, and the one that is on."""
    drill = Drill.current()
    lines = [f"{name:<12} {scenario.symptom}" for name, scenario in SCENARIOS.items()]
    if drill:
        lines.append(f"On now, for {drill.person}: {drill.scenario}.")
    facts = {
        "drills": {name: str(scenario.symptom) for name, scenario in SCENARIOS.items()},
        "causes": {name: str(text) for name, text in CAUSES.items()},
        "current": to_json(drill) if drill else None,
    }
    return lines, facts, True


def start(options: dict[str, Any]) -> Outcome:
    """Begin a drill."""
    practice.require_emulator()
    email, scenario = options["user"].strip().lower(), SCENARIOS[options["name"]]
    user = User.objects.filter(email=email, is_active=True).first()
    if user is None or not user.is_operator:
        raise CommandError(f"{email} is no operator here. Give the e-mail address of one.")
    if options["dry_run"]:
        return [f"Would start: {scenario.symptom}"], {"dryRun": True}, True
    drill, job = practice.start(scenario.name, email)
    lines = [
        str(scenario.symptom),
        f"Its certification is job {job.pk}. Look at:",
        *(f"  {command}" for command in scenario.commands),
        "Then name the cause: manage.py practice answer CAUSE",
        *(f"  {name:<20} {text}" for name, text in CAUSES.items()),
    ]
    return lines, to_json(drill) | {"job": str(job.pk), "look": list(scenario.commands)}, True


def take_answer(options: dict[str, Any]) -> Outcome:
    """Take the cause that the operator names."""
    drill = current()
    scenario = SCENARIOS[drill.scenario]
    if not practice.answer(drill, options["cause"]):
        lines = ["That is not it. Look once more at:", *(f"  {c}" for c in scenario.commands)]
        return lines, to_json(drill) | {"right": False}, False
    lines = [
        f"Right. {scenario.mended} What is left is yours:",
        *(f"  {command}" for command in scenario.left),
        "Then: manage.py practice check",
    ]
    return lines, to_json(drill) | {"right": True, "left": list(scenario.left)}, True


def finish(options: dict[str, Any]) -> Outcome:
    """End the drill that is on, if it is solved."""
    drill = current()
    if sentence := practice.check(drill):
        return [sentence], to_json(drill) | {"missing": sentence}, False
    took = clock.now() - drill.started_at
    lines = [
        f"Passed after {minutes(took)}, {terminal.pluralize(drill.wrong_answers, 'wrong answer')}."
    ]
    return lines, to_json(drill), True


def break_off(options: dict[str, Any]) -> Outcome:
    """End the drill that is on, whatever its state."""
    drill = current()
    practice.stop(drill)
    return ["The drill has ended; it is not passed."], to_json(drill), True


ACTIONS: dict[str, Callable[[dict[str, Any]], Outcome]] = {
    "start": start,
    "answer": take_answer,
    "check": finish,
    "stop": break_off,
}


def current() -> Drill:
    """Return the drill that is on. Raises DrillFault without one."""
    practice.require_emulator()
    drill = Drill.current()
    if drill is None:
        raise DrillFault("No drill is on. Start one: manage.py practice start NAME --user EMAIL")
    return drill


def minutes(duration: timedelta) -> str:
    return f"{duration.total_seconds() / 60:.1f} min"


def to_json(drill: Drill) -> dict[str, Any]:
    """Return a drill as the command's JSON has it."""
    return {
        "drill": drill.scenario,
        "person": drill.person,
        "startedAt": drill.started_at,
        "fixedAt": drill.fixed_at,
        "endedAt": drill.ended_at,
        "wrongAnswers": drill.wrong_answers,
        "passed": drill.passed,
    }
