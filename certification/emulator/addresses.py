"""Find where a call was sent: which endpoint of Bedrock, in which region, to which of its paths.

One port stands for every host of Bedrock. A call says which one it means in three ways: by a base
path `/bedrock-mantle/eu-west-1` (for SDKs with bearer keys, whose requests name no region), by its
Host header (`bedrock-mantle.eu-west-1.api.aws`), or by the service and region it is signed for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from certification.emulator.http import HttpRequest
from certification.inference import Endpoint

CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")
BASE_PATH = re.compile(r"/(bedrock-runtime|bedrock-mantle)/([a-z]{2,5}(?:-[a-z]+)+-\d+)(/.*)?")
HOST = re.compile(r"(bedrock[a-z-]*)\.([a-z]{2,5}(?:-[a-z]+)+-\d+)\.")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a call was sent.

    `region` is empty when neither path nor host name it, and `named` False when neither names the
    endpoint.
    """

    endpoint: Endpoint
    region: str
    path: str
    query: str
    named: bool


def locate(request: HttpRequest) -> Address:
    """Return the address of a call: what its base path says, else its host, else its signature."""
    path, _, query = request.target.decode("latin-1").partition("?")
    if path.startswith("/bedrock-"):
        match = BASE_PATH.fullmatch(path)
        if match:
            return Address(Endpoint(match[1]), match[2], match[3] or "/", query, named=True)
    match = HOST.match(request.header(b"host"))
    if match:
        mantle = match[1] == Endpoint.MANTLE
        endpoint = Endpoint.MANTLE if mantle else Endpoint.RUNTIME
        return Address(endpoint, match[2], path, query, named=True)
    signed = request.header(b"authorization")
    mantle = signed.startswith("AWS4-") and "/bedrock-mantle/aws4_request" in signed
    endpoint = Endpoint.MANTLE if mantle else Endpoint.RUNTIME
    return Address(endpoint, "", path, query, named=False)
