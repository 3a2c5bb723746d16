"""The short suite of embedding models, and the sentences that mean the same which it compares."""

from __future__ import annotations

# Groups of texts that mean the same, in Brazilian Portuguese. No two groups are about the same thing.
CONCEPTS: tuple[tuple[str, ...], ...] = (
    ("O gato dorme no sofá da sala.", "O felino está dormindo no sofá da sala de estar.", "Um gato tira uma soneca no sofá."),
    ("A taxa de juros do banco subiu de novo.", "O banco aumentou outra vez os juros.", "Os juros bancários tiveram nova alta."),
    ("A receita do bolo leva farinha e ovos.", "Para fazer o bolo são precisos ovos e farinha.", "O bolo é feito com ovos e farinha."),
    ("O time venceu a partida de futebol.", "A equipe ganhou o jogo de futebol.", "O jogo de futebol terminou com vitória do time."),
    ("O médico receitou um remédio para a dor.", "Um remédio contra a dor foi receitado pelo médico.", "O doutor prescreveu um remédio para a dor."),
    ("Vai chover forte amanhã à tarde.", "A previsão para amanhã à tarde é de chuva forte.", "Amanhã à tarde cairá uma chuva forte."),
    ("O voo para Lisboa atrasou duas horas.", "O avião para Lisboa saiu com duas horas de atraso.", "Houve atraso de duas horas no voo para Lisboa."),
    ("O contrato de aluguel termina em dezembro.", "O aluguel tem contrato até dezembro.", "Em dezembro acaba o contrato de aluguel."),
)  # fmt: skip
