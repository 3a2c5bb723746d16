"""Strange requests to every address as each role, and what is wrong with the answers."""

from __future__ import annotations

import json
import random
import re
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from django.contrib import admin
from django.http.response import HttpResponseBase
from django.test import Client

from certification.api import docs, tokens
from certification.models import AIModel, ApiKey, CertificationJob, Region, Role, User
from certification.models.accounts import sync_groups
from certification.web.urls import urlpatterns as pages

NOBODY, NEWCOMER, SUPERUSER = "nobody", "newcomer", "superuser"
ROLES = (NOBODY, NEWCOMER, *Role.values, SUPERUSER)
SCRIPT = "'\"><script>fuzz()</script>"
STRANGE: tuple[str, ...] = (
    "", " ", "0", "1", "-1", "2", "9" * 30, "1e309", "NaN", "true", "null", "[]", "{}", "a,b", "%",
    "\0", "a\0b", "\x1b[2J", "\r\nSet-Cookie: a=b", "\u202egnp.exe", "\ufeff",
    "\U0001f469\u200d\U0001f52c", "\t",
    SCRIPT, "{{7*7}}", "{% debug %}", "=cmd|' /C calc'!A0", "../../etc/passwd", "//evil.example/",
    "http://127.0.0.1:1/", "javascript:alert(1)", "' OR 1=1 --", "x" * 300, "é" * 3000,
    "9999-12-31T23:59:59+14:00", "0001-01-01", "2026-02-30", "(", "^(a|aa)+$", "[" * 2000,
    str(uuid.UUID(int=0)), "certified", "us-east-1", "COMPLETED", "quick",
)  # fmt: skip
STRANGE_JSON: tuple[Any, ...] = (
    None, True, False, 0, -1, 10**30, 1e308, 0.1, [], {}, [[]], [None], {"": ""}, {"a": {"b": []}},
    ["us-east-1"] * 500,
)  # fmt: skip
BODIES: tuple[bytes, ...] = (
    b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a":1,"a":2}', b"[" * 5000, b"1" * 5000, b"a=b",
    b'{"email":"\\ud800"}', b'{"maxCostUsd":NaN}', b"<a/>",
)  # fmt: skip
HEADERS: dict[str, tuple[str, ...]] = {
    "Authorization": ("Bearer", "Bearer x", "Basic YTpi", "Bearer myia_x", "Bearer a.b.c", "\xff"),
    "Accept": ("text/html", "image/png", "*/*;q=x", ""),
    "Accept-Language": ("pt-BR", "xx", "a" * 500, ",;q"),
    "Content-Type": ("text/plain", "multipart/form-data", "application/json; charset=x", "\xff"),
    "Idempotency-Key": ("a", "\x1b", "k" * 300, ""),
    "If-None-Match": ("*", '"x"', 'W/"', ""),
    "Last-Event-ID": ("done", "1:1:", "x", "9" * 40, "-1.a"),
    "X-Request-Id": ("a\nb", "x" * 200, SCRIPT, "ok-1"),
    "HX-Request": ("true",),
    "Origin": ("https://evil.example", "null"),
    "X-Forwarded-For": ("1.2.3.4", "x", ", ,"),
    "X-HTTP-Method-Override": ("DELETE",),
}
HOST = "localhost"


@dataclass(frozen=True)
class Fault:
    """An answer that should not be."""

    role: str
    request: str
    status: int
    sentence: str


@dataclass
class Fuzzer:
    """Draws requests from a seed, sends them within this process, and collects the faults."""

    seed: int
    faults: list[Fault] = field(default_factory=list)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.calls = [
            (path, method.upper(), call)
            for path, methods in json.loads(docs.schema()[0])["paths"].items()
            for method, call in methods.items()
        ]
        self.components = json.loads(docs.schema()[0])["components"]["schemas"]
        self.known: dict[str, list[str]] = {}
        self.people: dict[str, tuple[Client, str]] = {}

    def run(self, requests: int) -> None:
        """Send so many requests."""
        kinds = [self.call_api, self.open_page, self.use_admin, self.open_badge]
        for number in range(requests):
            if number % 400 == 0:  # some requests log their user out, disable or delete them
                self.log_in()
            self.random.choices(kinds, weights=[5, 2, 4, 1])[0](self.random.choice(ROLES))

    def log_in(self) -> None:
        """Log each role in, with a session for pages and a token or key for the API, after putting
        right what requests deleted.
        """
        sync_groups()
        for role in ROLES:
            client = Client(raise_request_exception=False, SERVER_NAME=HOST)
            self.people[role] = client, ""
            if role == NOBODY:
                continue
            email = f"{role}-{uuid.UUID(int=self.random.getrandbits(128))}@example.org"
            user = User.objects.create_user(
                email, role=role if role in Role.values else "", is_staff=role != Role.VIEWER
            )
            if role == SUPERUSER:
                User.objects.filter(pk=user.pk).update(is_superuser=True)
            client.force_login(User.objects.get(pk=user.pk))
            key = ApiKey(user=user, name="fuzz", role=Role.ADMINISTRATOR)
            self.people[role] = client, self.random.choice([tokens.issue(user), key.issue()])
        self.known = {
            name: [str(value) for value in model.objects.values_list(column, flat=True)[:5]]
            for name, model, column in (
                ("model", AIModel, "api_model_id"),
                ("uuid", AIModel, "pk"),
                ("region", Region, "pk"),
                ("job", CertificationJob, "pk"),
            )
        }

    # Values

    def value(self) -> str:
        """Return a strange value, or a known one."""
        if self.random.random() < 0.4:
            known = self.random.choice(list(self.known.values()))
            if known:
                return str(self.random.choice(known))
        return self.random.choice(STRANGE)

    def query(self, names: list[str]) -> str:
        chosen = [name for name in names if self.random.random() < 0.4]
        chosen += [self.value() for _ in range(self.random.choice((0, 0, 0, 1)))]
        return "&".join(f"{quote(n, '')}={quote(self.value(), '')}" for n in chosen)

    def headers(self) -> dict[str, str]:
        return {
            name: self.random.choice(values)
            for name, values in HEADERS.items()
            if self.random.random() < 0.08
        }

    def mutated(self, value: Any) -> Any:
        """Return a JSON value like this one, with some of its parts replaced."""
        if self.random.random() < 0.15:
            return self.random.choice((*STRANGE_JSON, self.value()))
        if isinstance(value, dict):
            changed = {n: self.mutated(v) for n, v in value.items() if self.random.random() < 0.9}
            return changed | ({self.value(): 1} if self.random.random() < 0.1 else {})
        if isinstance(value, list):
            return [self.mutated(item) for item in value]
        return value

    # Requests

    def call_api(self, role: str) -> None:
        path, method, call = self.random.choice(self.calls)
        address = re.sub(r"\{\w+\}", lambda _match: quote(self.value(), ""), path)
        if self.random.random() < 0.7:
            address = re.sub(r"\{\w+\}", lambda match: quote(self.known_for(match[0]), ""), path)
        parameters = call.get("parameters", [])
        names = [p["name"] for p in parameters if p["in"] == "query" and p["name"] != "token"]
        body: bytes = b""
        if "requestBody" in call:
            body = self.random.choice(BODIES)
            if self.random.random() < 0.75:
                schema = call["requestBody"]["content"]["application/json"]["schema"]
                component = self.components.get(schema.get("$ref", "").rsplit("/", 1)[-1], schema)
                [example] = component.get("examples", [{}])[:1]
                body = json.dumps(self.mutated(example)).encode()
        headers = {"Content-Type": "application/json"}
        if credential := self.people[role][1]:
            headers["Authorization"] = f"Bearer {credential}"
        answer = self.send(role, method, address, self.query(names), body, headers)
        if answer is None:
            return
        documented = {int(status) for status in call["responses"] if status.isdigit()}
        # another address may have come of it, or another method
        if answer.status_code not in documented | {304, 404, 405}:
            self.report(role, method, address, answer, "This status is not documented.")
        self.check_envelope(role, method, address, answer)

    def known_for(self, parameter: str) -> str:
        kind = "job" if "job" in parameter else "uuid"
        if "certification" in parameter:
            model, region = self.known["uuid"], self.known["region"]
            return f"{self.random.choice(model)}:{self.random.choice(region)}"
        return str(self.random.choice(self.known[kind] or STRANGE))

    def open_page(self, role: str) -> None:
        page = self.random.choice(pages)
        address = "/" + re.sub(r"<uuid:\w+>", lambda _m: self.uuid(), str(page.pattern))
        address = re.sub(r"<\w+:\w+>", lambda _match: quote(self.value(), ""), address)
        names = [
            "q",
            "vendor",
            "region",
            "kind",
            "status",
            "page",
            "seen",
            "verdict",
            "next",
            "case",
        ]
        method = self.random.choice(("GET", "GET", "GET", "POST", "HEAD"))
        body = self.query([*names, "username", "password", "models", "regions", "tier", "max_cost"])
        form = {"Content-Type": "application/x-www-form-urlencoded"} if method == "POST" else {}
        self.send(role, method, address, self.query(names), body.encode(), form)

    def uuid(self) -> str:
        kind = self.random.choice(("uuid", "job"))
        return str(self.random.choice(self.known[kind] or [uuid.UUID(int=0)]))

    def use_admin(self, role: str) -> None:
        """Open or fill a list or a form of the admin."""
        model, model_admin = self.random.choice(list(admin.site._registry.items()))
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        key = self.value() if self.random.random() < 0.5 else self.row_of(model)
        address = base + self.random.choice(
            ("", "", "add/", "add/", f"{quote(key, '')}/change/", f"{quote(key, '')}/delete/",
             f"{quote(key, '')}/history/")
        )  # fmt: skip
        filters = [f for f in model_admin.list_filter if isinstance(f, str)]
        names = ["q", "p", "o", "all", "e", "_to_field", "_popup", "_changelist_filters"]
        names += [*filters, *(f"{name}__exact" for name in filters), "id__in", "pk__isnull"]
        if self.random.random() < 0.5:
            self.send(role, "GET", address, self.query(names), b"", {})
            return
        fields = [f.name for f in model._meta.get_fields() if hasattr(f, "attname")]
        fields += ["action", "_selected_action", "post", "_save", "_continue", "password1"]
        fields += ["confirmed"]
        actions = [str(action) for action in model_admin.actions or ()]
        form = {name: self.value() for name in fields if self.random.random() < 0.7}
        if actions and self.random.random() < 0.4:
            form |= {"action": self.random.choice(actions), "_selected_action": key}
        body = "&".join(f"{quote(n, '')}={quote(v, '')}" for n, v in form.items()).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        self.send(role, "POST", address, self.query(["_to_field", "_popup"]), body, headers)

    def row_of(self, model: Any) -> str:
        return str(model._default_manager.values_list("pk", flat=True).first() or "1")

    def open_badge(self, role: str) -> None:
        model = self.random.choice(self.known["model"])
        parts = [
            self.random.choice((model, self.value())) for _ in range(self.random.choice((1, 2)))
        ]
        address = "/badges/" + "/".join(quote(part, "") for part in parts)
        address += self.random.choice((".svg", ".json", ""))
        self.send(role, "GET", address, self.query(["style", "label", "color", "lang"]), b"", {})

    # Answers

    def send(  # noqa: PLR0917 - what a request consists of
        self, role: str, method: str, address: str, query: str, body: bytes, headers: dict[str, str]
    ) -> HttpResponseBase | None:
        """Send a request and check what holds of every answer. None where the client itself
        refused to send it.
        """
        client = self.people[role][0]
        headers = headers | self.headers()
        content_type = headers.pop("Content-Type", "application/octet-stream")
        try:
            answer = client.generic(
                method, address, body, content_type, headers=headers, QUERY_STRING=query
            )
        except UnicodeError:  # a header that no HTTP has
            return None
        close: Callable[[], None] = getattr(answer, "close", lambda: None)
        self.statuses[address.split("/")[1], answer.status_code] += 1
        request = f"{method} {address}?{query} {body[:300]!r}"
        if answer.status_code >= 500:
            self.report(role, method, request, answer, "The server failed.")
        is_html = answer.get("Content-Type", "").startswith(("text/html", "image/svg"))
        if is_html and not answer.streaming and b"<script>fuzz" in getattr(answer, "content", b""):
            self.report(role, method, request, answer, "Markup came back unescaped.")
        if any("\n" in value or "\r" in value for _name, value in answer.items()):
            self.report(role, method, request, answer, "A header has a line of its own.")
        close()
        return answer

    def check_envelope(self, role: str, method: str, address: str, answer: Any) -> None:
        if method == "HEAD" or answer.status_code in (204, 304) or answer.streaming:
            return
        try:
            body = json.loads(answer.content)
            good = body["status"] in ("success", "fail", "error")
        except (ValueError, KeyError, TypeError):
            good = answer.status_code in (301, 302)
        if not good:
            self.report(role, method, address, answer, "The body is not in its envelope.")

    def report(self, role: str, method: str, request: str, answer: Any, sentence: str) -> None:
        self.faults.append(Fault(role, request[:600], answer.status_code, sentence))
