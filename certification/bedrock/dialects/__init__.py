"""The inference APIs of Bedrock on the wire, one dialect each."""

from certification.bedrock.dialects.chat_completions import ChatCompletions
from certification.bedrock.dialects.converse import Converse
from certification.bedrock.dialects.dialect import Dialect
from certification.bedrock.dialects.messages import Messages
from certification.bedrock.dialects.responses import Responses
from certification.inference import API

DIALECTS: dict[API, Dialect] = {
    API.CONVERSE: Converse(),
    API.CHAT_COMPLETIONS: ChatCompletions(),
    API.RESPONSES: Responses(),
    API.MESSAGES: Messages(),
}


def dialect_for(api: API) -> Dialect:
    """Return the dialect of an API. KeyError for InvokeModel, which `invoke` speaks."""
    return DIALECTS[api]
