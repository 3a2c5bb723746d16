"""Brazilian Portuguese: facts about the country, entailment, grammar, dates and money, a contract
in short.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from certification.inference import Outcome
from certification.suite import graders
from certification.suite.case import Category, Grade, Ref, Script
from certification.suite.cases.builders import one_answer, scored_case, single_turn, variant_of
from certification.suite.sentences import gettext_noop

LETTERS = "ABCD"


@dataclass(frozen=True)
class Item:
    """A question or a sentence with a gap; its first option is the right one."""

    stem: str
    options: tuple[str, ...]


def multiple_choice(rng: random.Random, items: Sequence[Item]) -> tuple[str, list[str], list[str]]:
    """Return the items as printed with shuffled options, the right letters, and letters with one
    wrong.
    """
    blocks, right = [], []
    for number, item in enumerate(items, 1):
        options = rng.sample(item.options, len(item.options))
        printed = "\n".join(f"{LETTERS[i]}) {option}" for i, option in enumerate(options))
        blocks.append(f"{number}. {item.stem}\n{printed}")
        right.append(LETTERS[options.index(item.options[0])])
    wrong, place = list(right), rng.randrange(len(items))
    wrong[place] = rng.choice(
        [x for x in LETTERS[: len(items[place].options)] if x != right[place]]
    )
    return "\n\n".join(blocks), right, wrong


def format_row(letters: Sequence[str]) -> str:
    return " ".join(f"{number}-{letter}" for number, letter in enumerate(letters, 1))


# P1 multiple choice

_QUIZ_ORDERS = (
    "Responda às quatro questões abaixo. Cada uma tem uma única alternativa correta.",
    "Seguem quatro questões de múltipla escolha. Escolha, em cada uma, a única alternativa "
    "correta.",
    "Leia as quatro perguntas a seguir e marque a alternativa certa de cada uma.",
)
_ROW_OF_FOUR = (
    "Dê as respostas em uma única linha, no formato 1-X 2-X 3-X 4-X, substituindo cada X pela "
    "letra da alternativa escolhida, e não escreva mais nada."
)
QUIZ: tuple[Item, ...] = (
    Item("Qual é a capital do Ceará?", ("Fortaleza", "Natal", "Teresina", "São Luís")),
    Item("Em que região do Brasil fica Goiás?", ("Centro-Oeste", "Norte", "Nordeste", "Sudeste")),
    Item("Qual destes estados não tem litoral?", ("Minas Gerais", "Sergipe", "Paraná", "Paraíba")),
    Item(
        "Qual cidade é a capital do Brasil desde 1960?",
        ("Brasília", "Rio de Janeiro", "Salvador", "São Paulo"),
    ),
    Item(
        "Qual destes países não faz fronteira com o Brasil?", ("Chile", "Peru", "Uruguai", "Guiana")
    ),
    Item(
        "Em que estado fica o lado brasileiro das Cataratas do Iguaçu?",
        ("Paraná", "Santa Catarina", "São Paulo", "Mato Grosso do Sul"),
    ),
    Item(
        "Qual bioma ocupa a maior parte do sertão nordestino?",
        ("Caatinga", "Pampa", "Pantanal", "Mata Atlântica"),
    ),
    Item(
        "A que estado pertence o arquipélago de Fernando de Noronha?",
        ("Pernambuco", "Bahia", "Rio Grande do Norte", "Ceará"),
    ),
    Item("Em que ano foi proclamada a Independência do Brasil?", ("1822", "1808", "1889", "1500")),
    Item("Em que ano foi proclamada a República no Brasil?", ("1889", "1822", "1930", "1891")),
    Item(
        "Qual lei extinguiu a escravidão no Brasil, em 1888?",
        ("Lei Áurea", "Lei do Ventre Livre", "Lei dos Sexagenários", "Lei Eusébio de Queirós"),
    ),
    Item(
        "Quem era o presidente do Brasil quando Brasília foi inaugurada?",
        ("Juscelino Kubitschek", "Getúlio Vargas", "Jânio Quadros", "João Goulart"),
    ),
    Item(
        "Quem comandava a frota portuguesa que chegou ao litoral da Bahia em abril de 1500?",
        ("Pedro Álvares Cabral", "Vasco da Gama", "Martim Afonso de Sousa", "Tomé de Sousa"),
    ),
    Item(
        "De que quilombo Zumbi foi um dos líderes?",
        ("Palmares", "Ambrósio", "Campo Grande", "Jabaquara"),
    ),
    Item(
        "Quem escreveu o romance “Dom Casmurro”?",
        ("Machado de Assis", "José de Alencar", "Jorge Amado", "Graciliano Ramos"),
    ),
    Item(
        "Quem escreveu “Grande sertão: veredas”?",
        ("João Guimarães Rosa", "Clarice Lispector", "Erico Verissimo", "Monteiro Lobato"),
    ),
    Item(
        "Quem pintou o quadro “Abaporu”?",
        ("Tarsila do Amaral", "Anita Malfatti", "Di Cavalcanti", "Candido Portinari"),
    ),
    Item(
        "Quem compôs “Garota de Ipanema” com Vinicius de Moraes?",
        ("Tom Jobim", "Chico Buarque", "Caetano Veloso", "Gilberto Gil"),
    ),
    Item(
        "Em que cidade os bois Garantido e Caprichoso se enfrentam todos os anos?",
        ("Parintins", "Manaus", "Belém", "Santarém"),
    ),
    Item(
        "Que arquiteto projetou o Palácio da Alvorada?",
        ("Oscar Niemeyer", "Lina Bo Bardi", "Paulo Mendes da Rocha", "Vilanova Artigas"),
    ),
    Item(
        "Em que estado nasceu o frevo?", ("Pernambuco", "Bahia", "Rio de Janeiro", "Minas Gerais")
    ),
    Item("De que planta se extrai o tucupi?", ("Mandioca-brava", "Milho", "Coqueiro", "Açaizeiro")),
    Item("Qual é o plural de “cidadão”?", ("Cidadãos", "Cidadões", "Cidadães", "Cidadãoes")),
    Item(
        "Qual destas palavras é o antônimo de “prolixo”?",
        ("Conciso", "Extenso", "Detalhado", "Cansativo"),
    ),
    Item("Qual é o coletivo de lobos?", ("Alcateia", "Cardume", "Enxame", "Arquipélago")),
    Item(
        "O que significa a expressão “pisar em ovos”?",
        (
            "Agir com muito cuidado",
            "Gastar mais do que se tem",
            "Andar depressa",
            "Mentir sem querer",
        ),
    ),
    Item(
        "O que significa a expressão “ficar a ver navios”?",
        (
            "Não conseguir o que se esperava",
            "Viajar para muito longe",
            "Descansar à beira-mar",
            "Trabalhar no porto",
        ),
    ),
    Item(
        "A partir de que idade o voto é obrigatório para o brasileiro alfabetizado?",
        ("18 anos", "16 anos", "17 anos", "21 anos"),
    ),
    Item(
        "Quantos senadores representam cada estado no Senado Federal?",
        ("Três", "Um", "Dois", "Oito"),
    ),
    Item(
        "O que significa a sigla SUS?",
        (
            "Sistema Único de Saúde",
            "Serviço Universal de Saúde",
            "Sistema Unificado de Segurança",
            "Serviço Único Social",
        ),
    ),
    Item(
        "Segundo o Código de Defesa do Consumidor, até quantos dias depois de receber o produto "
        "é possível desistir de uma compra feita pela internet?",
        ("Sete", "Dois", "Vinte", "Noventa"),
    ),
    Item(
        "Que sigla identifica o cadastro das pessoas físicas na Receita Federal?",
        ("CPF", "CNPJ", "CNH", "CTPS"),
    ),
    Item(
        "O que se comemora no Brasil em 7 de setembro?",
        (
            "A Independência",
            "A Proclamação da República",
            "O Dia do Trabalhador",
            "O Dia de Tiradentes",
        ),
    ),
    Item(
        "Em que dia se comemora o feriado nacional de Tiradentes?",
        ("21 de abril", "1º de maio", "15 de novembro", "12 de outubro"),
    ),
    Item(
        "Em que ano foi promulgada a Constituição Federal em vigor no Brasil?",
        ("1988", "1946", "1967", "1934"),
    ),
    Item(
        "A quem cabe cobrar o IPVA?",
        ("Aos estados e ao Distrito Federal", "À União", "Aos municípios", "Aos cartórios"),
    ),
)


def quiz(ref: Ref) -> Script:
    rng = ref.rng()
    printed, right, wrong = multiple_choice(rng, rng.sample(QUIZ, 4))
    prompt = f"{_QUIZ_ORDERS[variant_of(ref, len(_QUIZ_ORDERS))]} {_ROW_OF_FOUR}\n\n{printed}"

    def check(outcome: Outcome | None) -> Grade:
        return graders.choices(outcome, right)

    return one_answer(
        ref,
        len(_QUIZ_ORDERS),
        single_turn(ref, prompt),
        check,
        expected=format_row(right),
        near_miss=format_row(wrong),
    )


# P2 what follows from what

FOLLOWS, CONTRADICTS, OPEN = "decorre", "contradiz", "indefinido"
RELATIONS = (FOLLOWS, CONTRADICTS, OPEN)


@dataclass(frozen=True)
class Premise:
    """A sentence, and three others: one that follows from it, one that contradicts it, and one that
    it leaves open.
    """

    text: str
    follows: str
    contradicts: str
    open: str


PREMISES: tuple[Premise, ...] = (
    Premise(
        "{a} comprou três livros e deu dois deles a {b}.",
        "{b} ganhou livros de {a}.",
        "{a} ficou com todos os livros que comprou.",
        "{b} já conhecia os livros que ganhou.",
    ),
    Premise(
        "Todos os alunos da turma passaram na prova, e {b} é aluno da turma.",
        "{b} passou na prova.",
        "{b} foi reprovado na prova.",
        "{b} tirou a maior nota da turma.",
    ),
    Premise(
        "{a} mora no décimo andar de um prédio que não tem elevador.",
        "O prédio em que {a} mora tem pelo menos dez andares.",
        "{a} vai de elevador até o andar em que mora.",
        "{a} gosta do apartamento em que mora.",
    ),
    Premise(
        "A loja fechou às 18 horas, e {b} chegou lá às 19 horas do mesmo dia.",
        "{b} chegou à loja depois que ela fechou.",
        "{b} chegou à loja uma hora antes de ela fechar.",
        "{b} voltou à loja no dia seguinte.",
    ),
    Premise(
        "Nenhum dos convidados comeu carne no almoço, e {a} estava entre os convidados.",
        "{a} não comeu carne no almoço.",
        "{a} comeu um bife no almoço.",
        "{a} nunca come carne.",
    ),
    Premise(
        "{b} é mais velho do que {a}, e {a} é mais velha do que Sílvia.",
        "{b} é mais velho do que Sílvia.",
        "Sílvia é mais velha do que {b}.",
        "{a} e {b} são irmãos.",
    ),
    Premise(
        "{a} foi de ônibus ao trabalho porque o carro dela estava na oficina.",
        "O carro de {a} estava na oficina.",
        "{a} foi ao trabalho no próprio carro.",
        "O conserto do carro de {a} custou caro.",
    ),
    Premise(
        "{b} embarcou no Recife às 9 horas e desembarcou em Belém ao meio-dia do mesmo dia.",
        "{b} chegou a Belém no mesmo dia em que saiu do Recife.",
        "{b} só chegou a Belém no dia seguinte.",
        "{b} foi a Belém a trabalho.",
    ),
    Premise(
        "A biblioteca só empresta livros a quem tem carteirinha, e ontem ela emprestou um livro "
        "a {a}.",
        "Ontem {a} tinha a carteirinha da biblioteca.",
        "{a} nunca pegou um livro emprestado nessa biblioteca.",
        "O livro que {a} pegou é um romance.",
    ),
    Premise(
        "Na sala há {n} cadeiras, e exatamente metade delas está quebrada.",
        "Há {half} cadeiras quebradas na sala.",
        "Todas as cadeiras da sala estão inteiras.",
        "As cadeiras quebradas serão consertadas nesta semana.",
    ),
    Premise(
        "Há dois anos, {b} deixou de fumar.",
        "{b} já fumou.",
        "{b} nunca fumou.",
        "{b} deixou de fumar por recomendação médica.",
    ),
    Premise(
        "{a} só toma café sem açúcar, e hoje ela tomou duas xícaras de café.",
        "Hoje {a} tomou café sem açúcar.",
        "Hoje {a} tomou café com açúcar.",
        "Hoje {a} tomou café em casa.",
    ),
    Premise(
        "O time de {b} disputou dois jogos no fim de semana e perdeu os dois.",
        "O time de {b} não venceu nenhum jogo no fim de semana.",
        "O time de {b} venceu um dos jogos do fim de semana.",
        "O time de {b} trocou de técnico depois dos jogos.",
    ),
    Premise(
        "{a} esqueceu o guarda-chuva em casa e chegou encharcada ao escritório.",
        "{a} chegou molhada ao escritório.",
        "{a} chegou ao escritório com a roupa seca.",
        "{a} voltou para casa mais cedo naquele dia.",
    ),
)
_WOMEN = ("Marina", "Júlia", "Teresa", "Lívia", "Camila", "Helena", "Débora")
_MEN = ("Rafael", "Tiago", "Otávio", "Bruno", "Caio", "Danilo", "Vicente")
_PAIR_ORDERS = (
    "Compare as duas frases de cada par.",
    "Leia com atenção os dois pares de frases abaixo.",
    "Em cada par abaixo, tome a primeira frase como verdadeira e avalie a segunda.",
)
_RELATION_ORDER = (
    "Se a segunda frase é necessariamente verdadeira quando a primeira é verdadeira, a resposta "
    "é “decorre”. Se ela é necessariamente falsa nesse caso, a resposta é “contradiz”. Se a "
    "primeira frase não permite saber, a resposta é “indefinido”. Escreva apenas as duas "
    "respostas, na ordem dos pares, em uma única linha e separadas por vírgula."
)


def entailment(ref: Ref) -> Script:
    rng = ref.rng()
    pairs, right = [], []
    for number, premise in enumerate(rng.sample(PREMISES, 2), 1):
        half = rng.randrange(8, 40)
        names = {"a": rng.choice(_WOMEN), "b": rng.choice(_MEN), "n": 2 * half, "half": half}
        relation, second = rng.choice(
            ((FOLLOWS, premise.follows), (CONTRADICTS, premise.contradicts), (OPEN, premise.open))
        )
        pairs.append(
            f"Par {number}\nPrimeira: {premise.text.format(**names)}\nSegunda: "
            f"{second.format(**names)}"
        )
        right.append(relation)
    wrong, place = list(right), rng.randrange(2)
    wrong[place] = rng.choice([relation for relation in RELATIONS if relation != right[place]])
    order = _PAIR_ORDERS[variant_of(ref, len(_PAIR_ORDERS))]
    prompt = "\n\n".join((f"{order} {_RELATION_ORDER}", *pairs))

    def check(outcome: Outcome | None) -> Grade:
        return graders.labels(outcome, RELATIONS, *right)

    return one_answer(
        ref,
        len(_PAIR_ORDERS),
        single_turn(ref, prompt),
        check,
        expected=", ".join(right),
        near_miss=", ".join(wrong),
    )


# P3 grammar

CRASE: tuple[Item, ...] = (
    Item("Ela foi ___ farmácia comprar um remédio.", ("à", "a", "há")),
    Item("A consulta começa ___ três horas da tarde.", ("às", "as", "há")),
    Item("Perdemos o ônibus e voltamos para casa ___ pé.", ("a", "à", "há")),
    Item("Ele começou ___ estudar para o concurso.", ("a", "à", "há")),
    Item("Moro neste bairro ___ dez anos.", ("há", "a", "à")),
    Item("Daqui ___ duas semanas começam as férias.", ("a", "à", "há")),
    Item("Entreguei o documento ___ diretora da escola.", ("à", "a", "há")),
    Item("Não me refiro ___ ela, e sim ao irmão dela.", ("a", "à", "há")),
    Item("No verão passado, fomos ___ Bahia.", ("à", "a", "há")),
    Item("No ano que vem, iremos ___ Roma.", ("a", "à", "há")),
    Item("Os dois adversários ficaram frente ___ frente no debate.", ("a", "à", "há")),
    Item("A loja abre de segunda ___ sexta-feira.", ("a", "à", "há")),
)
CONCORDANCIA: tuple[Item, ...] = (
    Item("___ muitos anos que não nos vemos.", ("Faz", "Fazem", "Fizeram")),
    Item("Ontem ___ vários problemas na reunião.", ("houve", "houveram", "haviam")),
    Item("Seguem ___ as notas fiscais que o senhor pediu.", ("anexas", "anexo", "anexa")),
    Item("É ___ a entrada de animais neste prédio.", ("proibida", "proibido", "proibidos")),
    Item("As alunas garantiram que elas ___ fariam o trabalho.", ("mesmas", "mesmo", "mesma")),
    Item("O almoço foi servido ao meio-dia e ___.", ("meia", "meio", "meias")),
    Item("A diretora ficou ___ cansada depois da viagem.", ("meio", "meia", "meias")),
    Item("___-se apartamentos nesta rua.", ("Alugam", "Aluga", "Alugou")),
    Item("___-se de vendedores com experiência.", ("Precisa", "Precisam", "Precisaram")),
    Item("Mais de um aluno ___ à aula de ontem.", ("faltou", "faltaram", "faltavam")),
    Item("Os Estados Unidos ___ o acordo na semana passada.", ("assinaram", "assinou", "assinava")),
    Item("Hoje havia ___ pessoas na fila do que ontem.", ("menos", "menas", "menor")),
)
REGENCIA: tuple[Item, ...] = (
    Item("Prefiro café ___ chá.", ("a", "do que", "que")),
    Item("Ontem à noite, assistimos ___ um filme muito bom.", ("a", "de", "em")),
    Item("O motorista não obedeceu ___ sinalização.", ("à", "a", "na")),
    Item("Este é o livro ___ que mais gosto.", ("de", "em", "a")),
    Item("A cidade ___ que nasci fica no litoral.", ("em", "de", "a")),
    Item("O cargo ___ que ele aspira exige experiência.", ("a", "de", "em")),
    Item("Ela se esqueceu ___ reunião de hoje.", ("da", "à", "na")),
    Item("Lembre-se ___ trazer os documentos.", ("de", "a", "em")),
    Item("Sou favorável ___ proposta do síndico.", ("à", "a", "da")),
    Item("Informei os clientes ___ mudança de horário.", ("da", "à", "a")),
    Item("Ele é residente ___ Rua das Flores.", ("na", "à", "a")),
    Item("Os vizinhos confiam ___ porteiro do prédio.", ("no", "ao", "o")),
)
_GRAMMAR_ORDERS = (
    "Escolha a opção que completa cada frase de acordo com a norma-padrão da língua portuguesa.",
    "Escolha a opção que preenche cada uma das três lacunas segundo a norma-padrão do português "
    "escrito.",
    "Cada frase abaixo tem uma lacuna. Indique a opção recomendada pela gramática normativa para "
    "cada uma.",
)
_ROW_OF_THREE = (
    "Dê as respostas em uma única linha, no formato 1-X 2-X 3-X, substituindo cada X pela letra "
    "da opção escolhida, e não escreva mais nada."
)


def grammar(ref: Ref) -> Script:
    rng = ref.rng()
    items = [rng.choice(bank) for bank in (CRASE, CONCORDANCIA, REGENCIA)]
    printed, right, wrong = multiple_choice(rng, rng.sample(items, 3))
    prompt = (
        f"{_GRAMMAR_ORDERS[variant_of(ref, len(_GRAMMAR_ORDERS))]} {_ROW_OF_THREE}\n\n{printed}"
    )

    def check(outcome: Outcome | None) -> Grade:
        return graders.choices(outcome, right)

    return one_answer(
        ref,
        len(_GRAMMAR_ORDERS),
        single_turn(ref, prompt),
        check,
        expected=format_row(right),
        near_miss=format_row(wrong),
    )


# P4 dates and amounts

MONTHS = [
    "janeiro",
    "fevereiro",
    "março",
    "abril",
    "maio",
    "junho",
    "julho",
    "agosto",
    "setembro",
    "outubro",
    "novembro",
    "dezembro",
]


@dataclass(frozen=True, order=True)
class Day:
    year: int
    month: int
    day: int

    @property
    def iso(self) -> str:
        return f"{self.year}-{self.month:02}-{self.day:02}"

    @property
    def spoken(self) -> str:
        return f"{'1º' if self.day == 1 else self.day} de {MONTHS[self.month - 1]} de {self.year}"

    @property
    def short(self) -> str:
        return f"{self.day:02}/{self.month:02}/{self.year}"

    @property
    def spellings(self) -> tuple[str, ...]:
        """Return the ways in which a Brazilian text may write this day."""
        ordinals = ("1.º", "primeiro") if self.day == 1 else ()
        days, months = (self.day, f"{self.day:02}"), (self.month, f"{self.month:02}")
        spoken = (f"{day} de {MONTHS[self.month - 1]} de {self.year}" for day in (*days, *ordinals))
        return (
            self.spoken,
            *spoken,
            *(f"{day}/{month}/{self.year}" for day in days for month in months),
            self.iso,
        )


def draw_day(rng: random.Random) -> Day:
    """Draw a day whose day and month can be swapped, so that only a Brazilian reading is right."""
    month = rng.randrange(1, 13)
    return Day(
        rng.randrange(2019, 2028), month, rng.choice([d for d in range(1, 13) if d != month])
    )


def format_reais(cents: int) -> str:
    """Format cents as Brazilian money: 1234567 -> R$ 12.345,67."""
    return f"R$ {cents // 100:,}".replace(",", ".") + f",{cents % 100:02}"


def draw_amount(rng: random.Random) -> tuple[str, str]:
    """Draw an amount; return it as a text writes it, and as a decimal."""
    kind = rng.randrange(4)
    if kind == 0:
        tenths = rng.choice([n for n in range(105, 980) if n % 10])
        return f"R$ {tenths // 10},{tenths % 10} mil", f"{tenths * 100}.00"
    if kind == 1:
        tenths = rng.choice([n for n in range(21, 98) if n % 10])
        return f"R$ {tenths // 10},{tenths % 10} milhões", f"{tenths * 100_000}.00"
    cents = rng.randrange(110_001, 99_999_999) if kind == 2 else rng.randrange(1_005, 99_990)
    return format_reais(cents), f"{cents // 100}.{cents % 100:02}"


_NOTES = (
    (
        "O contrato foi assinado em {d1}. A primeira parcela, de {m1}, vence em {d2}, e o valor "
        "total é de {m2}.",
        "a data da assinatura, a data de vencimento da primeira parcela, o valor da primeira "
        "parcela e o valor total",
    ),
    (
        "A obra começou em {d1}, com orçamento de {m1}, e foi entregue em {d2}, depois de "
        "consumir {m2}.",
        "a data de início, a data de entrega, o orçamento e o custo final",
    ),
    (
        "O leilão foi aberto em {d1}, com lance mínimo de {m1}. O terreno foi arrematado em "
        "{d2}, por {m2}.",
        "a data de abertura, a data da arrematação, o lance mínimo e o preço final",
    ),
)


def dates_and_money(ref: Ref) -> Script:
    rng = ref.rng()
    note, fields = _NOTES[variant_of(ref, len(_NOTES))]
    first, second = sorted((draw_day(rng), draw_day(rng)))
    (said1, amount1), (said2, amount2) = sorted(
        (draw_amount(rng), draw_amount(rng)), key=lambda x: float(x[1])
    )
    text = note.format(
        d1=rng.choice((first.spoken, first.short)),
        d2=rng.choice((second.spoken, second.short)),
        m1=said1,
        m2=said2,
    )
    prompt = (
        f"Leia o texto e escreva, em quatro linhas e nesta ordem, {fields}. Escreva as datas no "
        "formato AAAA-MM-DD e os valores em reais apenas com algarismos, sem o símbolo da moeda "
        "nem separador de milhar, com ponto decimal e duas casas decimais (por exemplo, "
        f"1500.00). Não escreva rótulos nem qualquer outro texto.\n\n{text}"
    )
    right = [first.iso, second.iso, amount1, amount2]
    american = Day(first.year, first.day, first.month)
    near_miss = rng.choice(
        (
            [american.iso, *right[1:]],
            [*right[:3], said2],
            [first.short, *right[1:]],
            [f"Assinatura: {right[0]}", *right[1:]],
            right[:3],
        )
    )

    def check(outcome: Outcome | None) -> Grade:
        return graders.lines_are(outcome, *right)

    return one_answer(
        ref,
        len(_NOTES),
        single_turn(ref, prompt),
        check,
        expected="\n".join(right),
        near_miss="\n".join(near_miss),
    )


# P5 a contract in five lines


@dataclass(frozen=True)
class Terms:
    """The terms of a contract; `amount` in cents, `fine` in per cent."""

    person: str
    firm: str
    amount: int
    starts: Day
    months: int
    fine: int


@dataclass(frozen=True)
class Contract:
    """The text, the four facts that a summary must mention, in words, and such a summary."""

    text: str
    facts: str
    summary: str


_FULL_NAMES = (
    "Marina Alves Teixeira",
    "Otávio Ramos Leal",
    "Teresa Pinto Guedes",
    "Danilo Freitas Neves",
    "Lívia Castro Moura",
    "Vicente Lopes Barreto",
    "Camila Dutra Farias",
    "Rafael Nunes Bastos",
)
_FIRMS = ("Horizonte Ltda.", "Pedra Azul Ltda.", "Ipê Ltda.", "Maré Alta Ltda.")


def lease(deal: Terms) -> Contract:
    text = (
        f"CONTRATO DE LOCAÇÃO. {deal.firm}, doravante denominada locadora, cede a {deal.person}, "
        "doravante denominada parte locatária, o uso do apartamento residencial descrito no "
        f"anexo. A locação tem início em {deal.starts.spoken} e vigora por {deal.months} meses, "
        "ao fim dos quais o imóvel deverá ser devolvido no estado em que foi recebido. O aluguel "
        f"mensal é de {format_reais(deal.amount)} e será pago até o 5º dia útil de cada mês, por "
        "meio de boleto bancário. O atraso no pagamento sujeita a parte locatária a multa de "
        f"{deal.fine}% sobre o valor em aberto. É vedada a sublocação, no todo ou em parte, sem "
        "autorização por escrito da locadora. As despesas de condomínio, água e energia elétrica "
        "correm por conta da parte locatária."
    )
    summary = (
        f"{deal.firm} aluga um apartamento a {deal.person}.\nA locação começa em "
        f"{deal.starts.spoken} e dura {deal.months} meses.\nO aluguel mensal é de "
        f"{format_reais(deal.amount)}."
    )
    facts = (
        "o nome da parte locatária, o valor do aluguel mensal, a data de início e o prazo em meses"
    )
    return Contract(text, facts, summary)


def service(deal: Terms) -> Contract:
    text = (
        f"CONTRATO DE PRESTAÇÃO DE SERVIÇOS. Pelo presente instrumento, {deal.person}, na "
        f"qualidade de contratante, e {deal.firm}, na qualidade de contratada, ajustam a "
        "manutenção dos jardins da residência indicada no anexo. Os serviços terão início em "
        f"{deal.starts.spoken} e serão prestados pelo prazo de {deal.months} meses, com visitas "
        "semanais em dia e hora combinados entre as partes. O preço dos serviços é de "
        f"{format_reais(deal.amount)} por mês e será pago mediante a apresentação de nota fiscal. "
        f"A rescisão antes do prazo, por qualquer das partes, implica multa de {deal.fine}% sobre "
        "o saldo do contrato. As ferramentas e os insumos são fornecidos pela contratada. Fica "
        "eleito o foro da comarca em que se situa a residência."
    )
    summary = (
        f"{deal.person} contrata {deal.firm} para cuidar dos jardins de sua residência.\nO "
        f"serviço começa em {deal.starts.short}, dura {deal.months} meses e custa "
        f"{format_reais(deal.amount)} por mês."
    )
    facts = "o nome de quem contrata, o valor mensal, a data de início e o prazo em meses"
    return Contract(text, facts, summary)


def loan(deal: Terms) -> Contract:
    text = (
        f"CONTRATO DE COMODATO DE EQUIPAMENTOS. {deal.firm} entrega a {deal.person}, a título de "
        "empréstimo gratuito, os equipamentos de informática relacionados no anexo, avaliados em "
        f"{format_reais(deal.amount)}. O empréstimo tem início em {deal.starts.spoken} e termina "
        f"ao fim de {deal.months} meses, podendo ser renovado por acordo entre as partes. Quem "
        "recebe os equipamentos se obriga a conservá-los como se fossem seus e a não os ceder a "
        "terceiros. Em caso de perda ou dano, responderá pelo valor da avaliação, acrescido de "
        f"multa de {deal.fine}%. A devolução será feita na sede da empresa, contra recibo, em "
        "perfeitas condições de uso."
    )
    summary = (
        f"{deal.firm} empresta equipamentos de informática a {deal.person}.\nEles foram avaliados "
        f"em {format_reais(deal.amount)}.\nO empréstimo começa em {deal.starts.spoken} e dura "
        f"{deal.months} meses."
    )
    facts = (
        "o nome de quem recebe os equipamentos, o valor da avaliação, a data de início e o prazo "
        "em meses"
    )
    return Contract(text, facts, summary)


_CONTRACTS: tuple[Callable[[Terms], Contract], ...] = (lease, service, loan)


# Where the figures of a contract stand: 14 (quatorze) meses, Prazo: 14; R$ 7.501,00, 7.501 reais,
# Aluguel mensal: 7.501,00. A figure that is a date's, a percentage or a count is another one's.
_FIGURE = r"(?<![\d.,/-])(\d{1,3}(?: \d{3})+(?:,\d\d)?|\d+(?:[.,]\d+)*)"
_IN_WORDS = r" *(?:\([^()\n]{1,60}\) *)?"
_NOT_ANOTHERS = r"(?![\d.,]|\s*[%/º°]|-\d|\s+(?:de|dias?|anos?|parcelas|vezes)\b)"
IN_MONTHS = (
    rf"{_FIGURE}\)?{_IN_WORDS}-?meses\b",
    rf"\b(?:prazo|dura[çc][ãa]o|vig[êe]ncia)\b[^\d\n.;%$]{{0,40}}{_FIGURE}{_NOT_ANOTHERS}",
    rf"\bmeses\b[^\w\n]{{1,5}}{_FIGURE}{_NOT_ANOTHERS}",
)
IN_REAIS = (
    rf"(?:R\s*\\?\$|\bBRL)\s*{_FIGURE}",
    rf"{_FIGURE}\)?{_IN_WORDS}reais\b",
    r"\b(?:aluguel|valor|pre[çc]o|mensal(?:idade)?|avalia\w+|custa|pag[ao]\w*|quantia)\b[^\d\n.;%]{0,40}"
    rf"{_FIGURE}{_NOT_ANOTHERS}(?!\s*meses)",
)


def contract_summary(ref: Ref) -> Script:
    rng = ref.rng()
    deal = Terms(
        rng.choice(_FULL_NAMES),
        rng.choice(_FIRMS),
        rng.randrange(1_201, 9_800) * 100,
        draw_day(rng),
        rng.randrange(14, 48),
        rng.choice((2, 5, 8, 10)),
    )
    contract = _CONTRACTS[variant_of(ref, len(_CONTRACTS))](deal)
    prompt = (
        "Resuma o contrato abaixo em no máximo cinco linhas. O resumo deve informar "
        f"{contract.facts}. Use algarismos e não inclua nenhum número que não esteja no "
        f"contrato.\n\n{contract.text}"
    )

    def check(outcome: Outcome | None) -> Grade:
        return graders.all_of(
            lambda: graders.mentions(outcome, deal.person),
            lambda: graders.figure_beside(outcome, deal.amount // 100, *IN_REAIS),
            lambda: graders.mentions_one(outcome, *deal.starts.spellings),
            lambda: graders.figure_beside(outcome, deal.months, *IN_MONTHS),
            lambda: graders.no_other_numbers(outcome, f"{contract.text} {deal.starts.month}"),
            lambda: graders.lines(outcome, 1, 5),
            lambda: graders.words(outcome, 1, len(contract.text.split()) * 3 // 4),
            lambda: graders.language(outcome, "pt", (deal.person, deal.firm)),
        )

    good = contract.summary
    near_miss = rng.choice(
        (
            good.replace(f"{deal.months} meses", "alguns meses"),
            good.replace(f"{deal.months} meses", f"{deal.fine} meses") + f" Multa: {deal.months}%.",
            f"{good}\nO total é de {format_reais(deal.amount * deal.months)}.",
            good.replace(deal.person, deal.person.split()[0]),
            contract.text,
            "\n".join(good.split(" ", 6)),
        )
    )
    count = len(_CONTRACTS)
    return one_answer(
        ref,
        count,
        single_turn(ref, prompt, max_tokens=500),
        check,
        expected=good,
        near_miss=near_miss,
    )


PORTUGUESE = (
    scored_case("P1", gettext_noop("Four multiple-choice items (pt)"), Category.PORTUGUESE, quiz),
    scored_case("P2", gettext_noop("Entailment pair (pt)"), Category.PORTUGUESE, entailment),
    scored_case("P3", gettext_noop("Grammar (pt)"), Category.PORTUGUESE, grammar),
    scored_case("P4", gettext_noop("Dates and amounts (pt)"), Category.PORTUGUESE, dates_and_money),
    scored_case(
        "P5", gettext_noop("Contract in five lines (pt)"), Category.PORTUGUESE, contract_summary
    ),
)
