"""The twelve gates of a text model: each tests one thing that every user of a model relies on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from certification.inference import (
    Failure,
    Message,
    Operation,
    Outcome,
    Reply,
    Request,
    Text,
    Tool,
    ToolResult,
    ToolUse,
    assistant,
    user,
)
from certification.suite import graders
from certification.suite.case import (
    Answer,
    Case,
    Category,
    Context,
    Grade,
    Kind,
    Ref,
    Script,
    Step,
    text_answer,
)
from certification.suite.cases.builders import (
    DEFAULT_MAX_TOKENS,
    ENDLESS,
    NO_STREAMING,
    NO_STREAMING_TOOLS,
    NO_TOOLS,
    TOOL_CHOICE_PROBE,
    Outcomes,
    always,
    at,
    one_call,
    refuses_forced_call,
    single_turn,
    tool,
    variant_of,
    with_reference,
)
from certification.suite.sentences import gettext_noop, wording
from certification.suite.template_tokens import find_token
from certification.suite.text import truncate

# G01 access

_ACCESS = (
    (
        "Answer in one short sentence: what colour is a clear sky at noon?",
        "A clear sky at noon is blue.",
    ),
    ("Answer in one short sentence: how many legs does a spider have?", "A spider has eight legs."),
    (
        "Answer in one short sentence: which season comes after winter?",
        "Spring comes after winter.",
    ),
    ("Answer in one short sentence: what does a baker make?", "A baker makes bread."),
)


def access(ref: Ref) -> Script:
    prompt, answer = _ACCESS[variant_of(ref, len(_ACCESS))]

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = at(outcomes, 0)
        grade = graders.all_of(
            lambda: graders.not_empty(outcome), lambda: graders.has_usage(outcome)
        )
        # A refusal of access says nothing about the model, whatever its message.
        return replace(grade, valid=grade.valid and not graders.is_refusal(outcome))

    near_miss = Answer((), "end_turn")
    return one_call(
        ref, len(_ACCESS), single_turn(ref, prompt), grade, expected=answer, near_miss=near_miss
    )


# G02 streaming

_LISTS = (
    ("the seven days of the week, starting with Monday",
     "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    ("the first eight letters of the NATO alphabet",
     "Alfa Bravo Charlie Delta Echo Foxtrot Golf Hotel"),
    ("the numbers from twenty to thirty, in digits", "20 21 22 23 24 25 26 27 28 29 30"),
    ("the twelve months of the year, in English, starting with January",
     "January February March April May June July August September October November December"),
)  # fmt: skip


def streaming(ref: Ref) -> Script:
    what, items = _LISTS[variant_of(ref, len(_LISTS))]
    names = items.split()
    request = single_turn(
        ref, f"Write {what}, in one line, separated by commas, and nothing else.", Operation.STREAM
    )

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = at(outcomes, 0)
        if isinstance(outcome, Failure) and graders.refuses(outcome, NO_STREAMING):
            return graders.lacks("streaming", outcome)
        # Alpha is as common a spelling of the first letter as Alfa.
        alpha = names[0] == "Alfa" and graders.mentions(outcome, "Alpha").passed
        spelt = ["Alpha", *names[1:]] if alpha else names
        return graders.all_of(
            lambda: graders.event_order(outcome),
            lambda: graders.has_usage(outcome),
            lambda: graders.in_order(outcome, *spelt),
        )

    expected, near_miss = ", ".join(names), ", ".join(names[:-1])
    return one_call(ref, len(_LISTS), request, grade, expected=expected, near_miss=near_miss)


# G03 stop reason

_SHORT = (
    ("What is the capital of Portugal? Answer with the name only.", "Lisbon"),
    ("What is the chemical symbol of oxygen? Answer with the symbol only.", "O"),
    ("What is the opposite of hot? Answer with one word.", "Cold"),
)


def stop_reason(ref: Ref) -> Script:
    prompt, answer = _SHORT[variant_of(ref, len(_SHORT))]

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = at(outcomes, 0)
        return graders.all_of(
            lambda: graders.not_empty(outcome), lambda: graders.stop_reason(outcome, "end_turn")
        )

    near_miss = Answer((Text(answer),), "max_tokens")
    return one_call(
        ref, len(_SHORT), single_turn(ref, prompt), grade, expected=answer, near_miss=near_miss
    )


# G04 maxTokens

_LONG = (
    ("a lighthouse keeper", 96),
    ("a baker in a small town", 112),
    ("a ship that is lost at sea", 128),
    ("two children who find an old map", 144),
)
_TALE = (
    "The evening was calm and the wind came slowly from the west, and everyone in the house was "
    "waiting for news. "
)


def max_tokens(ref: Ref) -> Script:
    """Ask for more than the limit lets through; where the answer ends by itself, ask again for what
    has no end of its own.
    """
    subject, limit = _LONG[variant_of(ref, len(_LONG))]
    prompt = f"Write a story of at least 800 words about {subject}. Start with the story at once."
    request = Request((user(with_reference(ref, prompt)),), limit)

    def again(outcomes: Outcomes) -> Request | None:
        if not graders.ended_by_itself(at(outcomes, 0), limit):
            return None
        return Request((user(with_reference(ref, ENDLESS, 1)),), limit)

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = outcomes[-1] if outcomes else None
        # A model that reasons may spend the whole limit before its first word.
        if context.reasoning or graders.has_reasoning(outcome):
            return graders.cut_at(outcome, limit)
        return graders.all_of(
            lambda: graders.cut_at(outcome, limit, at_least=limit // 2),
            lambda: graders.not_empty(outcome),
        )

    expected = text_answer((_TALE * 40).strip())  # whoever serves it cuts it at the limit
    near_miss = Answer((Text(f"This is a story about {subject}. All ended well."),), "max_tokens")
    counted = text_answer("\n".join(map(str, range(1, 1001))))
    steps = (
        Step(always(request), expected, near_miss, room=False),
        Step(again, counted, near_miss, room=False),
    )
    return Script(ref, variant_of(ref, len(_LONG)), steps, grade)


# G05 stop sequence

_COPIES = (
    (("apple", "bread", "candle", "HALT", "door", "engine", "forest"), "HALT"),
    (("river", "stone", "cloud", "TERMINUS", "garden", "window", "bridge"), "TERMINUS"),
    (("paper", "silver", "orange", "FINIS", "ladder", "mirror", "needle"), "FINIS"),
)


def stop_sequence(ref: Ref) -> Script:
    """Have a text copied that holds the stop sequence. Several models stop at it and report
    end_turn: only an answer without the parameter shows that they would have written it.
    """
    words, marker = _COPIES[variant_of(ref, len(_COPIES))]
    before, after = words[: words.index(marker)], words[words.index(marker) + 1 :]
    prompt = (
        "Copy these seven words in this order, one per line, and write nothing else:\n"
        + "\n".join(words)
    )
    request = replace(single_turn(ref, prompt), stop_sequences=(marker,))

    def without_parameter(outcomes: Outcomes) -> Request | None:
        first = at(outcomes, 0)
        stopped = isinstance(first, Reply) and first.stop_reason == "end_turn"
        return single_turn(ref, prompt, step=1) if stopped else None

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        first, control = at(outcomes, 0), at(outcomes, 1)
        if isinstance(first, Failure) and graders.refuses(first, r"stop[\s_]*sequence"):
            return graders.lacks("stop_sequences", first)
        verdict = graders.all_of(
            lambda: graders.stop_reason(first, "stop_sequence", "end_turn"),
            lambda: graders.without(first, marker, *after),
        )
        if not verdict.passed or (isinstance(first, Reply) and first.stop_reason != "end_turn"):
            return verdict
        if not graders.usable(control).passed:
            return graders.usable(control)
        if not graders.in_order(control, *before, marker).passed:
            sentence = wording("stop_not_tested", marker=marker)
            return graders.failed(sentence, found=truncate(graders.text_of(first)))
        return graders.stops_before(first, control, marker)

    whole = text_answer("\n".join(words))  # whoever serves it stops at the marker
    near_miss = Answer((Text("\n".join((*before, *after))),), "end_turn")
    steps = (Step(always(request), whole, near_miss), Step(without_parameter, whole, near_miss))
    return Script(ref, variant_of(ref, len(_COPIES)), steps, grade)


# G06 system prompt

_TOPICS = (
    ("Name a fruit that is yellow.", "A banana is yellow."),
    ("Name an animal that can fly.", "A parrot can fly."),
    ("Name a tool for driving nails.", "A hammer drives nails."),
)


def system_prompt(ref: Ref) -> Script:
    prompt, answer = _TOPICS[variant_of(ref, len(_TOPICS))]
    rng = ref.rng()
    code = f"{rng.choice('KMRTX')}{rng.choice('BDFGH')}-{rng.randrange(2000, 9000)}"
    wrong = f"{code[:3]}{int(code[3:]) + 7}"
    system = (
        f"End every answer with the code {code}, as its very last characters. Write nothing after "
        "the code."
    )
    request = replace(single_turn(ref, f"{prompt} Answer in one short sentence."), system=system)

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = at(outcomes, 0)
        if isinstance(outcome, Failure) and graders.refuses(
            outcome, r"system (?:message|prompt|role|instruction)"
        ):
            return graders.lacks("system", outcome)
        return graders.ends_with(outcome, code)

    expected, near_miss = f"{answer} {code}", f"{answer} {wrong}"
    return one_call(ref, len(_TOPICS), request, grade, expected=expected, near_miss=near_miss)


# G07 memory over turns

_MEMORIES = (
    (
        "My cat is called {} and my dog is called {}.",
        "What is my cat called? Answer with the name only.",
        ("Mingau", "Pandora", "Farofa", "Biscoito", "Amora", "Tapioca"),
    ),
    (
        "I grew up in {} and I work in {} now.",
        "In which city did I grow up? Answer with the name only.",
        ("Lisbon", "Oslo", "Cairo", "Quito", "Dublin", "Nairobi"),
    ),
    (
        "My favourite flower is the {}; my sister prefers the {}.",
        "Which flower is my favourite? Answer with one word.",
        ("tulip", "orchid", "daisy", "violet", "peony", "jasmine"),
    ),
)


def memory(ref: Ref) -> Script:
    fact, question, names = _MEMORIES[variant_of(ref, len(_MEMORIES))]
    mine, other = ref.rng().sample(names, 2)
    history = (
        user(fact.format(mine, other)),
        assistant("Thank you, I will keep that in mind."),
        user("What is two plus two? Answer with the number only."),
        assistant("4"),
        user(with_reference(ref, question)),
    )

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = at(outcomes, 0)
        return graders.names_only(outcome, mine, names)

    request = Request(history, DEFAULT_MAX_TOKENS)
    return one_call(ref, len(_MEMORIES), request, grade, expected=mine, near_miss=other)


# G08 encoding

_LINES = (
    "Ação em São Paulo: preço de R$ 1.234,56 à vista 🚀",
    "Coração, pão e maçã: € 99,90 na promoção de verão 🌎",
    "Avó, avô e bebê às três: £ 5 ou ¥ 700 por maçã 🍎",
    "Über den Fluß nach Łódź: čaj za 25 Kč, jalapeño à 3 € 🎉",
)


def encoding(ref: Ref) -> Script:
    line = _LINES[variant_of(ref, len(_LINES))]
    number = ref.rng().randrange(100, 1000)
    line = f"{line} nº {number}"
    prompt = (
        "Repeat the following line exactly, character by character, and write nothing "
        f"else:\n{line}"
    )

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        return graders.nfc_contains(at(outcomes, 0), line)

    # What comes back when one side reads UTF-8 as Latin-1.
    garbled = line.encode().decode("latin-1")
    return one_call(
        ref, len(_LINES), single_turn(ref, prompt), grade, expected=line, near_miss=garbled
    )


# G09 input tokens

_PASSAGES = (
    "The library opens at nine in the morning and closes at seven in the evening from Monday to "
    "Friday. On Saturdays it opens at ten and closes at two. Books may be kept for three weeks "
    "and renewed twice, unless another reader has asked for them. Films and records may be kept "
    "for one week. Whoever returns a book late pays a small sum for each day. The reading room "
    "on the second floor is for quiet work, and the tables on the ground floor are for groups.",
    "The ferry leaves the harbour every forty minutes and needs about a quarter of an hour to "
    "reach the island. Tickets are sold at the small office beside the pier and on board, where "
    "they cost a little more. Bicycles travel free of charge outside the busy hours. In strong "
    "wind the ferry may be cancelled at short notice, and a bus then takes the passengers over "
    "the northern bridge. Dogs are welcome on the open deck if they are kept on a lead.",
    "The workshop makes chairs and tables from oak and ash that grow in the hills nearby. Each "
    "piece takes between two and five weeks, because the wood has to rest after it was cut. "
    "Visitors may watch the work on the first Thursday of every month and are asked to wear firm "
    "shoes. Orders are taken by letter or at the door. A third of the price is paid at once and "
    "the rest when the furniture is delivered, which the workshop does with its own cart.",
)
REFERENCE_MARGIN = 3  # tokens that a region may count above the reference region


def input_tokens(ref: Ref) -> Script:
    passage = _PASSAGES[variant_of(ref, len(_PASSAGES))]
    prompt = f"Read this text and then answer with the word OK.\n\n{passage}"
    # From one token per eight characters to one per two, and up to 300 for the template around the
    # prompt.
    low, high = len(prompt) // 8, len(prompt) // 2 + 300

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome, reference = at(outcomes, 0), context.reference_input_tokens
        checks = [lambda: graders.input_tokens(outcome, low, high)]
        if reference is not None:
            checks.append(
                lambda: graders.input_tokens(outcome, reference, reference + REFERENCE_MARGIN)
            )
        return graders.all_of(*checks)

    near_miss = Answer((Text("OK"),), input_tokens=3)
    return one_call(
        ref, len(_PASSAGES), single_turn(ref, prompt), grade, expected="OK", near_miss=near_miss
    )


# G10 error contract

REFUSAL_MS = 5000.0


# All four pass botocore's own validation (which checks types, required members and minimum sizes
# only) and are refused by the service before any model sees them.
_INVALID: tuple[tuple[str, Callable[[str], tuple[Message, ...]]], ...] = (
    (
        "request_assistant_first",
        lambda text: (assistant("Good morning."), user(text)),
    ),
    ("request_blank_text", lambda text: (user("", text),)),
    ("request_no_content", lambda text: (user(text), assistant(), user(text))),
    (
        "request_lone_result",
        lambda text: (user(ToolResult("tooluse_unknown", "42"), text),),
    ),
)


def error_contract(ref: Ref) -> Script:
    left_out = variant_of(ref, len(_INVALID))
    chosen = [invalid for i, invalid in enumerate(_INVALID) if i != left_out]
    steps = tuple(
        Step(
            always(Request(build(with_reference(ref, "Say good morning.", i)), DEFAULT_MAX_TOKENS)),
            None,
            text_answer("Good morning!"),
        )
        for i, (_, build) in enumerate(chosen)
    )

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        grades = [grade_refusal(name, at(outcomes, i)) for i, (name, _) in enumerate(chosen)]
        # A failure if there is one, else what could not be verdict, else the pass.
        worst = min(grades, key=lambda g: (g.passed, not g.valid))
        return replace(worst, evidence={"calls": [dict(g.evidence) for g in grades]})

    return Script(ref, left_out, steps, grade, continue_on_failure=True)


def grade_refusal(request: str, outcome: Outcome | None) -> Grade:
    """Grade the refusal of a request, whose name is a wording."""
    grade, name = graders.usable(outcome), wording(request)
    if not isinstance(outcome, Failure):
        if not grade.valid:  # no call, or a guardrail's answer
            return grade
        sentence = wording("accepted", request=name)
        return graders.failed(sentence, found=truncate(graders.text_of(outcome)))
    evidence = {**grade.evidence, "ms": outcome.timing.total_ms}
    if graders.is_validation(outcome):
        if outcome.timing.total_ms <= REFUSAL_MS:
            return graders.passed(wording("refused"), **evidence)
        seconds = round(outcome.timing.total_ms / 1000, 1)
        sentence = wording("refused_slowly", seconds=seconds, request=name)
        return graders.failed(sentence, **evidence)
    # A 5xx is what this gate is about; throttling, timeouts and refused access say nothing about
    # it.
    if (outcome.http_status or 0) >= 500 or grade.valid:
        code = truncate(outcome.code) or "an error"
        return graders.failed(wording("refused_wrongly", request=name, code=code), **evidence)
    return replace(grade, evidence=evidence)


# G11 tools


@dataclass(frozen=True)
class ToolExample:
    prompt: str
    tool: Tool
    arguments: Mapping[str, Any]
    wrong: Mapping[str, Any]  # looks right, does not fit the schema


TOOL_EXAMPLES = (
    ToolExample(
        "Use the tool to book a table for 4 people at the restaurant Aurora, in the garden.",
        tool(
            "book_table",
            "Books a table at a restaurant.",
            restaurant={"type": "string", "minLength": 1, "description": "Name of the restaurant"},
            people={"type": "integer", "minimum": 1, "description": "Number of guests"},
            place={"type": "string", "enum": ["garden", "hall", "terrace"]},
        ),
        {"restaurant": "Aurora", "people": 4, "place": "garden"},
        {"restaurant": "Aurora", "people": "four", "place": "garden"},
    ),
    ToolExample(
        "Use the tool to set the heating of the kitchen to 21 degrees, in the mode eco.",
        tool(
            "set_heating",
            "Sets the heating of one room.",
            room={"type": "string", "minLength": 1, "description": "Name of the room"},
            degrees={
                "type": "number",
                "minimum": 5,
                "maximum": 30,
                "description": "Degrees Celsius",
            },
            mode={"type": "string", "enum": ["eco", "comfort", "frost"]},
        ),
        {"room": "kitchen", "degrees": 21, "mode": "eco"},
        {"room": "kitchen", "degrees": 21, "mode": "economy"},
    ),
    ToolExample(
        "Use the tool to send parcel 7315 by express to Ana Souza, with a signature on delivery.",
        tool(
            "send_parcel",
            "Sends a parcel to somebody.",
            parcel={"type": "integer", "minimum": 1, "description": "Number of the parcel"},
            recipient={"type": "string", "minLength": 1, "description": "Name of the recipient"},
            service={"type": "string", "enum": ["standard", "express"]},
            signature={"type": "boolean", "description": "Whether the recipient must sign"},
        ),
        {"parcel": 7315, "recipient": "Ana Souza", "service": "express", "signature": True},
        {"parcel": 7315, "recipient": "Ana Souza", "service": "express"},
    ),
)


def tools(ref: Ref) -> Script:
    """Force a call, first without and then with streaming. Models that cannot be forced get the
    prompt alone.
    """
    errand = TOOL_EXAMPLES[variant_of(ref, len(TOOL_EXAMPLES))]

    def request(step: int, operation: Operation, choice: str) -> Request:
        prompt = user(with_reference(ref, errand.prompt, step))
        return Request(
            (prompt,), DEFAULT_MAX_TOKENS, operation, tools=(errand.tool,), tool_choice=choice
        )

    def unforced(outcomes: Outcomes) -> Request | None:
        return request(1, Operation.CONVERSE, "") if refuses_forced_call(at(outcomes, 0)) else None

    def streamed(outcomes: Outcomes) -> Request:
        return request(
            2, Operation.STREAM, "" if refuses_forced_call(at(outcomes, 0)) else errand.tool.name
        )

    call = ToolUse(f"tooluse_{ref.seed:08x}{ref.trial}", errand.tool.name, dict(errand.arguments))
    expected = Answer((call,), "tool_use")
    near_miss = Answer((replace(call, input=dict(errand.wrong)),), "tool_use")
    steps = (
        Step(
            always(request(0, Operation.CONVERSE, errand.tool.name)),
            expected,
            near_miss,
            probe=TOOL_CHOICE_PROBE,
        ),
        Step(unforced, expected, near_miss),
        Step(streamed, expected, near_miss, needs=frozenset({"streaming_tools"})),
    )

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        return grade_tools(errand.tool, outcomes)

    return Script(ref, variant_of(ref, len(TOOL_EXAMPLES)), steps, grade, continue_on_failure=True)


def grade_tools(tool: Tool, outcomes: Outcomes) -> Grade:
    """Grade the call without streaming, the streamed one, or both together."""
    unstreamed = [o for o in outcomes if o.operation == Operation.CONVERSE]
    streamed = [o for o in outcomes if o.operation == Operation.STREAM]
    last = unstreamed[-1] if unstreamed else None
    if isinstance(last, Failure) and graders.refuses(last, NO_TOOLS):
        return graders.lacks("tools", last)
    first = graders.tool_call(last, tool.name, tool.schema)
    if not streamed:
        return about_half(first, "tools")
    stream = streamed[-1]
    if first.passed and isinstance(stream, Failure) and graders.refuses(stream, NO_STREAMING_TOOLS):
        refusal = graders.lacks("streaming_tools", stream)
        sentence = wording("tools_not_streamed", sentence=refusal.sentence)
        return replace(refusal, passed=True, sentence=sentence)
    second = graders.all_of(
        lambda: graders.event_order(stream),
        lambda: graders.tool_call(stream, tool.name, tool.schema),
    )
    if first.passed and second.passed:
        grade = graders.passed(wording("tools_both_ways"))
    elif first.passed:
        grade = about_half(second, "tools_streamed_fail")
    elif second.passed:
        grade = about_half(first, "tools_unstreamed_fail")
    else:
        grade = about_half(first if first.valid else second, "tools_fail")
    evidence = {"converse": dict(first.evidence), "stream": dict(second.evidence)}
    return replace(grade, evidence=evidence)


def about_half(grade: Grade, code: str) -> Grade:
    """Say in a grade's sentence which way of calling tools it is about."""
    return replace(grade, sentence=wording(code, sentence=grade.sentence))


# G12 template leaks


def template_leaks(ref: Ref) -> Script:
    def grade(outcomes: Outcomes, context: Context) -> Grade:
        texts = [t for t in context.texts if isinstance(t, str)]
        for text in texts:
            token = find_token(text)
            if token:
                start = text.index(token)
                around = text[max(0, start - 40) : start + len(token) + 40]
                sentence = wording("template_token", token=truncate(token))
                return graders.failed(sentence, token=truncate(token), around=truncate(around))
        return graders.passed(wording("no_template_token", count=len(texts)), texts=len(texts))

    return Script(ref, 0, (), grade)


def gate(
    number: int,
    title: str,
    script: Callable[[Ref], Script],
    *needs: str,
    whole_run: bool = False,
    exact_form: bool = False,
) -> Case:
    return Case(
        f"G{number:02}",
        title,
        Kind.GATE,
        Category.CONTRACT,
        script,
        frozenset(needs),
        whole_run=whole_run,
        exact_form=exact_form,
    )


GATES = (
    gate(1, gettext_noop("Access"), access),
    gate(2, gettext_noop("Streaming"), streaming),
    gate(3, gettext_noop("Stop reason"), stop_reason),
    gate(4, gettext_noop("maxTokens"), max_tokens),
    gate(5, gettext_noop("Stop sequence"), stop_sequence),
    gate(6, gettext_noop("System prompt"), system_prompt, "system"),
    gate(7, gettext_noop("Memory across turns"), memory),
    gate(8, gettext_noop("Encoding"), encoding, exact_form=True),
    gate(9, gettext_noop("Input tokens"), input_tokens),
    gate(10, gettext_noop("Error contract"), error_contract),
    gate(11, gettext_noop("Tools"), tools, "tools"),
    gate(12, gettext_noop("No template leaks"), template_leaks, whole_run=True),
)
