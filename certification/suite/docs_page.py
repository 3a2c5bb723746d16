"""The suite explained: why each case is there, and the table of all cases as Markdown."""

from __future__ import annotations

from certification.suite import registry
from certification.suite.case import ALL_CAPABILITIES, Case

EVERYTHING = ALL_CAPABILITIES | {"reasoning"}  # what a model that has it all would be asked

# one sentence a row
WHY: dict[str, str] = {
    "G01": "Nothing else matters where a short question brings no answer, or one without token counts to bill by.",
    "G02": "Chat is streamed: events in their order, text, usage, and an end that says it is one.",
    "G03": "Clients decide by the stop reason whether an answer is whole.",
    "G04": "maxTokens bounds money and time; a region that ignores it, or hides that it cut, breaks both.",
    "G05": "Agents cut answers with stop sequences; a refused parameter is a missing capability, an ignored one a defect.",
    "G06": "A product's rules are in the system prompt.",
    "G07": "A conversation is the turns before; a route that drops them answers another question.",
    "G08": "Accents, currency signs and emoji must come back as they went, whatever lies in between.",
    "G09": "The same prompt must count the same tokens in every region: another count means another model or template.",
    "G10": "Invalid requests must be refused as such, at once: a client retries a 5xx and believes a success.",
    "G11": "Tools are what agents live on, and they break in streaming first.",
    "G12": "A chat template's token in an answer shows a model served with the wrong template.",
    "T1": "Of four tools only one fits: choosing and filling it is the everyday case.",
    "T2": "A model that calls a tool where none is needed cannot be given tools.",
    "T3": "Two independent questions want two calls at once.",
    "T4": "Nested objects, enums and lists, streamed in pieces, must come together as valid JSON.",
    "T5": "The tool's result must find its way into the answer.",
    "J1": "Free text to exact fields is the commonest use in products.",
    "J2": "A schema must hold the answer, without fields of its own invention.",
    "J3": "A label and nothing else: what follows is code, not a reader.",
    "S1": "Streaming must not change what is said.",
    "S2": "Silence of ten seconds inside an answer looks like a hang, and many gateways end it there.",
    "S3": "A stream cut by maxTokens must still say so, and what it cost.",
    "I1": "Form and a prohibition together, in Portuguese.",
    "I2": "Counting words and one exact repetition: easy to check, hard to do by accident.",
    "I3": "A rule over every letter shows how far an instruction carries.",
    "I4": "A required ending and a forbidden word pull in different directions.",
    "I5": "Asked in English, answered in Portuguese, in two titled sections: what our users' assistants do all day.",
    "P1": "Knowledge of Brazil, all four items right, so that guessing does not pass.",
    "P2": "What follows from a sentence and what does not, in Portuguese.",
    "P3": "Crase, concordância and regência: what a native reader notices at once.",
    "P4": "12 de março and R$ 1.234,56 read the Brazilian way.",
    "P5": "A contract in five lines: four facts kept, no figure invented.",
    "R1": "Three steps, one number: shallow pattern matching fails on drawn figures.",
    "R2": "A puzzle with exactly one answer, proved by trying all.",
    "R3": "A reasoning block must survive a tool call, or agents lose the thread.",
    "N1": "One fact found in about 4,000 tokens of text.",
    "N2": "Three facts found in about 16,000 tokens.",
    "V1": "A code and shapes in a picture drawn for this run: nothing to memorise.",
    "V2": "One cell of a table in a PDF drawn for this run.",
    "L1": "Time to first token is what people feel.",
    "L2": "Output speed is what long answers cost in patience.",
    "D1": "How often the same question brings the same answer: reported, not judged.",
    "N3": "One fact found in about 100,000 tokens: reported, not judged: one trial proves little, many cost too much.",
    "B1": "Five requests at one moment, as a page of users makes them: all answered, and how late. A throttle is the quota's.",
    "F1": "Fingerprint of short "
    "answers, and how often, tells a model from another one behind the same name. Judged only between regions.",
    "E01": "A vector, and of the length that the index was built for.",
    "E02": "Vectors that are not of length one, or all zero, spoil cosine distances.",
    "E03": "The vectors of a batch must come in the order of its texts.",
    "E04": "Portuguese sentences of one meaning must lie closer than others.",
    "E05": "A text too long is cut or refused as documented, never silently wrong.",
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
    about = {tier: cost_of(tier) for tier in ("quick", "full", "deep")}
    return f"""# The suite

What a model is asked in a region. This page is written by `manage.py suite doc`; how answers are judged is in
[judging.md](judging.md). `manage.py suite show CASE` shows a case word for word, with an answer that passes and one that nearly
does; `manage.py suite try CASE --model M --region R` runs it now.

Every prompt is generated from the run's seed (the same seed gives the same prompts), carries the run's own reference so that no cache can
answer, and has at least three variants. No language model judges anything: each answer is checked by code. Trials that
infrastructure ended (throttling, 5xx, timeouts of ours, expired credentials) say nothing about the model: they are tried again, and
if they stay so they leave the quality figures and count in reliability.

| tier | text models | about |
|---|---|---|
| quick | the gates | {about["quick"]} |
| full | everything but what is deep | {about["full"]} |
| deep | full, and {len(deep)} cases more, for suspicion | {about["deep"]} |

A case is left out for a model that lacks what it needs. Operators add cases of their own in the admin; those are part of the
suite's version.

Parameters are sent only where a case is about them, and what a model accepts is observed per model and operation, never assumed.
Cases that try a parameter (G11 a forced tool, J2 structured output, R3 a thinking budget and an effort, D1 temperature 0) have
another form ready. What the service refused is remembered for seven days, with its words, and later runs of the model, in every
region, do not send it again: the trial lists it under `spared`. It is sent again after that time, when a gate fails, when
the other form is refused too, and always where the catalogue declares the capability, because a verdict depends on it then.

## Text models ({len(text)} cases)

{table(text)}

## Only in the deep tier ({len(deep)} cases)

{table(deep)}

None of them changes the score. After a deep job, each region's F1 answers are compared with those of the reference region: `job show`
shows the distance between them (0 for equal distributions) and the p value of a permutation test, corrected for the number of
comparisons; where it is at most 0.05, a later judgement of the run says so too. A small one says that two
regions do not serve the same thing under the same name. The five trials of B1 start at the same moment, while nothing else of the
run is in flight, and are tried once each.

## Embedding models ({len(vectors)} cases)

{table(vectors)}

Image, video, speech and rerank models have no suite yet and stay `not_tested`; models that Bedrock serves only on its other
endpoint are `configuration_required`, reason `not_on_bedrock_runtime`. Neither is called.
"""
