"""Instructions that a program can check: counts, capitals, endings, forbidden words, titles, and
the language of the answer.
"""

from __future__ import annotations

from certification.inference import Outcome
from certification.suite import graders
from certification.suite.case import Category, Grade, Ref, Script
from certification.suite.cases.builders import one_answer, scored_case, single_turn, variant_of
from certification.suite.sentences import gettext_noop

# I1 three bullets and no comma, in Portuguese

_ORDERS = (
    "Liste exatamente três vantagens de {} para {}. Escreva uma vantagem por linha e comece cada "
    "linha com um hífen. Não use nenhuma vírgula e não escreva nada além das três linhas.",
    "Quais são os benefícios de {} para {}? Responda em exatamente três itens, um por linha, "
    "cada um iniciado por hífen, sem nenhuma vírgula e sem introdução nem conclusão.",
    "Dê três bons motivos para {} do ponto de vista de {}. Escreva exatamente três linhas "
    "iniciadas por hífen, sem título, sem vírgulas e sem nenhum outro texto.",
)
_HABITS = (
    "andar de bicicleta", "cozinhar em casa", "aprender um idioma", "cultivar uma horta",
    "usar o transporte público", "ler antes de dormir", "morar perto do trabalho",
    "economizar água", "adotar um cachorro", "caminhar todos os dias",
)  # fmt: skip
_WHOM = (
    "uma família com crianças",
    "um estudante",
    "uma pessoa idosa",
    "quem mora sozinho",
    "quem mora em uma cidade grande",
)
_GAINS = (
    "Faz bem à saúde do corpo e da mente",
    "Ajuda a gastar menos dinheiro por mês",
    "Deixa a rotina mais leve e mais alegre",
    "Aproxima as pessoas que vivem no mesmo bairro",
    "Cria um hábito que dura a vida toda",
)


def three_bullets(ref: Ref) -> Script:
    rng = ref.rng()
    order = _ORDERS[variant_of(ref, len(_ORDERS))]
    prompt = order.format(rng.choice(_HABITS), rng.choice(_WHOM))
    gains = rng.sample(_GAINS, 4)

    def check(outcome: Outcome | None) -> Grade:
        return graders.all_of(
            lambda: graders.bullets(outcome, 3, 3),
            lambda: graders.lines(outcome, 3, 3),
            lambda: graders.different_lines(outcome),
            lambda: graders.no_character(outcome, ",", "character_comma"),
            lambda: graders.language(outcome, "pt"),
        )

    three = "\n".join(f"- {gain}" for gain in gains[:3])
    near_miss = rng.choice(
        (
            f"{three}\n- {gains[3]}",
            f"Claro! Aqui estão:\n{three}",
            "\n".join([f"- {gains[0]}"] * 3),
            three.replace(" e ", ", ", 1) + ", sempre",
        )
    )
    return one_answer(
        ref, len(_ORDERS), single_turn(ref, prompt), check, expected=three, near_miss=near_miss
    )


# I2 few words, one of them twice

MAX_WORDS = 50
_SHORT_TEXTS = (
    "Write a short text about {} in at most 50 words.",
    "In no more than 50 words, tell a tiny story about {}.",
    "Describe {} to a child, in 50 words at the very most.",
)
_SUBJECTS = (
    "a night at sea", "an old house", "a walk in the snow", "the first day of spring",
    "a busy market", "a long journey",
)  # fmt: skip
_TWICE = ("lantern", "orange", "window", "pocket", "silver", "whisper", "ladder", "garden")


def exactly_twice(ref: Ref) -> Script:
    rng = ref.rng()
    word = rng.choice(_TWICE)
    order = _SHORT_TEXTS[variant_of(ref, len(_SHORT_TEXTS))].format(rng.choice(_SUBJECTS))
    prompt = (
        f'{order} Use the word "{word}" exactly twice, and never its plural or another form of it.'
    )

    def check(outcome: Outcome | None) -> Grade:
        return graders.all_of(
            lambda: graders.words(outcome, 8, MAX_WORDS),
            lambda: graders.occurrences(outcome, word, 2),
        )

    good = (
        f"Nobody had seen the {word} before. It was old and bright, and that {word} was all they "
        "spoke of that night."
    )
    possessive = good.replace(f"that {word}", f"that {word}'s light")
    once_more = f"{good} Even the moon loved the {word}."
    once = good.replace(f"that {word}", "that thing")
    rambling = f"{good} {'And the wind went on and on through the trees behind the house. ' * 3}"
    near_miss = rng.choice((once_more, once, rambling, possessive))
    return one_answer(
        ref, len(_SHORT_TEXTS), single_turn(ref, prompt), check, expected=good, near_miss=near_miss
    )


# I3 capitals

_SENTENCES = (
    "Write one sentence that names the animal {} and the city of {}.",
    "Tell in one sentence how the {} came to the city of {}.",
    "Make up the headline of a newspaper about a {} that was seen in {}.",
)
_ANIMALS = ("tiger", "parrot", "camel", "lynx", "falcon", "turtle", "zebra", "badger")
_CITIES = ("Recife", "Lisbon", "Oslo", "Cairo", "Quito", "Dublin", "Nairobi", "Helsinki")


def capitals(ref: Ref) -> Script:
    rng = ref.rng()
    animal, city = rng.choice(_ANIMALS), rng.choice(_CITIES)
    order = _SENTENCES[variant_of(ref, len(_SENTENCES))].format(animal, city)
    prompt = f"{order} Write your whole answer in capital letters, without a single small letter."

    def check(outcome: Outcome | None) -> Grade:
        return graders.all_of(
            lambda: graders.capitals(outcome),
            lambda: graders.mentions(outcome, animal),
            lambda: graders.mentions(outcome, city),
        )

    sentence = f"The {animal} was seen in the streets of {city} this morning."
    near_miss = rng.choice(
        (
            f"Sure: {sentence.upper()}",
            sentence.upper().replace(" IN THE ", " in the "),
            sentence.title(),
        )
    )
    return one_answer(
        ref,
        len(_SENTENCES),
        single_turn(ref, prompt),
        check,
        expected=sentence.upper(),
        near_miss=near_miss,
    )


# I4 a required ending and a forbidden word

_DESCRIBED = (
    ("an umbrella", "rain",
     "It keeps people dry on wet days and folds away when the sky is clear.",
     "It keeps the rain off people and folds away when the sky is clear."),
    ("a refrigerator", "cold", "It holds food at a low temperature so that it lasts for days.",
     "It keeps food cold so that it lasts for days."),
    ("a bicycle", "wheels", "It is driven by the legs of its rider and steered with two hands.",
     "It has two wheels and is driven by the legs of its rider."),
    ("a library", "books",
     "People go there to read, to learn and to borrow what others have written.",
     "People go there to read and to borrow books."),
    ("the sun", "light", "It warms the earth by day, and without it nothing would grow.",
     "It gives light and warmth, and without it nothing would grow."),
)  # fmt: skip
MIN_DESCRIPTION = 6  # words before the ending
_ENDINGS = ("This note has the number {}.", "File {} is closed now.", "End of card {}.")


def ending_and_forbidden_word(ref: Ref) -> Script:
    rng = ref.rng()
    thing, forbidden, good, bad = _DESCRIBED[variant_of(ref, len(_DESCRIBED))]
    number = rng.randrange(1200, 9800)
    sentence = rng.choice(_ENDINGS)
    ending = sentence.format(number)
    prompt = (
        f'Describe {thing} in two or three sentences without using the word "{forbidden}". Your '
        f"answer must end with exactly this sentence: {ending}"
    )

    def check(outcome: Outcome | None) -> Grade:
        return graders.all_of(
            lambda: graders.ends_with(outcome, ending),
            lambda: graders.words(outcome, len(ending.split()) + MIN_DESCRIPTION),
            lambda: graders.without(outcome, forbidden),
        )

    near_miss = rng.choice(
        (
            f"{bad} {ending}",
            f"{good} {sentence.format(number + 1)}",
            f"{good} {ending} I hope this helps!",
            ending,
        )
    )
    return one_answer(
        ref,
        len(_DESCRIBED),
        single_turn(ref, prompt),
        check,
        expected=f"{good} {ending}",
        near_miss=near_miss,
    )


# I5 asked in English, answered in Portuguese, in two sections

_TITLES = (
    ("Vantagens", "Desvantagens"),
    ("Resumo", "Conselhos"),
    ("Problema", "Solução"),
    ("Antes", "Depois"),
)
_MATTERS = (
    "working from home", "living in a big city", "buying a used car", "paying by card",
    "travelling by train", "keeping a pet in a flat", "learning to swim as an adult",
)  # fmt: skip
_PT = (
    "É uma escolha que muita gente faz porque ela facilita a vida de todos os dias.",
    "Mesmo assim, é preciso pensar bem antes de decidir, pois nem tudo é tão simples quanto "
    "parece.",
)
_EN = (
    "It is a choice that many people make because it makes their daily life easier.",
    "Even so, it is wise to think about it first, because not everything is as simple as it looks.",
)


def two_sections(ref: Ref) -> Script:
    rng = ref.rng()
    first, second = _TITLES[variant_of(ref, len(_TITLES))]
    prompt = (
        f"What should somebody know about {rng.choice(_MATTERS)}? Answer in Brazilian Portuguese, "
        f'in two sections. Put the title "{first}" alone on the line above the first section and '
        f'the title "{second}" alone on the line above the second, and write one or two sentences '
        "in each. Write nothing before the first title."
    )

    def check(outcome: Outcome | None) -> Grade:
        return graders.all_of(
            lambda: graders.sections(outcome, first, second),
            lambda: graders.language(outcome, "pt", (first, second)),
        )

    good = f"{first}\n{_PT[0]}\n\n{second}\n{_PT[1]}"
    near_miss = rng.choice(
        (
            f"{first}\n{_EN[0]}\n\n{second}\n{_EN[1]}",
            f"{second}\n{_PT[1]}\n\n{first}\n{_PT[0]}",
            f"{first}\n{_PT[0]}\n\n{_PT[1]}",
            f"Claro!\n{good}",
        )
    )
    return one_answer(
        ref,
        len(_TITLES),
        single_turn(ref, prompt, max_tokens=400),
        check,
        expected=good,
        near_miss=near_miss,
    )


INSTRUCTIONS = (
    scored_case(
        "I1", gettext_noop("Three bullets, no commas (pt)"), Category.INSTRUCTIONS, three_bullets
    ),
    scored_case("I2", gettext_noop("One word exactly twice"), Category.INSTRUCTIONS, exactly_twice),
    scored_case("I3", gettext_noop("Capital letters only"), Category.INSTRUCTIONS, capitals),
    scored_case(
        "I4",
        gettext_noop("Required ending, forbidden word"),
        Category.INSTRUCTIONS,
        ending_and_forbidden_word,
    ),
    scored_case(
        "I5", gettext_noop("Portuguese in two sections"), Category.INSTRUCTIONS, two_sections
    ),
)
