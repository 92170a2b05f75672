#!/usr/bin/env bash
# Temporal's default converter reads a value of the second dataclass of a union as the first one, without an error.
#
# Packages: temporalio 1.35.0
# Guess: an argument of type `Card | Transfer` that was sent as a Transfer arrives as a Transfer, or is refused.
# Seen: the first member whose required fields are there wins and what it does not know is dropped, so
#   Transfer(amount=5, iban="X1") arrives as Card(amount=5, number=""). In the order `Transfer | Card` a Card is read as a
#   Transfer instead.
# Why it matters: a workflow takes the wrong branch with a value that looks complete. Put a field with a Literal
#   into each member, or send the kind beside the value.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'temporalio==1.35.0'
"$folder/venv/bin/python" - <<'PYTHON'
from dataclasses import dataclass
from typing import Literal

from temporalio.converter import DataConverter


@dataclass
class Card:
    amount: int
    number: str = ""


@dataclass
class Transfer:
    amount: int
    iban: str = ""


@dataclass
class MarkedCard:
    amount: int
    kind: Literal["card"] = "card"


@dataclass
class MarkedTransfer:
    amount: int
    kind: Literal["transfer"] = "transfer"


def carried(value, type_hint):
    converter = DataConverter.default.payload_converter
    return converter.from_payloads(converter.to_payloads([value]), [type_hint])[0]


for value, hint in (
    (Transfer(5, "X1"), Card | Transfer),
    (Card(5, "4711"), Transfer | Card),
    (MarkedTransfer(5), MarkedCard | MarkedTransfer),
):
    print(value, "as", hint, "->", carried(value, hint))
assert carried(Transfer(5, "X1"), Card | Transfer) == Card(5, "")
assert carried(Card(5, "4711"), Transfer | Card) == Transfer(5, "")
assert carried(MarkedTransfer(5), MarkedCard | MarkedTransfer) == MarkedTransfer(5)
PYTHON
