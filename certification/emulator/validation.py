"""Check that a Converse body is a request its model takes, in the service's order and words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certification.emulator import body_schema, refusals
from certification.emulator.model_directory import ResolvedModel
from certification.inference import API

Body = Mapping[str, Any]

MEMBERS = frozenset((
    "messages", "system", "inferenceConfig", "toolConfig", "guardrailConfig",
    "additionalModelRequestFields", "additionalModelResponseFieldPaths", "promptVariables",
    "requestMetadata", "performanceConfig", "serviceTier", "outputConfig", "modelId",
))  # fmt: skip
INFERENCE_MEMBERS = frozenset(("maxTokens", "temperature", "topP", "stopSequences"))
BLOCKS = frozenset((
    "text", "image", "document", "video", "audio", "toolUse", "toolResult", "guardContent",
    "cachePoint", "reasoningContent", "citationsContent", "searchResult", "toolAddition",
    "toolRemoval",
))  # fmt: skip


def check_converse(body: Any, target: ResolvedModel, *, streaming: bool) -> None:
    """Refuse whatever the service or the model would not accept in this body."""
    body_schema.check(body, body_schema.CONVERSE)
    allow_only(body, MEMBERS, "#")
    if not target.speaks(API.CONVERSE):
        raise refusals.not_a_chat_model()
    if streaming and not target.model.streaming:
        raise refusals.not_streaming()
    check_inference(body.get("inferenceConfig", {}), target)
    check_messages(body.get("messages", []), target)
    check_system(body.get("system", []), target)
    check_tools(body, target, streaming)
    if body.get("outputConfig") and not target.traits.structured_output:
        raise refusals.field_not_supported("outputConfig")
    check_vendor_fields(body.get("additionalModelRequestFields"), body, target)


def allow_only(value: Mapping[str, Any], known: frozenset[str], path: str) -> None:
    """Refuse an object with other members."""
    for key in value:
        if key not in known:
            raise refusals.malformed(path, f"extraneous key [{key}] is not permitted")


def check_inference(config: Any, target: ResolvedModel) -> None:
    allow_only(config, INFERENCE_MEMBERS, "#/inferenceConfig")
    max_tokens = config.get("maxTokens")
    if max_tokens is not None and max_tokens < 1:
        rule = "Member must have value greater than or equal to 1"
        raise refusals.constraint(max_tokens, "inferenceConfig.maxTokens", rule)
    for name in ("temperature", "topP"):
        value = config.get(name)
        if value is not None and not 0 <= value <= 1:
            bound = "less than or equal to 1" if value > 1 else "greater than or equal to 0"
            rule = f"Member must have value {bound}"
            raise refusals.constraint(float(value), f"inferenceConfig.{name}", rule)
    if config.get("stopSequences", []) and target.traits.no_stop_sequences:
        raise refusals.field_not_supported("stopSequences")
    check_sampling(config, target)
    limit = target.model.max_output_tokens
    if max_tokens is not None and limit is not None and max_tokens > limit:
        raise refusals.too_many_output_tokens(limit)


def check_sampling(config: Mapping[str, Any], target: ResolvedModel) -> None:
    names = [name for name in ("temperature", "topP") if config.get(name) is not None]
    if not names:
        return
    if target.traits.no_temperature:
        raise refusals.field_not_supported(names[0])
    vendor_name = {"temperature": "temperature", "topP": "top_p"}[names[0]]
    if target.traits.newest_claude:
        raise refusals.model_says(f"`{vendor_name}` is deprecated for this model.")
    if len(names) == 2 and target.traits.one_sampling_parameter:
        raise refusals.model_says(
            "`temperature` and `top_p` cannot both be specified for this model. Please use only "
            "one."
        )


def check_messages(messages: Any, target: ResolvedModel) -> None:
    previous = ""
    open_tool_uses: list[str] = []
    for i, message in enumerate(messages):
        role = message.get("role")
        if role not in ("user", "assistant"):
            rule = "Member must satisfy enum value set: [user, assistant]"
            raise refusals.constraint(role, f"messages.{i + 1}.member.role", rule)
        if i == 0 and role != "user":
            raise refusals.must_start_with_user()
        if role == previous:
            raise refusals.invalid(
                "A conversation must alternate between user and assistant roles. Make sure the "
                "conversation alternates between user and assistant roles and try again."
            )
        previous = role
        content = message.get("content", [])
        check_content(content, i, role, target)
        open_tool_uses = check_turn(content, i, role, open_tool_uses)
    if not messages:
        raise refusals.must_start_with_user()
    if previous == "assistant" and target.traits.no_prefill:
        raise refusals.model_says(
            "This model does not support assistant message prefill. The conversation must end "
            "with a user message."
        )


def check_content(content: Any, i: int, role: str, target: ResolvedModel) -> None:
    if not content:
        raise refusals.invalid(
            f"The content field in the Message object at messages.{i} is empty. Add a "
            "ContentBlock object to the content field and try again."
        )
    for j, block in enumerate(content):
        path = f"#/messages/{i}/content/{j}"
        allow_only(block, BLOCKS, path)
        if "text" in block:
            if not block["text"].strip():
                raise refusals.invalid(
                    f"The text field in the ContentBlock object at messages.{i}.content.{j} is "
                    "blank. Add text to the text field, and try again."
                )
        elif not block:
            raise refusals.invalid(
                f"The ContentBlock object at messages.{i}.content.{j} must set one of the "
                "following keys: text, image, toolUse, toolResult, document, video, cachePoint, "
                "reasoningContent."
            )
        else:
            check_modality(block, role, target)


def check_modality(block: Mapping[str, Any], role: str, target: ResolvedModel) -> None:
    capabilities = target.model.capabilities
    if "image" in block and "vision" not in capabilities:
        raise refusals.invalid(
            "This model doesn't support the image content block that you provided. Update the "
            "content block and try again."
        )
    if "document" in block and "documents" not in capabilities:
        raise refusals.invalid("This model doesn't support documents.")
    for kind in ("video", "audio"):
        if kind in block and kind.upper() not in target.model.input_modalities:
            raise refusals.invalid(
                f"This model doesn't support the {kind} content block that you provided. Update "
                "the content block and try again."
            )
    if role == "assistant" and ("image" in block or "document" in block):
        raise refusals.invalid(
            "This model doesn't support images or documents in assistant messages."
        )


def check_turn(
    content: list[Mapping[str, Any]], i: int, role: str, open_tool_uses: list[str]
) -> list[str]:
    """Return the tool uses that the next turn must answer.

    Refuses results that do not match the tool uses of the turn before.
    """
    if role == "assistant":
        return [
            str(block["toolUse"].get("toolUseId", "")) for block in content if "toolUse" in block
        ]
    results = [
        str(block["toolResult"].get("toolUseId", "")) for block in content if "toolResult" in block
    ]
    if len(results) > len(open_tool_uses) or any(use not in open_tool_uses for use in results):
        raise refusals.invalid(
            f"The number of toolResult blocks at messages.{i}.content exceeds the number of "
            "toolUse blocks of previous turn."
        )
    missing = [use for use in open_tool_uses if use not in results]
    if missing:
        raise refusals.invalid(
            f"Expected toolResult blocks at messages.{i}.content for the following Ids: "
            f"{', '.join(missing)}"
        )
    return []


def check_system(system: Any, target: ResolvedModel) -> None:
    if system and "system" not in target.model.capabilities:
        raise refusals.invalid(
            "This model doesn't support system messages. Try again without a system message or "
            "use a model that supports system messages."
        )
    for i, block in enumerate(system):
        if "text" in block and not str(block["text"]).strip():
            raise refusals.invalid(
                f"The text field in the SystemContentBlock object at system.{i} is blank. Add "
                "text to the text field, and try again."
            )


def check_tools(body: Body, target: ResolvedModel, streaming: bool) -> None:
    config = body.get("toolConfig")
    if config is None:
        blocks = (block for message in body["messages"] for block in message["content"])
        if any("toolUse" in block or "toolResult" in block for block in blocks):
            raise refusals.invalid(
                "The toolConfig field must be defined when using toolUse and toolResult content "
                "blocks."
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
    names = [check_tool(tool, i) for i, tool in enumerate(tools) if "toolSpec" in tool]
    check_choice(config.get("toolChoice"), names, target)


def check_tool(tool: Mapping[str, Any], i: int) -> str:
    spec = tool["toolSpec"]
    if not spec.get("name"):
        raise refusals.constraint(
            "null", f"toolConfig.tools.{i + 1}.member.toolSpec.name", "Member must not be null"
        )
    schema = (spec.get("inputSchema") or {}).get("json")
    if not isinstance(schema, dict):
        raise refusals.invalid(
            f"The format of the value at toolConfig.tools.{i}.toolSpec.inputSchema.json is "
            "invalid. Provide a json object for the field and try again."
        )
    if schema.get("type") != "object":
        raise refusals.invalid(
            f"The value at toolConfig.tools.{i}.toolSpec.inputSchema.json.type must be one of the "
            "following: object."
        )
    if not isinstance(schema.get("properties", {}), dict) or not isinstance(
        schema.get("required", []), list
    ):
        raise refusals.model_says(
            f"tools.{i}.custom.input_schema: JSON schema is invalid. It must match JSON Schema "
            "draft 2020-12 (https://json-schema.org/draft/2020-12)."
        )
    return str(spec["name"])


def check_choice(choice: Any, names: list[str], target: ResolvedModel) -> None:
    if not choice:
        return
    for form in target.traits.refused_tool_choices & choice.keys():
        raise refusals.field_not_supported(f"toolConfig.toolChoice.{form}")
    named = (choice.get("tool") or {}).get("name") if "tool" in choice else None
    if "tool" in choice and named not in names:
        raise refusals.model_says(f"tool_choice: Tool '{named}' not found in provided tools")


def check_vendor_fields(extra: Any, body: Body, target: ResolvedModel) -> None:
    """Check additionalModelRequestFields: another vendor's fields are extraneous keys."""
    if not extra:
        return
    vendor = target.model.vendor.lower()
    known = VENDOR_FIELDS.get(vendor)
    if known is not None:
        allow_only(extra, known, "#")
    if "reasoning" not in target.model.capabilities:
        refuse_reasoning(extra, vendor)
    if "reasoningConfig" in extra:
        check_reasoning_config(extra["reasoningConfig"], body)
    if isinstance(extra.get("thinking"), dict):
        check_thinking(extra["thinking"], body, target)
    if "output_config" in extra and vendor == "anthropic":
        config = extra["output_config"]
        effort = config.get("effort") if isinstance(config, dict) else None
        if effort is not None and effort not in ("low", "medium", "high", "xhigh", "max"):
            raise refusals.model_says(
                "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'"
            )


def refuse_reasoning(extra: Mapping[str, Any], vendor: str) -> None:
    """Refuse fields that ask a model for reasoning which it does not have."""
    for key in ("thinking", "reasoning_config", "reasoningConfig"):
        if key in extra and vendor == "anthropic":
            raise refusals.model_says(f"{key}: Extra inputs are not permitted")
        if key in extra and vendor == "amazon":
            raise refusals.reasoning_config()
        if key in extra:
            raise refusals.malformed("#", f"extraneous key [{key}] is not permitted")


def check_reasoning_config(config: Any, body: Body) -> None:
    """Check Nova's reasoningConfig. Its high effort allows no inferenceConfig."""
    if not isinstance(config, dict) or config.get("type") not in ("enabled", "disabled"):
        raise refusals.reasoning_config()
    effort = config.get("maxReasoningEffort")
    allowed = ("low", "medium") if body.get("inferenceConfig") else ("low", "medium", "high")
    if config["type"] == "enabled" and effort not in allowed:
        raise refusals.reasoning_config()


def check_thinking(thinking: Mapping[str, Any], body: Body, target: ResolvedModel) -> None:
    """Check Claude's thinking: with a budget, or adaptive from 4.6 on."""
    if thinking.get("type") == "enabled":
        if target.traits.newest_claude:
            raise refusals.model_says(
                '"thinking.type.enabled" is not supported for this model. Use '
                '"thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
            )
        budget = thinking.get("budget_tokens", 0)
        if not isinstance(budget, int) or budget < 1024:
            raise refusals.model_says(
                "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
            )
        if (body.get("inferenceConfig") or {}).get("maxTokens", 1 << 40) <= budget:
            raise refusals.model_says("`max_tokens` must be greater than `thinking.budget_tokens`.")
    elif thinking.get("type") == "adaptive":
        if not target.traits.adaptive_thinking:
            raise refusals.model_says("adaptive thinking is not supported on this model")
    else:
        return
    choice = (body.get("toolConfig") or {}).get("toolChoice") or {}
    if "any" in choice or "tool" in choice:
        raise refusals.model_says("Thinking may not be enabled when tool_choice forces tool use.")


VENDOR_FIELDS: dict[str, frozenset[str]] = {
    "anthropic": frozenset((
        "thinking", "top_k", "anthropic_beta", "output_config", "tool_choice", "tools",
        "reasoning_config", "context_management", "inference_geo",
    )),
    "amazon": frozenset(
        ("inferenceConfig", "reasoningConfig", "additionalModelRequestFields", "schemaVersion")
    ),
}  # fmt: skip
