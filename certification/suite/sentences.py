"""Every sentence that says why a trial passes or fails: a stable code with its wording.

A grade's sentence is English text that knows its code and figures, so that what is stored with a
trial can be shown in any language later. Only code and figures are stored with it: another wording,
or a translation, changes no stored row and no SUITE_VERSION. A code never gets another meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def gettext_noop(text: str) -> str:
    """Mark a text for translators; the suite does not know Django."""
    return text


class Sentence(str):
    """A sentence in English that knows its code and figures."""

    __slots__ = ("code", "figures")

    code: str
    figures: Mapping[str, Any]


def wording(code: str, /, **figures: Any) -> Sentence:
    """Return the sentence of a code of WORDINGS. A figure may itself be a Sentence."""
    sentence = Sentence(WORDINGS[code] % figures)
    sentence.code, sentence.figures = code, figures
    return sentence


WORDINGS: dict[str, str] = {
    # the call itself
    "answered": gettext_noop("The call returned an answer."),
    "not_called": gettext_noop("The call was not made."),
    "call_failed": gettext_noop("The call failed (%(reason)s): %(message)s"),
    "call_not_judged": gettext_noop("The call could not be judged (%(reason)s): %(message)s"),
    "stream_without_end": gettext_noop("The stream ended without messageStop and metadata."),
    "nothing_checked": gettext_noop("Nothing was checked."),
    "lacks": gettext_noop("The model does not support %(capability)s: %(message)s"),
    "passed_without": gettext_noop("%(sentence)s The model does not support %(capability)s."),
    "not_supported": gettext_noop("The model does not support %(capabilities)s."),
    "not_for_this_api": gettext_noop("Not applicable to this API. %(message)s"),
    # the text of an answer
    "has_text": gettext_noop("The answer has text."),
    "no_text": gettext_noop("The answer has no text."),
    "exact": gettext_noop("The answer is exactly as requested."),
    "not_exact": gettext_noop("The answer is not exactly as requested."),
    "expected": gettext_noop("The answer is the expected one."),
    "not_expected": gettext_noop("The answer is not the expected one."),
    "mentions": gettext_noop("The answer mentions %(expected)s."),
    "mentions_not": gettext_noop("The answer does not mention %(expected)s."),
    "names": gettext_noop("The answer names %(expected)s."),
    "names_not": gettext_noop("The answer does not name %(expected)s."),
    "names_others_too": gettext_noop("The answer names %(expected)s, and %(others)s too."),
    "in_order": gettext_noop("The answer has all items in order."),
    "not_in_order": gettext_noop("%(item)s is missing from the answer, or out of order."),
    "nothing_forbidden": gettext_noop("The answer contains nothing that is forbidden."),
    "forbidden": gettext_noop("The answer contains %(phrase)s, which is forbidden."),
    "pattern_too_slow": gettext_noop("The pattern took longer than %(seconds)s s to match."),
    "form": gettext_noop("The answer has the expected form."),
    "not_form": gettext_noop("The answer does not have the expected form."),
    "ends": gettext_noop("The answer ends as requested."),
    "ends_not": gettext_noop("The answer does not end as requested."),
    "characters_unchanged": gettext_noop("Every character came back unchanged."),
    "characters_changed": gettext_noop("Characters were lost or changed on the way."),
    "language": gettext_noop("The answer is in %(language)s."),
    "language_of_line": gettext_noop("A line of the answer is not in %(language)s."),
    "language_plausible": gettext_noop("The answer is too short to tell, and may be %(language)s."),
    "not_language": gettext_noop("The answer is not in %(language)s."),
    "other_language": gettext_noop("The answer is not in %(language)s: it is in %(other)s."),
    "words": gettext_noop("The answer has %(count)s words."),
    "not_words": gettext_noop("The answer has %(count)s words instead of %(bounds)s."),
    "lines": gettext_noop("The answer has %(count)s lines."),
    "not_lines": gettext_noop("The answer has %(count)s lines instead of %(bounds)s."),
    "bullets": gettext_noop("The answer has %(count)s bullets."),
    "not_bullets": gettext_noop("The answer has %(count)s bullets instead of %(bounds)s."),
    "word": gettext_noop("The answer has %(count)s times the word %(word)s."),
    "not_word": gettext_noop(
        "The answer has %(count)s times the word %(word)s instead of %(bounds)s."
    ),
    "other_form": gettext_noop("The answer has %(form)s, another form of %(word)s."),
    "lines_differ": gettext_noop("Every line says something else."),
    "lines_repeat": gettext_noop("Lines of the answer repeat each other."),
    "no_character": gettext_noop("The answer has no %(name)s."),
    "character": gettext_noop("The answer has a %(name)s, which is forbidden."),
    "capitals": gettext_noop("Every letter is a capital."),
    "not_capitals": gettext_noop("Not every letter is a capital."),
    "sections": gettext_noop("The answer has its %(count)s titled sections."),
    "titles_missing": gettext_noop("The answer does not have each expected title once, in order."),
    "title_not_first": gettext_noop("The answer does not start with its first title."),
    "title_without_text": gettext_noop("A title has no text below it."),
    "lines_expected": gettext_noop("Every line is the expected one."),
    "lines_not_expected": gettext_noop("The lines are not the expected ones."),
    "several_letters": gettext_noop(
        "The answer names several letters for one number (%(numbers)s)."
    ),
    "choices": gettext_noop("All %(count)s choices are right."),
    "choices_wrong": gettext_noop(
        "%(wrong)s of %(count)s choices are wrong or missing (%(numbers)s)."
    ),
    "labels": gettext_noop("The labels are the expected ones."),
    "not_labels": gettext_noop("The labels are not the expected ones."),
    "last_line": gettext_noop("The last line is the right answer."),
    "not_last_line": gettext_noop("The last line is not the right answer."),
    "own_words": gettext_noop("The answer is in words of its own."),
    "only_repeats": gettext_noop("The answer only repeats what it was given."),
    "same_answers": gettext_noop("Both answers are the same."),
    "other_answers": gettext_noop("The two answers differ."),
    "stopped": gettext_noop("The answer stopped before %(marker)s."),
    "stopped_not": gettext_noop("The answer did not stop where %(marker)s would have come."),
    "stop_not_tested": gettext_noop(
        "The model never wrote %(marker)s, with the stop sequence or without: whether it stops "
        "there was not tested."
    ),
    # numbers
    "number": gettext_noop("The answer is %(expected)s."),
    "not_number": gettext_noop("The answer is not %(expected)s."),
    "no_number": gettext_noop("The answer has no number."),
    "has_number": gettext_noop("The answer has the number %(expected)s."),
    "lacks_number": gettext_noop("The answer does not have the number %(expected)s."),
    "several_numbers": gettext_noop("The answer names several numbers: %(both)s."),
    "number_in_place": gettext_noop("The answer has %(expected)s where it belongs."),
    "number_of_nothing": gettext_noop(
        "The answer does not say of what %(expected)s is the figure."
    ),
    "number_out_of_place": gettext_noop("The answer has %(figure)s where %(expected)s belongs."),
    "numbers_known": gettext_noop("Every number comes from the text."),
    "number_unknown": gettext_noop("The number %(number)s is not in the text."),
    # JSON and tools
    "json": gettext_noop("The answer is JSON that fits the schema."),
    "not_json": gettext_noop("The answer is not JSON."),
    "schema_unchecked": gettext_noop("The schema cannot be checked: %(problem)s."),
    "json_misfit": gettext_noop("The answer's JSON does not fit the schema: %(problem)s."),
    "json_values": gettext_noop("The answer's JSON has wrong values."),
    "no_call": gettext_noop("No tool was called."),
    "call_unneeded": gettext_noop("A tool was called where none was needed."),
    "not_one_call": gettext_noop("The answer is not one call of %(name)s."),
    "call": gettext_noop("%(name)s was called with arguments that fit its schema."),
    "call_misfit": gettext_noop(
        "The arguments of the call do not fit the tool's schema: %(problem)s."
    ),
    "call_arguments": gettext_noop("The arguments of the call are not the expected ones."),
    "calls_one": gettext_noop("%(name)s was called as requested."),
    "calls": gettext_noop("The tools were called as requested."),
    "calls_other": gettext_noop("The calls are not the expected ones: %(count)s of %(expected)s."),
    "calls_misfit": gettext_noop("The arguments of %(name)s do not fit its schema: %(problem)s."),
    "calls_arguments": gettext_noop("The arguments of %(name)s are not the expected ones."),
    "tools_both_ways": gettext_noop(
        "The tool was called with valid arguments, with and without streaming."
    ),
    "tools_not_streamed": gettext_noop("Tools work, but not when streaming. %(sentence)s"),
    "tools": gettext_noop("Tools: %(sentence)s"),
    "tools_streamed_fail": gettext_noop(
        "Streaming tools (they work without streaming): %(sentence)s"
    ),
    "tools_unstreamed_fail": gettext_noop(
        "Tools without streaming (they work when streaming): %(sentence)s"
    ),
    "tools_fail": gettext_noop("Tools, with and without streaming: %(sentence)s"),
    # the shape of a reply
    "tokens_reported": gettext_noop("The reply reports its token counts."),
    "tokens_not_reported": gettext_noop("The reply does not report its token counts."),
    "input_tokens": gettext_noop("%(count)s input tokens are within %(bounds)s."),
    "not_input_tokens": gettext_noop("%(count)s input tokens are not within %(bounds)s."),
    "output_tokens": gettext_noop("%(count)s output tokens are within %(bounds)s."),
    "not_output_tokens": gettext_noop("%(count)s output tokens are not within %(bounds)s."),
    "stop_reason": gettext_noop("The stop reason is %(actual)s."),
    "not_stop_reason": gettext_noop("The stop reason is %(actual)s instead of %(expected)s."),
    "no_stop_reason": gettext_noop("The stop reason is missing instead of %(expected)s."),
    "ended_early": gettext_noop(
        "The answer ended by itself before %(limit)s tokens, so that maxTokens was not tested."
    ),
    "events": gettext_noop("The stream's events are complete and in order."),
    "not_events": gettext_noop("The stream's events are incomplete or out of order."),
    "stream_ends": gettext_noop("The stream ends with messageStop and metadata."),
    "stream_ends_not": gettext_noop("The stream does not end with messageStop and metadata."),
    "gaps_unknown": gettext_noop("The gaps between the events were not measured."),
    "gap": gettext_noop("The longest gap between two events was %(seconds)s s."),
    "gap_too_long": gettext_noop("The stream was silent for %(seconds)s s."),
    "ttft_unknown": gettext_noop("The time to the first token was not measured."),
    "too_few_tokens": gettext_noop("%(count)s tokens are too few to time; %(needed)s are needed."),
    "timed": gettext_noop("The first token came after %(ttft)s ms, %(count)s tokens in all."),
    "window_too_small": gettext_noop(
        "The context window of %(tokens)s tokens is too small for this text. %(sentence)s"
    ),
    "no_reasoning": gettext_noop("The model shows no reasoning."),
    # single cases
    "refused": gettext_noop("Invalid requests are refused correctly."),
    "accepted": gettext_noop("The service accepted %(request)s."),
    "refused_slowly": gettext_noop("The service took %(seconds)s s to refuse %(request)s."),
    "refused_wrongly": gettext_noop(
        "The service answered %(request)s with %(code)s instead of a refusal."
    ),
    "no_template_token": gettext_noop("No chat-template token in %(count)s texts."),
    "template_token": gettext_noop("The chat template's token %(token)s leaked into an answer."),
    "burst_unanswered": gettext_noop(
        "One of %(count)s simultaneous requests got no answer, which says nothing about the model. "
        "%(sentence)s"
    ),
    "model_answered": gettext_noop("The model answered %(answer)s."),
    # embeddings
    "vectors": gettext_noop("%(count)s vectors of %(length)s numbers."),
    "vectors_count": gettext_noop("The service returned %(count)s vectors for %(texts)s texts."),
    "vectors_uneven": gettext_noop("The vectors are empty or differ in length."),
    "vectors_length": gettext_noop("The vectors have %(length)s numbers instead of %(expected)s."),
    "vectors_zero": gettext_noop("A vector is zero or contains something that is not a number."),
    "vectors_unit": gettext_noop("The vectors have length 1."),
    "vectors_similar": gettext_noop(
        "The vectors are not normalised, but their lengths are similar."
    ),
    "vectors_spread": gettext_noop("The vectors' lengths differ too much to compare them."),
    "vectors_order": gettext_noop("A text's vector changes with the order of the texts."),
    "vectors_alike": gettext_noop("Different texts have the same vector."),
    "vectors_in_order": gettext_noop("Every vector belongs to its text, in either order."),
    "nearest": gettext_noop(
        "%(right)s of %(count)s Portuguese sentences are nearest to the one with the same meaning."
    ),
    "not_nearest": gettext_noop(
        "Only %(right)s of %(count)s Portuguese sentences are nearest to the one with the same "
        "meaning."
    ),
    "long_refused": gettext_noop("A text that is too long is refused clearly."),
    "long_taken": gettext_noop(
        "A text that is too long is cut or accepted whole, without an error."
    ),
    # figures of other sentences
    "or_more": gettext_noop("%(least)s or more"),
    "character_comma": gettext_noop("comma"),
    "request_assistant_first": gettext_noop("a conversation that starts with the assistant"),
    "request_blank_text": gettext_noop("a blank text block"),
    "request_no_content": gettext_noop("a message without content"),
    "request_lone_result": gettext_noop("a tool result without a tool call"),
    "capability_system": gettext_noop("system prompts"),
    "capability_tools": gettext_noop("tools"),
    "capability_streaming": gettext_noop("streaming"),
    "capability_streaming_tools": gettext_noop("tools while streaming"),
    "capability_vision": gettext_noop("images"),
    "capability_documents": gettext_noop("documents"),
    "capability_stop_sequences": gettext_noop("stop sequences"),
    "language_pt": gettext_noop("Portuguese"),
    "language_es": gettext_noop("Spanish"),
    "language_gl": gettext_noop("Galician"),
    "language_ca": gettext_noop("Catalan"),
    "language_it": gettext_noop("Italian"),
    "language_fr": gettext_noop("French"),
    "language_en": gettext_noop("English"),
    "language_de": gettext_noop("German"),
    "language_nl": gettext_noop("Dutch"),
    "language_ro": gettext_noop("Romanian"),
    "language_other": gettext_noop("another script"),
}

# What each case asks of a model, by its id.
ASKS: dict[str, str] = {
    "G01": gettext_noop("A short question, to see whether the model can be called at all."),
    "G02": gettext_noop("A known list, streamed: it must arrive whole, event by event."),
    "G03": gettext_noop("A question with a one-word answer: the model must say that it ended."),
    "G04": gettext_noop("A long story with a small limit of tokens, at which it must be cut."),
    "G05": gettext_noop("A list that must stop at a word given as stop sequence."),
    "G06": gettext_noop("A short answer that must end with a code from the system prompt."),
    "G07": gettext_noop("Something that an earlier turn of the conversation said."),
    "G08": gettext_noop("A line with accents, signs and emoji, to be repeated unchanged."),
    "G09": gettext_noop("A fixed text, of which the service must count the right input tokens."),
    "G10": gettext_noop("Requests that are invalid on purpose and must be refused at once."),
    "G11": gettext_noop("A question that needs a tool, with and without streaming."),
    "G12": gettext_noop("Nothing more: all texts of the run are searched for template tokens."),
    "T1": gettext_noop("A question that only one of four tools answers."),
    "T2": gettext_noop("A question with tools at hand, none of which is needed."),
    "T3": gettext_noop("Two independent questions, to be answered by two calls at once."),
    "T4": gettext_noop("A call with nested arguments that arrive in pieces."),
    "T5": gettext_noop("An answer that must use the figure which a tool returned."),
    "J1": gettext_noop("The fields of an invoice, written as free text, as JSON."),
    "J2": gettext_noop("JSON that fits a given schema, without fields of its own."),
    "J3": gettext_noop("The one label out of five that fits, and nothing else."),
    "S1": gettext_noop("The same question with and without streaming."),
    "S2": gettext_noop("A long streamed answer, without pauses."),
    "S3": gettext_noop("A streamed answer that the limit of tokens cuts."),
    "I1": gettext_noop("Three bullets in Portuguese, without a comma."),
    "I2": gettext_noop("A story of limited length that has one word exactly twice."),
    "I3": gettext_noop("An answer in capital letters only."),
    "I4": gettext_noop("A description with a required ending and without a forbidden word."),
    "I5": gettext_noop("An answer in Portuguese, in two titled sections, to an English question."),
    "P1": gettext_noop("Four multiple-choice questions about Brazil."),
    "P2": gettext_noop("Which sentence follows from another one, in Portuguese."),
    "P3": gettext_noop("The right form in Portuguese sentences: crase, agreement, government."),
    "P4": gettext_noop("Dates and amounts as they are written in Brazil."),
    "P5": gettext_noop("A summary of a contract in five lines, in Portuguese, with four facts."),
    "R1": gettext_noop("A problem in words that takes three steps to one number."),
    "R2": gettext_noop("A puzzle with exactly one solution."),
    "R3": gettext_noop("An answer after a tool call, with the reasoning before it kept."),
    "N1": gettext_noop("One fact hidden in about 4,000 tokens of text."),
    "N2": gettext_noop("Three facts hidden in about 16,000 tokens of text, in order."),
    "N3": gettext_noop("One fact hidden in about 100,000 tokens of text."),
    "V1": gettext_noop("A code and the number of shapes in a picture."),
    "V2": gettext_noop("One cell of a table in a PDF document."),
    "L1": gettext_noop("A short streamed answer, to measure the time to its first token."),
    "L2": gettext_noop("A long streamed answer, to measure the output speed."),
    "D1": gettext_noop("The same question twice, to compare the answers."),
    "B1": gettext_noop("A small sum, in five requests at the same moment."),
    "F1": gettext_noop("A question with many possible one-word answers."),
    "E01": gettext_noop("The vector of one text."),
    "E02": gettext_noop("The vectors of three texts, to measure their length."),
    "E03": gettext_noop("The vectors of three texts, in two orders."),
    "E04": gettext_noop("The vectors of Portuguese sentences, each with a partner of its meaning."),
    "E05": gettext_noop("The vector of a text that is too long."),
}
