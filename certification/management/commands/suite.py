"""`manage.py suite`: show the cases, run one now, estimate what a run costs."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from certification import checks
from certification.engine import backend, dispatch, evidence, try_case
from certification.engine.calls import Unauthenticated
from certification.management import terminal
from certification.management.guard import friendly_errors
from certification.models import CustomCase, Tier
from certification.stack import temporary
from certification.suite import custom, docs_page, registry, versions
from certification.suite.case import Case, Ref


class Command(BaseCommand):
    help = "Lists and shows the suite's cases, runs one now, estimates calls, tokens and cost."
    requires_system_checks: list[str] = [checks.TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        many = verbs.add_parser("list", help="every case")
        many.add_argument("--kind", choices=["text", "embedding"], help="default: both")
        many.add_argument("--tier", choices=Tier.values, default=Tier.DEEP)
        one = verbs.add_parser(
            "show", help="one case: its requests, an answer that passes and one that narrowly fails"
        )
        attempt = verbs.add_parser(
            "try", help="run one case now and print its requests, replies and grade"
        )
        for verb in (one, attempt):
            verb.add_argument("case", metavar="CASE", help="a case id such as G01")
            verb.add_argument("--seed", type=int, help="0 to 4294967295; default: random")
            verb.add_argument("--trial", type=int, default=0)
        attempt.add_argument("--model", required=True)
        attempt.add_argument("--region", required=True)
        cost = verbs.add_parser("cost", help="estimated calls, tokens and cost of one run")
        cost.add_argument("--model", required=True)
        cost.add_argument("--tier", choices=Tier.values, default=Tier.FULL)
        verbs.add_parser("doc", help="print docs/suite.md")
        for verb in (many, one, attempt, cost):
            verb.add_argument("--json", action="store_true", help="print one JSON document")

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        verb = "attempt" if options["verb"] == "try" else options["verb"]
        getattr(self, verb)(options, terminal.console())

    def list(self, options: dict[str, Any], out: Console) -> None:
        kinds = [options["kind"]] if options["kind"] else ["text", "embedding"]
        rows = [
            case_json(kind, case)
            for kind in kinds
            for case in registry.cases(kind, options["tier"], docs_page.EVERYTHING)
        ]
        if options["json"]:
            return terminal.print_json(rows)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("Case", "Title", "For", "Kind", "Category", "Trials", "Needs"):
            table.add_column(heading)
        for row in rows:
            table.add_row(
                row["id"],
                row["title"],
                row["for"],
                row["kind"],
                row["category"],
                str(row["repeats"]),
                ", ".join(row["needs"]),
            )
        out.print(table)
        out.print(
            f"{len(rows)} cases, suite {versions.SUITE_VERSION}, policy {versions.POLICY_VERSION}"
        )
        return None

    def doc(self, _options: dict[str, Any], _out: Console) -> None:
        self.stdout.write(docs_page.document(), ending="")

    def show(self, options: dict[str, Any], out: Console) -> None:
        case, seed = find_case(options["case"]), valid_seed(options["seed"])
        preview = try_case.show(case, Ref(seed, case.id, options["trial"]))
        if options["json"]:
            return terminal.print_json({"case": case_json("", case), "seed": seed, **preview})
        out.print(
            Text.assemble((case.id, "bold"), f" {case.title}  "),
            f"({case.kind}, {case.category}, {case.repeats} trials, seed {seed})",
            sep="",
        )
        for number, step in enumerate(preview["steps"], 1):
            out.print(f"\nCall {number}", style="bold")
            for name in ("request", "passes", "nearly"):
                if step[name] is not None:
                    out.print(
                        Text(f"{name}:\n{json.dumps(step[name], indent=2, ensure_ascii=False)}")
                    )
        return None

    def attempt(self, options: dict[str, Any], out: Console) -> None:
        temporary.database()
        case, seed = find_case(options["case"]), valid_seed(options["seed"])
        model = dispatch.find_models([options["model"]])[0]
        region = dispatch.find_regions([options["region"]])[0]
        with temporary.emulator():
            started = time.perf_counter()
            try:
                result = try_case.try_case(
                    model, region, case, Ref(seed, case.id, options["trial"])
                )
            except Unauthenticated as error:
                message = evidence.cut(error.failure.message)
                raise CommandError(f"The AWS credentials do not work: {message}") from error
        if options["json"]:
            return terminal.print_json(result)
        what = f" {case.title}: {model} in {region}, {backend.name()}, seed {seed}"
        out.print(Text.assemble((case.id, "bold"), what))
        for number, call in enumerate(result["calls"], 1):
            title = (f"\nCall {number}", "bold")
            out.print(Text.assemble(title, f" through {call['route']}"))
            out.print(Text(json.dumps(call["request"], indent=2, ensure_ascii=False)))
            names = ("reply", "failure", "partial", "timing", "request_id")
            response = {name: call[name] for name in names if name in call}
            out.print(Text(json.dumps(response, indent=2, ensure_ascii=False)))
        symbol, colour = "…", "blue"
        if result["valid"]:
            symbol, colour = ("✓", "green") if result["passed"] else ("✕", "red")
        out.print(Text(f"\n{symbol} {result['sentence']}", colour))
        out.print(
            f"{terminal.pluralize(len(result['calls']), 'call')} in "
            f"{time.perf_counter() - started:.2f} s. Nothing was stored."
        )
        return None

    def cost(self, options: dict[str, Any], out: Console) -> None:
        model = dispatch.find_models([options["model"]])[0]
        custom_cases = CustomCase.objects.specs()
        size = registry.estimate(
            model.kind, options["tier"], frozenset(model.capabilities), custom_cases
        )
        usd = model.cost_usd(size.input_tokens, size.output_tokens)
        figures = {
            "model": model.api_model_id,
            "tier": options["tier"],
            "calls": size.calls,
            "inputTokens": size.input_tokens,
            "outputTokens": size.output_tokens,
            "reservedTokens": size.reserved_tokens,
            "usd": usd,
        }
        if options["json"]:
            return terminal.print_json(figures)
        price = "its price is not known" if usd is None else f"about {usd:.4f} USD"
        out.print(
            f"{model}, {options['tier']} tier, one region: "
            f"{terminal.pluralize(size.calls, 'call')}, {size.input_tokens} tokens in, "
            f"{size.output_tokens} out, {price}. Bedrock reserves {size.reserved_tokens} tokens of "
            "quota meanwhile."
        )
        if not registry.has_suite(model.kind):
            out.print(f"There is no suite for {model.get_kind_display()} models yet.")
        return None


def case_json(kind: str, case: Case) -> dict[str, Any]:
    """Return a case as the command prints it with --json."""
    return {
        "id": case.id,
        "title": case.title,
        "for": kind,
        "kind": case.kind,
        "category": case.category,
        "repeats": case.repeats,
        "needs": sorted(case.needs),
    }


def find_case(name: str) -> Case:
    """Return a case of the suite or a custom case, enabled or not. Raises CommandError."""
    if name in registry.BY_ID:
        return registry.BY_ID[name]
    row = (
        CustomCase.objects.filter(case_id=name).first() if custom.CASE_ID.fullmatch(name) else None
    )
    if row is None:
        raise CommandError(f"There is no case {name!r}. See: manage.py suite list")
    return custom.case(row.spec)


def valid_seed(seed: int | None) -> int:
    """Return the seed, or a random one. Raises CommandError."""
    if seed is not None and not 0 <= seed < 2**32:
        raise CommandError("--seed must be between 0 and 4294967295.")
    return secrets.randbits(32) if seed is None else seed
