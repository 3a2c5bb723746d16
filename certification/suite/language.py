"""Detect the language of an answer: a model of character sequences, weighed with the function words
and the spelling of each language, so that a few words suffice.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

MAX_CHARS = 4000  # of an answer are read: more says nothing new
DECIDED = 0.8  # probability from which a language is the language
OTHER = "other"  # a text in another script than Latin
SHORT = 15  # words: a shorter text may be right in more languages than one
LINE = 8  # words from which a line alone shows its language


@dataclass(frozen=True)
class Language:
    """What distinguishes a language from its neighbours.

    `prior` is how often a model uses it where it should write another one, `words` are function
    words in the spelling of the language, `foreign` matches what its words do not contain.
    """

    prior: float
    words: frozenset[str]
    foreign: re.Pattern[str]


def define(prior: float, words: str, foreign: str) -> Language:
    return Language(prior, frozenset(words.split()), re.compile(foreign))


# Closed classes only (articles, prepositions and their contractions, pronouns, conjunctions, common
# adverbs and forms of to be, to have, to go, to do): whatever a text is about, it has some of them.
LANGUAGES = {
    "pt": define(
        1.0,
        """o a os as um uma uns umas ao aos à às do da dos das de no na nos nas num numa
        em pelo pela pelos pelas por para com sem sob sobre entre até após desde e ou mas
        porém pois que quem qual quais quando onde como porque se eu tu ele ela nós eles
        elas você vocês me te lhe lhes nos seu sua seus suas meu minha meus minhas nosso
        nossa isso isto aquilo esse essa este esta aquele aquela não nem sim já ainda
        muito muita muitos muitas mais menos bem mal também só sempre nunca hoje ontem
        amanhã depois antes então assim aqui ali lá é são era eram foi foram está estão
        estava ser estar sendo há tem têm tinha ter tendo havia vai vão vou ir faz fazem
        fazer feito cada todo toda todos todas outro outra outros outras tudo nada algo
        alguém ninguém dois duas pode podem deve devem quanto tão tanto mesmo dele dela
        deles delas neste nesta nesse nessa deste desta desse dessa disso disto""",
        r"[ñäëïöìòùèîûœß]|ll|[aeiouáéó]n$|[cs]iones$|dad$|[aeou]y$|^[yi]$",
    ),
    "es": define(
        1.0,
        """el la los las lo un una unos unas al del de en por para con sin bajo sobre
        entre hasta tras desde y e o u pero sino pues que quien quienes cual cuales
        cuando donde como porque si yo tú él ella nosotros ellos ellas usted ustedes me
        te le les nos se su sus mi mis tu tus nuestro nuestra eso esto aquello ese esa
        este esta aquel aquella no ni sí ya aún todavía muy mucho mucha muchos muchas más
        menos bien mal también solo sólo siempre nunca hoy ayer mañana después antes
        entonces así aquí allí allá es son era eran fue fueron está están estaba ser
        estar siendo hay ha han tiene tienen tenía tener había va van voy ir hace hacen
        hacer hecho cada todo toda todos todas otro otra otros otras nada algo alguien
        nadie dos puede pueden debe deben cuanto tan tanto mismo""",
        r"[ãõçâêôàèìòùîûäëöœß]|lh|nh|ss|[aeou]es?tad$|m$",
    ),
    "gl": define(
        0.1,
        """o a os as un unha uns unhas ao á aos ás ó ós do da dos das de no na nos nas
        nun nunha en polo pola polos polas por para con co coa cos coas sen baixo sobre
        entre ata tras dende desde e ou mais pero pois que quen cal cales cando onde como
        porque se eu ti el ela nós eles elas vostede me te lle lles seu súa seus súas meu
        miña meus miñas noso nosa iso isto aquilo ese esa este esta aquel aquela non nin
        si xa aínda moi moito moita moitos moitas máis menos ben mal tamén só sempre
        nunca hoxe onte mañá despois antes entón así aquí alí é son era eran foi foron
        está están estaba ser estar sendo hai ten teñen tiña ter vai van vou ir fai fan
        facer feito cada todo toda todos todas outro outra outros outras nada algo alguén
        ninguén dous dúas pode poden debe deben canto tan tanto mesmo del dela deles
        neste nesta deste desta""",
        r"[ãõçâêôàèìòùîûäëöœßjyk]|lh|ss|(?<!u)nh|m$|i?ções$|z(?=$|[ei])",
    ),
    "ca": define(
        0.05,
        """el la els les en un una uns unes al als del dels de per pel pels amb sense
        sota sobre entre fins des i o però sinó doncs que qui qual quan on com perquè si
        jo tu ell ella nosaltres ells vostè em et li ens us es seu seva seus seves meu
        meva nostre això allò aquest aquesta aquell aquella no ni sí ja encara molt molta
        molts moltes més menys bé malament també només sempre mai avui ahir demà després
        abans llavors així aquí allà és són era eren va van està estan ser hi ha han té
        tenen tenir fa fan fer fet cada tot tota tots totes altre altra altres res alguna
        ningú dos dues pot poden ha""",
        r"[ãõñâêôáìùîûäëöœß]|lh|nh|ci[óo]n|ão",
    ),
    "it": define(
        0.1,
        """il lo la i gli le un uno una al allo alla ai agli alle del dello della dei
        degli delle di da dal dalla in nel nella nei nelle con su sul sulla per tra fra
        senza sotto fino e ed o ma però che chi quale quando dove come perché se io tu
        lui lei noi voi loro mi ti ci vi si suo sua suoi sue mio mia nostro nostra questo
        questa quello quella ciò non né sì già ancora molto molta molti molte più meno
        bene male anche solo sempre mai oggi ieri domani dopo prima allora così qui qua
        lì là è sono era erano essere sta stanno ha hanno aveva avere va vanno andare fa
        fanno fare fatto ogni tutto tutta tutti tutte altro altra altri altre niente
        nulla qualcosa due può possono deve devono tanto stesso""",
        r"[ãõçñáíóúâêôîûäëöœßjkwxy]|lh|nh|[bcfghlmnpqrstvz]s$",
    ),
    "fr": define(
        0.1,
        """le la les l un une des au aux du de d en dans par pour avec sans sous sur
        entre chez jusque depuis et ou mais donc car que qu qui quel quelle quand où
        comme parce si je j tu il elle nous vous ils elles me te se s lui leur leurs son
        sa ses mon ma mes notre nos votre ce c cet cette ces cela ça ne n pas ni oui non
        déjà encore très beaucoup plus moins bien mal aussi seulement toujours jamais
        hier demain après avant alors ainsi ici là est sont était étaient être a ont
        avait avoir va vont aller fait font faire chaque tout toute tous toutes autre
        autres rien deux peut peuvent doit doivent même y""",
        r"[ãõñáíóúìòäß]|lh|nh|ção|ci[óo]n",
    ),
    "en": define(
        1.0,
        """a an the of to in on at by for with without from into over under between about
        after before during until and or but so because that which who whom whose what
        when where why how if i you he she it we they me him her us them my your his its
        our their this these those there here no not yes already still very much many
        more most less few well also too only always never today yesterday tomorrow then
        thus is are was were be been being has have had do does did can could will would
        shall should may might must go goes each every all any some other another nothing
        something two than as same""",
        r"[^a-z]",
    ),
    "de": define(
        0.05,
        """der die das den dem des ein eine einen einem einer und oder aber denn nicht
        ist sind war waren sein haben hat mit von zu zum zur für auf im in an am aus bei
        nach vor über unter durch ohne wenn dass weil wie was wer wo ich du er sie es wir
        ihr sich mein kein auch nur noch schon sehr mehr immer nie kann können wird
        werden""",
        r"[^a-zäöüß]",
    ),
    "nl": define(
        0.05,
        """de het een en of maar want niet is zijn was waren hebben heeft met van te naar
        voor op in aan uit bij na over onder door zonder als dat omdat hoe wat wie waar
        ik je hij zij ze wij we jullie zich mijn geen ook nog al zeer meer altijd nooit
        kan kunnen wordt worden""",
        r"[ãõçñáíóúâêôàèìòùîûß]|lh|ção|ci[óo]n",
    ),
    "ro": define(
        0.05,
        """un o unui unei și sau dar nu este sunt era erau fi are au avea cu de la în pe
        din pentru prin fără sub peste după până când unde cum ce care cine că să dacă eu
        tu el ea noi voi ei ele se își lui mai foarte mult tot toate fiecare poate pot""",
        r"[^a-zăâîșşțţ]",
    ),
}
# Measured on tests/data/languages: the model's probabilities are too cautious for short texts.
MODEL_WEIGHT = 2.0  # exponent of the model's probability
WORD_WEIGHT = 1.0  # log of how much likelier a language becomes with each of its function words
FOREIGN_WEIGHT = 2.5  # log of how much less likely with each word in another spelling
# Words with a capital inside a sentence: names are spelt alike in every language.
NAME = re.compile(r"(?<=[a-zà-ÿ0-9,;] )(?:[A-ZÀ-Ý][\w'’-]+ ?)+")
FIGURE = re.compile(r"R\$|[^\W\d_]?\d[\d.,:/-]*|[*_`#•–—]")


LOADING = threading.Lock()


def identifier() -> LanguageIdentifier:
    """Return the model. On first use it is loaded, once per process: a second and 90 MB."""
    with LOADING:
        return load_identifier()


@cache
def load_identifier() -> LanguageIdentifier:
    from py3langid import langid  # noqa: PLC0415, slow to import

    loaded = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    loaded.set_languages(list(LANGUAGES))
    return loaded


def is_loaded() -> bool:
    """Tell whether detecting a language now takes no longer than a millisecond or two."""
    return load_identifier.cache_info().currsize > 0


def detect_language(text: str, ignoring: tuple[str, ...] = ()) -> str:
    """Return the code of the language that a text is written in; "" where no language clearly
    leads, and OTHER for a script that is not Latin.

    Phrases in `ignoring` do not count: names and titles that every answer has to contain.
    """
    probabilities = language_probabilities(text, ignoring)
    best = max(probabilities, key=probabilities.__getitem__, default="")
    return best if probabilities.get(best, 0.0) >= DECIDED else ""


@lru_cache(maxsize=256)
def language_probabilities(text: str, ignoring: tuple[str, ...] = ()) -> Mapping[str, float]:
    """Return how likely each language is, in all 1; empty for a text without words."""
    evidence = without_names(text[:MAX_CHARS], ignoring)
    letters = [c for c in evidence if c.isalpha()]
    if not letters:
        return {}
    if sum(c >= "\u0250" for c in letters) * 2 > len(letters):
        return {OTHER: 1.0}
    model = dict(identifier().rank(evidence))
    words = re.findall(r"[^\W\d_]+", evidence.casefold())
    logs = {}
    for code, language in LANGUAGES.items():
        own = sum(word in language.words for word in words)
        foreign = sum(language.foreign.search(word) is not None for word in words)
        logs[code] = (
            math.log(language.prior)
            + MODEL_WEIGHT * math.log(max(model[code], 1e-9))
            + WORD_WEIGHT * own
            - FOREIGN_WEIGHT * foreign
        )
    highest = max(logs.values())
    weights = {code: math.exp(value - highest) for code, value in logs.items()}
    total = sum(weights.values())
    return {code: weight / total for code, weight in weights.items()}


def without_names(text: str, ignoring: tuple[str, ...]) -> str:
    """Remove what shows no language: figures, list marks, names and the phrases in `ignoring`."""
    for phrase in ignoring:
        text = re.sub(rf"\b{re.escape(phrase)}\b", " ", text, flags=re.IGNORECASE)
    lines = (FIGURE.sub(" ", line) for line in text.splitlines())
    return " ".join(NAME.sub(" ", line) for line in lines)


def foreign_line(text: str, expected: str, ignoring: tuple[str, ...] = ()) -> str:
    """Return the first line that alone is clearly in another language than `expected`; "" if none
    is.
    """
    for line in text[:MAX_CHARS].splitlines():
        long = len(re.findall(r"[^\W\d_]+", without_names(line, ignoring))) >= LINE
        if long and detect_language(line, ignoring) not in ("", expected):
            return line
    return ""


def is_short(text: str, ignoring: tuple[str, ...] = ()) -> bool:
    """Tell whether a text has too few words to be sure of its language."""
    return len(re.findall(r"[^\W\d_]+", without_names(text, ignoring))) < SHORT
