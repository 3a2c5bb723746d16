"""Calls to Bedrock as tests make them: from a thread, one after the other."""

from __future__ import annotations

from dataclasses import replace

from certification.bedrock.client import Bedrock
from certification.inference import (
    API,
    AnyRequest,
    EmbedReply,
    EmbedRequest,
    Operation,
    Reply,
    Request,
    RouteTarget,
)
from certification.lib import event_loop


def send(
    bedrock: Bedrock,
    region: str,
    target: RouteTarget | str,
    request: AnyRequest,
    remaining_s: float = 60,
) -> Reply | EmbedReply:
    """Make one call and wait for it; a bare id is called by Converse. Raises BedrockError."""
    if isinstance(target, str):
        api = API.INVOKE if isinstance(request, EmbedRequest) else API.CONVERSE
        target = RouteTarget(target, "ON_DEMAND", api=api)
    return event_loop.run(bedrock.send(region, target, request, remaining_s))


def converse(
    bedrock: Bedrock,
    region: str,
    target: RouteTarget | str,
    request: Request,
    remaining_s: float = 60,
) -> Reply:
    reply = send(
        bedrock, region, target, replace(request, operation=Operation.CONVERSE), remaining_s
    )
    assert isinstance(reply, Reply)
    return reply


def stream(
    bedrock: Bedrock,
    region: str,
    target: RouteTarget | str,
    request: Request,
    remaining_s: float = 60,
) -> Reply:
    reply = send(bedrock, region, target, replace(request, operation=Operation.STREAM), remaining_s)
    assert isinstance(reply, Reply)
    return reply


def embed(
    bedrock: Bedrock,
    region: str,
    target: RouteTarget | str,
    request: EmbedRequest,
    remaining_s: float = 60,
) -> EmbedReply:
    reply = send(bedrock, region, target, request, remaining_s)
    assert isinstance(reply, EmbedReply)
    return reply
