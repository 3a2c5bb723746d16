"""Pages for everybody, without a login: certificates and their check, a model's public page.

They show nothing internal, and the language is in their address (`lang=`), so that a link shows
the same to all.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required, permission_required
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import translation
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from certification.certificates import codes, verification
from certification.lib import clock, request_rates
from certification.models import Certificate, CertificateKey
from certification.web import certificates, public_model
from certification.web.jobs import user_of

MAX_FORM = 20_000  # bytes of a form around its file


def public_page(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Show a page without a login, in the language of its address where that has one."""

    @functools.wraps(view)
    def shown(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        language = request.GET.get("lang", "")
        if language not in dict(settings.LANGUAGES):
            return view(request, *args, **kwargs)
        with translation.override(language):
            response = view(request, *args, **kwargs)
        response["Content-Language"] = language
        return response

    return login_not_required(shown)


def canonical_code(typed: str) -> str:
    """Return the code in an address. Http404, which names no other, for anything else."""
    code = codes.read(typed)
    if code is None:
        raise Http404(_("This is not the code of a certificate. Check its characters."))
    return code


@require_safe
@public_page
def certificate(request: HttpRequest, code: str) -> HttpResponse:
    """Show a certificate and whether it is in force."""
    canonical = canonical_code(code)
    if canonical != code:
        return redirect("certificate", canonical, permanent=True)
    page = certificates.load(code, clock.now())
    if page is None:
        raise Http404(_("No certificate has this code. Check its characters."))
    response = render(request, "public/certificate.html", {"page": page})
    response["Cache-Control"] = "no-cache"
    return response


@require_safe
@public_page
def certificate_json(request: HttpRequest, code: str) -> HttpResponse:
    """Send the signed statement as it was issued."""
    row = get_object_or_404(Certificate, code=canonical_code(code))
    return attachment(bytes(row.envelope), "application/json", f"certificate-{row.code}.json")


@require_safe
@public_page
def certificate_pdf(request: HttpRequest, code: str) -> HttpResponse:
    """Send the PDF in the language of the page; it is made when somebody first wants it."""
    row = get_object_or_404(Certificate, code=canonical_code(code))
    language = translation.get_language() or settings.LANGUAGE_CODE
    pdf = certificates.pdf_of(row, language)
    return attachment(pdf, "application/pdf", f"certificate-{row.code}-{language}.pdf")


@require_safe
@public_page
def certificate_keys(request: HttpRequest) -> HttpResponse:
    """Send every public key, for checks without us."""
    pems = CertificateKey.objects.values_list("public_key", flat=True)
    return HttpResponse("".join(pems), content_type="application/x-pem-file")


def attachment(data: bytes, content_type: str, name: str) -> HttpResponse:
    response = HttpResponse(data, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


@require_safe
@public_page
def model(request: HttpRequest, api_model_id: str) -> HttpResponse:
    """Show where a model works, for people outside; for an unknown one, what it may have meant."""
    now = clock.now()
    page = public_model.load(api_model_id, request.GET.get("region", ""), now)
    if page is None:
        context = {"near": public_model.near_names(api_model_id)}
        return render(request, "public/model_unknown.html", context, status=404)
    response = render(request, "public/model.html", {"page": page})
    response["Cache-Control"] = f"public, max-age={settings.PUBLIC_CACHE_SECONDS}"
    patch_vary_headers(response, ["Accept-Language", "Cookie"])  # both may choose the language
    etag = f'"{hashlib.sha256(response.content).hexdigest()[:32]}"'
    response["ETag"] = etag
    return get_conditional_response(request, etag, response=response) or response


@permission_required("certification.change_certificate", raise_exception=True)
@require_http_methods(["GET", "HEAD", "POST"])
def withdraw(request: HttpRequest, code: str) -> HttpResponse:
    """Show the confirmation (GET) or withdraw the certificate for good (POST)."""
    row = get_object_or_404(Certificate.objects.select_related("model"), code=code)
    reason = request.POST.get("reason", "").strip()
    if request.method != "POST" or not reason:
        context = {"certificate": row, "is_missing": request.method == "POST"}
        status = 400 if context["is_missing"] else 200
        return render(request, "certification/certificate_withdraw.html", context, status=status)
    row.withdraw(user_of(request), reason[:2000])
    return redirect("certificate", row.code)  # which says so, with the reason of who was first


# Without a session there is nothing that a forged form could do: it checks a file and stores
# nothing. Django would read the file, however large, before it knows whether the form is forged.
@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
@public_page
def verify(request: HttpRequest) -> HttpResponse:
    """Show the form, and what is known of a code (GET) or a file (POST)."""
    typed, status = request.GET.get("code", ""), 200
    context: dict[str, Any] = {}
    if typed or request.method == "POST":
        if is_too_frequent(request):
            context, status = {"is_too_frequent": True}, 429
        elif request.method == "POST":
            context = checked_upload(request)
            status = 413 if "is_too_large" in context else 200
        else:
            context = {"result": certificates.verify_typed(typed, clock.now())}
    context |= {
        "typed": typed[: codes.MAX_TYPED],
        # beside an answer it would be one query more, and another certificate's
        "newest": None if "result" in context else certificates.chain_end(),
        "public_url": settings.PUBLIC_URL,
    }
    response = render(request, "public/verify.html", context, status=status)
    response["Cache-Control"] = "no-store"
    if status == 429:
        response["Retry-After"] = str(int(request_rates.seconds_to_wait()))
    return response


def is_too_frequent(request: HttpRequest) -> bool:
    """Count a check, and tell whether its address made too many in a minute."""
    limit = settings.VERIFICATIONS_PER_MINUTE
    caller = f"a{request_rates.address_of(request)}"
    return bool(limit) and request_rates.count_request("verify", caller) > limit


def checked_upload(request: HttpRequest) -> dict[str, Any]:
    """Check the form's file in memory, without reading one that is too large."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > verification.MAX_FILE + MAX_FORM:
        return {"is_too_large": True}
    request.upload_handlers = [MemoryFileUploadHandler(request)]
    file = request.FILES.get("file")
    if file is None:
        return {"is_missing": True}
    if file.size is None or file.size > verification.MAX_FILE:
        return {"is_too_large": True}
    return {"result": certificates.verify_upload(file.read(), clock.now())}
