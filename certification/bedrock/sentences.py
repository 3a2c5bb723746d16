"""Whole sentences of AWS and what they mean, to recognise one that arrives cut off.

A terminal, a log line or a chat shows the beginning of a message. `cut_reason` completes it: what
is cut so early that two causes begin alike stays undecided.
"""

from __future__ import annotations

import re

from certification.reasons import Reason as R

MIN_LENGTH = 22  # characters: less is the beginning of too much

SENTENCES: dict[R, tuple[str, ...]] = {
    R.IAM_DENIED: ("you are not authorized to perform this operation",),
    R.USE_CASE_FORM: (
        "model use case details have not been submitted for this account. fill out the "
        "anthropic use case details form before using the model",
    ),
    R.PAYMENT_INSTRUMENT: (
        "model access is denied due to invalid_payment_instrument: a valid payment instrument "
        "must be provided",
    ),
    R.MARKETPLACE_SUBSCRIPTION: (
        "your aws marketplace subscription for this model cannot be completed at this time",
        "model access is denied due to iam user or service role is not authorized to perform the "
        "required aws marketplace actions",
    ),
    R.MODEL_ACCESS_NOT_GRANTED: (
        "you don't have access to the model with the specified model id",
        "your account is not authorized to invoke this api operation",
    ),
    R.COUNTRY_NOT_SUPPORTED: (
        "access to anthropic models is not allowed from unsupported countries, regions, or "
        "territories",
    ),
    R.ACCOUNT_BLOCKED: ("access to bedrock models is not allowed for this account",),
    R.LEGACY_BLOCKED: (
        "access denied. this model is marked by provider as legacy and you have not been actively "
        "using the model in the last 30 days. please upgrade to an active model on amazon bedrock",
    ),
    R.END_OF_LIFE: (
        "this model version has reached the end of its life. please refer to the aws "
        "documentation for more details",
    ),
    R.UNKNOWN_MODEL: ("the provided model identifier is invalid",),
    R.NEEDS_INFERENCE_PROFILE: (
        "invocation of model id x with on-demand throughput isn't supported. retry your request "
        "with the id or arn of an inference profile that contains this model",
        "retry your request with the id or arn of an inference profile that contains this model",
    ),
    R.PARAMETER_NOT_SUPPORTED: (
        "you invoked an unsupported model or your request did not allow prompt caching. see the "
        "documentation for more information",
        "this model doesn't support tool use in streaming mode",
        "the maximum tokens you requested exceeds the model limit",
    ),
    R.MODALITY_NOT_SUPPORTED: (
        "this action doesn't support the model that you provided. try again with a supported text "
        "or chat model",
        "the provided model doesn't support counting tokens",
    ),
    R.MALFORMED_REQUEST: (
        "a conversation must start with a user message. try again with a conversation that starts "
        "with a user message",
        "a conversation must alternate between user and assistant roles",
        "malformed input request: please reformat your input and try again",
        "messages: text content blocks must be non-empty",
    ),
    R.CONTEXT_TOO_LONG: (
        "number of input tokens exceeds maximum length. please update the input to try again",
        "input is too long for requested model",
    ),
    R.CONTENT_FILTER: (
        "this request has been blocked by our content filters. our filters automatically flagged "
        "this prompt because it may conflict with our aup or aws responsible ai policy",
        "output blocked by content filtering policy",
    ),
    R.THROTTLED_TOKENS: ("too many tokens, please wait before trying again",),
    R.DAILY_TOKENS: ("too many tokens per day, please wait before trying again",),
    R.THROTTLED_REQUESTS: (
        "too many requests, please wait before trying again",
        "your request rate is too high. reduce the frequency of requests. check your bedrock model "
        "invocation quotas",
        "the request was denied due to exceeding the account quotas for amazon bedrock",
    ),
    R.CREDENTIALS_EXPIRED: ("the security token included in the request is expired",),
    R.CREDENTIALS_INVALID: (
        "the security token included in the request is invalid",
        "the request signature we calculated does not match the signature you provided. check your "
        "aws secret access key and signing method",
        "authentication failed: please make sure your api key is valid",
    ),
    R.CREDENTIALS_MISSING: (
        "unable to load credentials from any of the providers in the chain",
        "could not load credentials from any providers",
    ),
    R.MODEL_ERROR: (
        "the model produced invalid sequence as part of tooluse",
        "the model returned an unexpected error while processing the request",
    ),
    R.MODEL_TIMEOUT: ("model has timed out in processing the request. try your request again",),
    R.MODEL_NOT_READY: (
        "model is not ready for inference. wait and try your request again",
        "the model is not ready for inference",
    ),
    R.INTERNAL_ERROR: (
        "the system encountered an unexpected error during processing. try your request again",
    ),
    R.SERVICE_UNAVAILABLE: (
        "bedrock is unable to process your request",
        "the service is temporarily unavailable",
    ),
}
"""Normalised as the rules read them (see `diagnosis.normalise`), without the last full stop."""


def cut_reason(text: str) -> R | None:
    """Return the meaning of a known sentence that ends, unfinished, where a normalised text ends.

    None when there is none, or when sentences of different meaning begin so.
    """
    text = _MODEL_ID.sub("x", text.rstrip(" .·…\"'}])\\"))
    meanings = {
        reason
        for sentence, reason in _ROWS
        if (at := text.rfind(sentence[:MIN_LENGTH])) >= 0
        and len(tail := text[at:]) < len(sentence)
        and sentence.startswith(tail)
    }
    return meanings.pop() if len(meanings) == 1 else None


_MODEL_ID = re.compile(r"(?<=\bmodel id )\S+")
_ROWS = tuple((sentence, reason) for reason, those in SENTENCES.items() for sentence in those)
