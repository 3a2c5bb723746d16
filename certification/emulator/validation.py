"""Whether a Converse body is a request that the model behind it takes, checked in the service's
order and words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certification.emulator import body_schema, refusals
from certification.emulator.model_directory import Target

Body = Mapping[str, Any]

MEMBERS = frozenset((
    "messages", "system", "inferenceConfig", "toolConfig", "guardrailConfig", "additionalModelRequestFields",
    "additionalModelResponseFieldPaths", "promptVariables", "requestMetadata", "performanceConfig", "serviceTier",
    "outputConfig", "modelId",
))  # fmt: skip
INFERENCE_MEMBERS = frozenset(("maxTokens", "temperature", "topP", "stopSequences"))
BLOCKS = frozenset((
    "text", "image", "document", "video", "audio", "toolUse", "toolResult", "guardContent", "cachePoint",
    "reasoningContent", "citationsContent", "searchResult", "toolAddition", "toolRemoval",
))  # fmt: skip


def check_converse(body: Any, target: Target, *, streaming: bool) -> None:
    """Refusal: whatever the service or the model would not accept in this body."""
    body_schema.check(body, body_schema.CONVERSE)
    _no_strangers(body, MEMBERS, "#")
    _check_model(target, streaming)
    _check_inference(body.get("inferenceConfig", {}), target)
    _check_messages(body.get("messages", []), target)
    _check_system(body.get("system", []), target)
    _check_tools(body, target, streaming)
    _check_output(body.get("outputConfig"), target)
    _check_extra(body.get("additionalModelRequestFields"), body, target)


def _no_strangers(value: Mapping[str, Any], known: frozenset[str], path: str) -> None:
    for key in value:
        if key not in known:
            raise refusals.malformed(path, f"extraneous key [{key}] is not permitted")


def _check_model(target: Target, streaming: bool) -> None:
    model = target.model
    if "converse" not in model.capabilities:
        raise refusals.not_a_chat_model()
    if streaming and not model.streaming:
        raise refusals.not_streaming()


def _check_inference(config: Any, target: Target) -> None:
    _no_strangers(config, INFERENCE_MEMBERS, "#/inferenceConfig")
    limit = config.get("maxTokens")
    if limit is not None and limit < 1:
        raise refusals.constraint(
            limit, "inferenceConfig.maxTokens", "Member must have value greater than or equal to 1"
        )
    _in_range(config, "temperature")
    _in_range(config, "topP")
    stops = config.get("stopSequences", [])
    if stops and target.traits.no_stop_sequences:
        raise refusals.field_not_supported("stopSequences")
    _check_sampling(config, target)
    most = target.model.max_output_tokens
    if limit is not None and most is not None and limit > most:
        raise refusals.invalid(
            f"The maximum tokens you requested exceeds the model limit of {most}. "
            f"Try again with a maximum tokens value that is lower than {most}."
        )


def _in_range(config: Mapping[str, Any], name: str) -> None:
    value = config.get(name)
    if value is None:
        return
    if value > 1:
        rule = "Member must have value less than or equal to 1"
        raise refusals.constraint(float(value), f"inferenceConfig.{name}", rule)
    if value < 0:
        rule = "Member must have value greater than or equal to 0"
        raise refusals.constraint(float(value), f"inferenceConfig.{name}", rule)


def _check_sampling(config: Mapping[str, Any], target: Target) -> None:
    given = [name for name in ("temperature", "topP") if config.get(name) is not None]
    if not given:
        return
    if target.traits.no_temperature:
        raise refusals.field_not_supported(given[0])
    vendor_name = {"temperature": "temperature", "topP": "top_p"}[given[0]]
    if target.traits.newest_claude:
        raise refusals.model_says(f"`{vendor_name}` is deprecated for this model.")
    if len(given) == 2 and target.traits.one_sampling_parameter:
        raise refusals.model_says(
            "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
        )


def _check_messages(messages: Any, target: Target) -> None:
    previous = ""
    asked: list[str] = []
    for i, message in enumerate(messages):
        role = message.get("role")
        if role not in ("user", "assistant"):
            rule = "Member must satisfy enum value set: [user, assistant]"
            raise refusals.constraint(role, f"messages.{i + 1}.member.role", rule)
        if i == 0 and role != "user":
            raise _start_with_user()
        if role == previous:
            raise refusals.invalid(
                "A conversation must alternate between user and assistant roles. Make sure the conversation "
                "alternates between user and assistant roles and try again."
            )
        previous = role
        content = message.get("content", [])
        _check_content(content, i, role, target)
        asked = _check_turn(content, i, role, asked)
    if not messages:
        raise _start_with_user()
    if previous == "assistant" and target.traits.no_prefill:
        raise refusals.model_says(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )


def _start_with_user() -> refusals.Refusal:
    return refusals.invalid(
        "A conversation must start with a user message. Try again with a conversation that starts with a user message."
    )


def _check_content(content: Any, i: int, role: str, target: Target) -> None:
    if not content:
        raise refusals.invalid(
            f"The content field in the Message object at messages.{i} is empty. Add a ContentBlock object to the "
            "content field and try again."
        )
    for j, block in enumerate(content):
        path = f"#/messages/{i}/content/{j}"
        _no_strangers(block, BLOCKS, path)
        if "text" in block:
            if not block["text"].strip():
                raise refusals.invalid(
                    f"The text field in the ContentBlock object at messages.{i}.content.{j} is blank. Add text to the "
                    "text field, and try again."
                )
        elif not block:
            raise refusals.invalid(
                f"The ContentBlock object at messages.{i}.content.{j} must set one of the following keys: text, image, "
                "toolUse, toolResult, document, video, cachePoint, reasoningContent."
            )
        else:
            _check_modality(block, role, target)


def _check_modality(block: Mapping[str, Any], role: str, target: Target) -> None:
    capabilities = target.model.capabilities
    if "image" in block and "vision" not in capabilities:
        raise refusals.invalid(
            "This model doesn't support the image content block that you provided. Update the content block and try again."
        )
    if "document" in block and "documents" not in capabilities:
        raise refusals.invalid("This model doesn't support documents.")
    for kind in ("video", "audio"):
        if kind in block and kind.upper() not in target.model.input_modalities:
            raise refusals.invalid(
                f"This model doesn't support the {kind} content block that you provided. Update the content block and "
                "try again."
            )
    if role == "assistant" and ("image" in block or "document" in block):
        raise refusals.invalid(
            "This model doesn't support images or documents in assistant messages."
        )


def _check_turn(content: list[Mapping[str, Any]], i: int, role: str, asked: list[str]) -> list[str]:
    """The tool uses that the next turn must answer. Refusal: results and uses of the turn before do
    not match.
    """
    if role == "assistant":
        return [
            str(block["toolUse"].get("toolUseId", "")) for block in content if "toolUse" in block
        ]
    answered = [
        str(block["toolResult"].get("toolUseId", "")) for block in content if "toolResult" in block
    ]
    if len(answered) > len(asked) or any(a not in asked for a in answered):
        raise refusals.invalid(
            f"The number of toolResult blocks at messages.{i}.content exceeds the number of toolUse blocks of previous "
            "turn."
        )
    missing = [use for use in asked if use not in answered]
    if missing:
        raise refusals.invalid(
            f"Expected toolResult blocks at messages.{i}.content for the following Ids: {', '.join(missing)}"
        )
    return []


def _check_system(system: Any, target: Target) -> None:
    if system and "system" not in target.model.capabilities:
        raise refusals.invalid(
            "This model doesn't support system messages. Try again without a system message or use a model that "
            "supports system messages."
        )
    for i, block in enumerate(system):
        if "text" in block and not str(block["text"]).strip():
            raise refusals.invalid(
                f"The text field in the SystemContentBlock object at system.{i} is blank. Add text to the text field, "
                "and try again."
            )


def _check_tools(body: Body, target: Target, streaming: bool) -> None:
    config = body.get("toolConfig")
    if config is None:
        blocks = (block for message in body["messages"] for block in message["content"])
        if any("toolUse" in block or "toolResult" in block for block in blocks):
            raise refusals.invalid(
                "The toolConfig field must be defined when using toolUse and toolResult content blocks."
            )
        return
    if "tools" not in target.model.capabilities:
        raise refusals.invalid("This model doesn't support tool use.")
    if streaming and "streaming_tools" not in target.model.capabilities:
        raise refusals.invalid("This model doesn't support tool use in streaming mode.")
    tools = config.get("tools", [])
    if not tools:
        raise refusals.constraint(
            "[]", "toolConfig.tools", "Member must have length greater than or equal to 1"
        )
    names = [_check_tool(tool, i) for i, tool in enumerate(tools) if "toolSpec" in tool]
    _check_choice(config.get("toolChoice"), names, target)


def _check_tool(tool: Mapping[str, Any], i: int) -> str:
    spec = tool["toolSpec"]
    if not spec.get("name"):
        raise refusals.constraint(
            "null", f"toolConfig.tools.{i + 1}.member.toolSpec.name", "Member must not be null"
        )
    schema = (spec.get("inputSchema") or {}).get("json")
    if not isinstance(schema, dict):
        raise refusals.invalid(
            f"The format of the value at toolConfig.tools.{i}.toolSpec.inputSchema.json is invalid. Provide a json "
            "object for the field and try again."
        )
    if schema.get("type") != "object":
        raise refusals.invalid(
            f"The value at toolConfig.tools.{i}.toolSpec.inputSchema.json.type must be one of the following: object."
        )
    if not isinstance(schema.get("properties", {}), dict) or not isinstance(
        schema.get("required", []), list
    ):
        raise refusals.model_says(
            f"tools.{i}.custom.input_schema: JSON schema is invalid. It must match JSON Schema draft 2020-12 "
            "(https://json-schema.org/draft/2020-12)."
        )
    return str(spec["name"])


def _check_choice(choice: Any, names: list[str], target: Target) -> None:
    if not choice:
        return
    for form in target.traits.refused_tool_choices & choice.keys():
        raise refusals.field_not_supported(f"toolConfig.toolChoice.{form}")
    named = (choice.get("tool") or {}).get("name") if "tool" in choice else None
    if "tool" in choice and named not in names:
        raise refusals.model_says(f"tool_choice: Tool '{named}' not found in provided tools")


def _check_output(config: Any, target: Target) -> None:
    if config and not target.traits.structured_output:
        raise refusals.field_not_supported("outputConfig")


def _check_extra(extra: Any, body: Body, target: Target) -> None:
    """additionalModelRequestFields: what belongs to another vendor's body is an extraneous key."""
    if not extra:
        return
    vendor = target.model.vendor.lower()
    known = _EXTRA.get(vendor)
    if known is not None:
        _no_strangers(extra, known, "#")
    if "reasoning" not in target.model.capabilities:
        _no_thoughts(extra, vendor)
    if "reasoningConfig" in extra:
        _check_effort(extra["reasoningConfig"], body)
    thinking = extra.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") == "enabled":
        _check_thinking(thinking, body, target)
    if isinstance(thinking, dict) and thinking.get("type") == "adaptive":
        _check_adaptive(body, target)
    if "output_config" in extra and vendor == "anthropic":
        _check_output_config(extra["output_config"])


def _no_thoughts(extra: Mapping[str, Any], vendor: str) -> None:
    """Refusal: reasoning is asked of a model that has none."""
    for key in ("thinking", "reasoning_config", "reasoningConfig"):
        if key in extra and vendor == "anthropic":
            raise refusals.model_says(f"{key}: Extra inputs are not permitted")
        if key in extra and vendor == "amazon":
            raise refusals.reasoning_config()
        if key in extra:
            raise refusals.malformed("#", f"extraneous key [{key}] is not permitted")


def _check_effort(config: Any, body: Body) -> None:
    """Refusal: Nova's reasoningConfig as it must not be. Its high effort allows no inferenceConfig."""
    if not isinstance(config, dict) or config.get("type") not in ("enabled", "disabled"):
        raise refusals.reasoning_config()
    effort = config.get("maxReasoningEffort")
    allowed = ("low", "medium") if body.get("inferenceConfig") else ("low", "medium", "high")
    if config["type"] == "enabled" and effort not in allowed:
        raise refusals.reasoning_config()


def _check_thinking(thinking: Mapping[str, Any], body: Body, target: Target) -> None:
    if target.traits.newest_claude:
        raise refusals.model_says(
            '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
            '"output_config.effort" to control thinking behavior.'
        )
    budget = thinking.get("budget_tokens", 0)
    if not isinstance(budget, int) or budget < 1024:
        raise refusals.model_says(
            "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
        )
    if (body.get("inferenceConfig") or {}).get("maxTokens", 1 << 40) <= budget:
        raise refusals.model_says("`max_tokens` must be greater than `thinking.budget_tokens`.")
    _no_forced_tool(body)


def _check_adaptive(body: Body, target: Target) -> None:
    if not target.traits.adaptive_thinking:
        raise refusals.model_says("adaptive thinking is not supported on this model")
    _no_forced_tool(body)


def _no_forced_tool(body: Body) -> None:
    choice = (body.get("toolConfig") or {}).get("toolChoice") or {}
    if "any" in choice or "tool" in choice:
        raise refusals.model_says("Thinking may not be enabled when tool_choice forces tool use.")


def _check_output_config(config: Any) -> None:
    effort = config.get("effort") if isinstance(config, dict) else None
    if effort is not None and effort not in ("low", "medium", "high", "xhigh", "max"):
        raise refusals.model_says(
            "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'"
        )


_EXTRA: dict[str, frozenset[str]] = {
    "anthropic": frozenset(
        (
            "thinking",
            "top_k",
            "anthropic_beta",
            "output_config",
            "tool_choice",
            "tools",
            "reasoning_config",
            "context_management",
            "inference_geo",
        )
    ),
    "amazon": frozenset(
        ("inferenceConfig", "reasoningConfig", "additionalModelRequestFields", "schemaVersion")
    ),
}
