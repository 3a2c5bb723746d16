"""The suite explained: why each case is there, and the table of all cases as Markdown."""

from __future__ import annotations

from certification.suite import registry
from certification.suite.case import ALL_CAPABILITIES, Case

EVERYTHING = ALL_CAPABILITIES | {"reasoning"}  # what a model that has it all would be asked

# one sentence a row
WHY: dict[str, str] = {
    "G01": "No other case matters if a short question gets no answer, or an answer without the token counts that billing needs. Whether the answer is right is left to the scored cases.",
    "G02": "Chat is streamed: the events must be in order, with text, usage and a proper end, and a known list must arrive whole. How it is cut into deltas is left aside.",
    "G03": "Clients use the stop reason to decide whether an answer is complete. Only the stop reason is tested, not the answer.",
    "G04": "maxTokens limits cost and time; a region that ignores it, or hides that it cut an answer, breaks both limits. An answer that ends by itself tests nothing: the model is asked again for what has no end. The story is left aside.",
    "G05": "Agents end answers with stop sequences; a refused parameter is a missing capability, an ignored one is a defect. An answer that reports end_turn counts only if the same request without the parameter shows that the model writes the sequence; one that never does has tested nothing and does not pass. How well the rest is copied is left aside.",
    "G06": "The rules of a product are in the system prompt: the answer must end with a code that only the system prompt has. What stands before it is left aside.",
    "G07": "A conversation consists of its earlier turns; a route that drops them answers a different question. The answer must name what an earlier turn said, and no other candidate.",
    "G08": "Accents, currency signs and emoji must come back unchanged. Only the encoding is tested: whether the line is repeated once and alone, as it was told, is left aside.",
    "G09": "The same prompt must count the same tokens in every region; a different count means a different model or chat template. The answer is left aside.",
    "G10": "Invalid requests must be refused at once with a validation error: clients retry a 5xx and trust a success. The words of the refusal are left aside.",
    "G11": "Agents depend on tools, and streaming is where tools break first: a call must come, once, with arguments that fit the schema. Whether they are the right ones is left to T1.",
    "G12": "A token of the chat template in a text, a thought or an argument shows that the model is served with the wrong template: control tokens, tags of tool calls and of thoughts, names of channels and roles, whole or cut off. Markup and code in an answer are none.",
    "T1": "Only one of four tools fits; choosing and filling it is the everyday case.",
    "T2": "A model that calls a tool when none is needed cannot be given tools. The right answer must be the only candidate that is named.",
    "T3": "Two independent questions need two calls at once.",
    "T4": "Nested objects, enums and lists that are streamed in pieces must form valid JSON.",
    "T5": "The answer must use the tool's result: its figure must be there, and the result must not just be repeated. Other figures, such as a conversion, are left aside.",
    "J1": "Turning free text into exact fields is the most common use in products.",
    "J2": "The answer must fit the schema and add no fields of its own.",
    "J3": "A label and nothing else, because a program reads the answer.",
    "S1": "Streaming must not change the answer.",
    "S2": "A pause of ten seconds within an answer looks like a hang, and many gateways close the connection.",
    "S3": "A stream that maxTokens cuts must still report the stop reason and the usage. One that ends by itself tests nothing and is asked for again.",
    "I1": "Combines a required form with a prohibition, in Portuguese. The three lines must differ; what they say is left aside.",
    "I2": "Counting words and repeating one exactly, in no other form: easy to check, hard to do by accident. The story is left aside.",
    "I3": "A rule about every letter shows how closely instructions are followed.",
    "I4": "A required ending and a forbidden word conflict with each other. There must be a description before the ending; whether it is true is left aside.",
    "I5": "The question is in English, the answer in Portuguese, in two titled sections: what our users' assistants do all day.",
    "P1": "Knowledge of Brazil; all four items must be right, so that guessing does not pass, and several letters for one item are no choice.",
    "P2": "What follows from a sentence and what does not, in Portuguese.",
    "P3": "Crase, concordância and regência: errors that a native reader notices at once.",
    "P4": "Dates and amounts, such as 12 de março and R$ 1.234,56, must be read as in Brazil.",
    "P5": "A summary of a contract in five lines must keep four facts, each figure beside what it belongs to, invent none, and be shorter than the contract. Who plays which part is left aside.",
    "R1": "Three steps lead to one number; the figures are random, so that memorised answers fail.",
    "R2": "A puzzle that has exactly one answer, which is checked by trying all.",
    "R3": "A reasoning block must survive a tool call, or agents lose track.",
    "N1": "One fact found in about 4,000 tokens of text.",
    "N2": "Three facts found in about 16,000 tokens, each named once, in the order of the question.",
    "V1": "A code and shapes in a picture that is drawn for this run, so that nothing can be memorised. Naming several counts is no answer.",
    "V2": "One cell of a table in a PDF that is drawn for this run, and no other one.",
    "L1": "The time to the first token is the wait that users notice.",
    "L2": "The output speed decides how long users wait for long answers.",
    "D1": "How often the same question gets the same answer. Reported, not judged.",
    "N3": "One fact found in about 100,000 tokens. Reported, not judged: one trial proves little, and many cost too much.",
    "B1": "Five requests at the same moment, as from several users: whether all are answered, and how fast. A throttle is blamed on the quota.",
    "F1": "The distribution of short answers distinguishes a model from another one with the same name. Judged only between regions.",
    "E01": "A vector is returned, with the length that the index expects.",
    "E02": "Vectors that are zero or whose length is not one distort cosine distances.",
    "E03": "The vectors of a batch must be in the order of its texts.",
    "E04": "Portuguese sentences with the same meaning must be closer to each other than to others.",
    "E05": "A text that is too long must be cut or refused as documented, never mishandled silently.",
}


def table(cases: tuple[Case, ...]) -> str:
    """Return the cases as a Markdown table, a line each."""
    lines = [
        "| case | asks for | kind | category | trials | only for models with | why |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        needs = ", ".join(sorted(name.replace("_", " ") for name in case.needs))
        lines.append(
            f"| {case.id} | {case.title} | {case.kind} | {case.category} | {case.repeats} | {needs} | {WHY[case.id]} |"
        )
    return "\n".join(lines)


def cost_of(tier: str) -> str:
    """Return the calls and tokens of a run of a text model."""
    cost = registry.estimate("text", tier, EVERYTHING)
    return f"{cost.calls} calls, {round(cost.input_tokens, -3):,} tokens in, {round(cost.output_tokens, -3):,} out"


def document() -> str:
    """Return the text of `docs/suite.md`."""
    text, vectors = registry.cases("text", "full", EVERYTHING), registry.cases("embedding", "full")
    deep = tuple(case for case in registry.cases("text", "deep", EVERYTHING) if case not in text)
    exact = ", ".join(case.id for case in registry.all_cases("text", "deep") if case.exact_form)
    about = {tier: cost_of(tier) for tier in ("quick", "full", "deep")}
    return f"""# The suite

The test cases that a model gets in a region. This page is written by `manage.py suite doc`; [judging.md](judging.md) explains
how answers are judged. `manage.py suite show CASE` shows the exact requests of a case, with an answer that passes and one that
narrowly fails; `manage.py suite try CASE --model M --region R` runs it now.

Every prompt is generated from the run's seed (the same seed gives the same prompts), contains the run's own reference so that no cache
can answer, and has at least three variants. No language model is used as a judge: code checks each answer. Trials that
failed because of infrastructure (throttling, 5xx, our own timeouts, expired credentials) say nothing about the model: they are
repeated, and if they fail again they count in reliability but not in quality.

How an answer is formatted does not count: Markdown, HTML, LaTeX, typographic hyphens, spaces and quotes, and the style of list marks
are read as plain text (`certification/suite/formatting.py`). Only the answers of {exact} are read character by character, since programs
read them or the prompt requests it; JSON may be in one code fence.

| tier | cases for text models | size of a run, about |
|---|---|---|
| quick | the gates | {about["quick"]} |
| full | all except those of the deep tier | {about["full"]} |
| deep | those of full and {len(deep)} more; for a closer look | {about["deep"]} |

A case is skipped for a model without the capabilities that it needs. Operators can add custom cases in the admin; these are part
of the suite's version.

Parameters are sent only where a case tests them. What a model accepts is observed for each model and operation, never assumed.
Cases that try a parameter (G11 a forced tool, J2 structured output, R3 a thinking budget and an effort, D1 temperature 0) have
a fallback without it. What the service refused is remembered for seven days, with the error message, and later runs of the model, in every
region, do not send it again: the trial lists it under `spared`. It is sent again after that time, when a gate fails, when
the fallback is refused too, and always where the catalogue declares the capability, because a verdict depends on it then.

## Text models ({len(text)} cases)

{table(text)}

## Only in the deep tier ({len(deep)} cases)

{table(deep)}

None of them changes the score. After a deep job, each region's F1 answers are compared with those of the reference region: `job show`
shows the distance between them (0 for equal distributions) and the p value of a permutation test, corrected for the number of
comparisons; where it is at most 0.05, a later judgement of the run says so too. A small p value means that two
regions probably serve different models under the same name. The five trials of B1 start at the same moment, while nothing else of the
run is in flight, and each call is tried only once.

## Embedding models ({len(vectors)} cases)

{table(vectors)}

Image, video, speech and rerank models have no suite yet, are not called and stay `not_tested`.

A model is called by the first of its routes that answers: Converse on bedrock-runtime, then Messages, Responses or Chat
Completions, then the same on bedrock-mantle. What the API of that route cannot express (stop sequences in Responses,
documents in Chat Completions) does not apply: the case is skipped and says why. Where every route refuses the call itself,
the verdict is `configuration_required` with what each of them said.
"""
