"""Writes the labelled texts anew: ``python -m tests.masking.writing``.

Numbers are drawn for written-down formats (``#`` is any digit, ``N`` one of 2 to 9), names and
sentences combined; the two parts share neither formats nor sentences.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from tests.masking.labelled import FOLDER

_NAMES = ("anna", "jo.smith", "m.mueller", "li_wei", "o'neil", "k-larsen", "max+shop", "a.b.c",
          "info", "J.Doe99", "søren", "x1", "first.last.middle", "r2d2", "zoë")  # fmt: skip
_HOSTS = ("example.org", "mail.example.com", "example.co.uk", "post.example.de", "a-b.example.net",
          "uni.example.edu", "münchen.example", "EXAMPLE.COM", "sub.dept.example.fr",
          "firma.example.shop")  # fmt: skip


class Part(NamedTuple):
    """What one list is made of."""

    seed: int
    emails: Sequence[str]
    phones: Sequence[str]
    card_prefixes: Sequence[tuple[str, int]]
    card_groups: Sequence[tuple[str, ...]]
    sentences: Sequence[str]
    negatives: Sequence[str]


_DEVELOPMENT = Part(
    seed=1,
    emails=("{n}@{h}", "{n}@{h}", "{n} (at) {h}", "{n}[at]{h}", "{n}(at){h}"),
    phones=(
        "+49 30 #######", "+49 (0)30 ######", "+4917########", "0049 89 #######", "030 / #######",
        "0171-#######", "(0221) ######", "089/######-##", "+1 (N##) N##-####", "+1-N##-N##-####",
        "(N##) N##-####", "N##-N##-####", "N##.N##.####", "1-N##-N##-####", "+44 20 #### ####",
        "020 7### ####", "07### ######", "+447#########", "+33 6 ## ## ## ##", "06 ## ## ## ##",
        "01.##.##.##.##", "+34 6## ### ###", "6## ### ###", "+39 06 ########", "+48 5## ### ###",
        "+91 98### #####", "+86 138 #### ####", "138 #### ####", "+81-3-####-####",
        "03-####-####", "+55 11 9####-####", "(11) 9####-####", "+7 (9##) ###-##-##",
        "8 (9##) ###-##-##", "+41 44 ### ## ##", "044 ### ## ##", "+31 6 ########", "06-########",
        "+46 70-### ## ##", "070-### ## ##",
    ),
    card_prefixes=(("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("34", 15), ("37", 15),
                   ("6011", 16), ("36", 14), ("3528", 16)),
    card_groups=((), (" ",), ("-",)),
    sentences=(
        "{}", "Call me at {} please", "my number is {}", "Bitte melden: {}.", "Tel. {}",
        "reach me: {} or come by", "Great lamp, but the seller never answered, mine is {}!",
        "Contact {} for a refund", "kontakt {}", "Écrivez-moi : {} merci", "refund to {} now",
        "the box broke ({})", "{} - bitte um Rückruf", "two tents. {}; thanks", "wie oben, {}?",
    ),
    negatives=(
        "laptop under 1,299.00 USD", "1.299,00 EUR gezahlt", "only $1299.99 today",
        "price dropped from 12 990 kr to 9 990 kr", "order 20261125-0042 never came",
        "Order #4021 7788 1200", "ISBN 978-3-16-148410-0", "ISBN 3-16-148410-X",
        "isbn 9783161484100", "EAN 4006381333931", "films from 1984 to 1999", "the 1990 2000 2010s",
        "born 12.05.1987", "since 2026-11-25 14:30:00", "11/25/2026 arrived", "item B0002134XY",
        "SKU 100-2000-30", "part no. 88-1234567-A", "tracking 1Z999AA10123456784",
        "invoice RE2026110042", "size 120x200x30 cm", "3840 x 2160 at 144 Hz", "IP 192.168.100.200",
        "version 10.15.7.1234", "52.520008, 13.404954", "runs at 5 @ 3 EUR each",
        "follow @annashop",
        "logo@2x.png is blurry", "meet @ the shop", "ratio 16:9, 1920 1080", "100 200 300 pieces",
        "1 000 000 000 stars", "12345678 views", "IBAN DE89 3704 0044 0532 0130 00",
        "4111 1111 1111 1112 is no card", "model 4321 0987", "zip 10115 12345",
        "ASIN 1234567890", "wifi 802.11 ac 2400 5000 MHz", "part 0815-4711",
        "score 21-19 19-21 21-18",
        "Artikel 123 456 789", "order 555 123 4567 8 missing", "call 911 at once", "tel is broken",
        "gtin 00012345600012", "lot 20251231 20261231", "5000 mAh 65 W 20 V", "10-20-30-40 set",
        "season 01 02 03 04 05", "1 2 3 4 5 6 7 8 9 10", "0.123456789 grams", "pi is 3.1415926535",
    ),
)  # fmt: skip

_HELD_OUT = Part(
    seed=2,
    emails=("{n}@{h}", "<{n}@{h}>", "mailto:{n}@{h}", "{n} [at] {h}", "{n} @ {h}"),
    phones=(
        "+43 1 #######", "01 / ### ## ##", "+32 4## ## ## ##", "04##/##.##.##", "+351 91# ### ###",
        "+45 ## ## ## ##", "+47 ### ## ###", "+358 40 #######", "040 ### ####", "+420 7## ### ###",
        "+353 87 ### ####", "087 ### ####", "+61 4## ### ###", "04## ### ###", "(02) #### ####",
        "+64 21 ### ####", "+82 10-####-####", "010-####-####", "+90 532 ### ## ##",
        "0532 ### ## ##", "+52 55 #### ####", "+54 9 11 ####-####", "+27 82 ### ####",
        "082 ### ####", "+972-5#-#######", "05#-#######", "001 N## N## ####", "+1N##N######",
        "N## N## ####", "+49-176-########", "0176 ########", "0176/########", "+49.30.#######",
        "+33(0)1 ## ## ## ##", "0033 1 ## ## ## ##", "+380 67 ### ## ##", "(067) ###-##-##",
        "+65 9### ####", "+852 9### ####", "0800 ### ####",
    ),
    card_prefixes=(("4", 16), ("4", 19), ("53", 16), ("2600", 16), ("37", 15), ("65", 16),
                   ("62", 19), ("305", 14), ("3589", 16)),
    card_groups=((), (" ",), ("-",), ("\u00a0",)),
    sentences=(
        "{}", "ring {} after six", "the courier has {}", "Meine Nummer: {}", "Handy {}",
        "never got a reply from {}, one star", "please update it to {}", "ask for Maria, {}",
        "Llámame al {}", "me joindre au {}", "send it to {} by Friday", "[{}]", "{}, thank you",
        "charged twice on {} last week", "I asked twice.Then {}",
    ),
    negatives=(
        "headphones between 49.99 and 149.99", "kostet 2.499,-", "CHF 1'250.00 war zu viel",
        "paid 1 234 567 VND", "\u00a3 1,250,000 house", "order no 114-5839201-2204431",
        "ref. 2026/11/0042",
        "ISBN-13: 978-0-306-40615-7", "ISBN 0-306-40615-2", "0306406152", "UPC 036000291452",
        "from 1914-1918 and 1939-1945", "the 2020 2021 2022 editions", "geb. 3.4.1990",
        "on 2026/11/25", "25.11.26 08:15 Uhr", "ID 00F4-2231-9987", "SN: 5CD1234567",
        "RTX 4090 24 GB 2520 MHz",
        "DHL 00340434161094042557", "UPS 1Z 999 AA1 01 2345 6784", "M8x120 DIN 933 100 Stk",
        "10 x 15 x 20 x 25 mm", "10.0.0.1:8080 refused", "v2.10.333.4444", "48.8566 2.3522",
        "2@3.50 each", "thanks @jo_smith and @li", "icon@3x.jpg", "email me",
        "user@localhost works",
        "64 128 256 512 1024", "300 000 km driven", "87654321 times", "BIC COBADEFFXXX 37040044",
        "GB29 NWBK 6016 1331 9268 19", "5500 0000 0000 0005 5 is too long a number", "HRB 123456 B",
        "VAT DE123456789", "73100 Chambery 69001 Lyon", "B07XJ8C8F5", "9/10 8/10 7/10 6/10",
        "6-4 3-6 7-6 6-2", "NCC-1701-D", "art. 70.123.45", "no 4 5 6 7 8 9 left",
        "phone case for iPhone 15 2023",
        "mobile 5G 3500 MHz 5000 mAh", "customer 0004711234", "EN 60335-2-14:2018",
        "1.000.000 Teile", "2 000,50 kg", "0.000001234 g", "1024*768*32 bit",
        "ticket 2026 1125 001",
    ),
)  # fmt: skip


def lines(part: Part) -> list[str]:
    """Return the marked lines of a part."""
    random_ = random.Random(part.seed)
    marks = [_email(random_, random_.choice(part.emails)) for _ in range(60)]
    marks += [f"⟨phone|{_digits(random_, form)}⟩" for form in part.phones for _ in range(2)]
    marks += [_card(random_, part) for _ in range(40)]
    random_.shuffle(marks)
    found = []
    while marks:
        mark = marks.pop()
        found.append(random_.choice(part.sentences).format(mark))
        if marks and random_.random() < 0.1:  # two in one text
            found[-1] += f" / {marks.pop()}"
        elif random_.random() < 0.15:  # beside something hard
            found[-1] += f", {random_.choice(part.negatives)}"
    found += part.negatives
    found += [_digits(random_, form) for form in _ANY_NUMBERS for _ in range(3)]
    random_.shuffle(found)
    return found


_ANY_NUMBERS = (
    "order 3########", "item ########", "article no. 1######", "#,###.## EUR", "order N##-#######",
    "19## and 20##", "lot ######", "€ ###.###,##", "SKU-####-####", "id:#########",
)  # fmt: skip


def _email(random_: random.Random, form: str) -> str:
    address = form.format(n=random_.choice(_NAMES), h=random_.choice(_HOSTS))
    before, inner, after = re.fullmatch(r"(<|mailto:)?(.*?)(>)?", address).groups("")  # type: ignore[union-attr]
    return f"{before}⟨email|{inner}⟩{after}"


def _digits(random_: random.Random, form: str) -> str:
    drawn = re.sub("N", lambda _: random_.choice("23456789"), form) if "#" in form else form
    return re.sub("#", lambda _: random_.choice("0123456789"), drawn)


def _card(random_: random.Random, part: Part) -> str:
    prefix, size = random_.choice(part.card_prefixes)
    number = prefix + "".join(random_.choice("0123456789") for _ in range(size - len(prefix) - 1))
    number += str(-sum(_weighed(int(d), n) for n, d in enumerate(reversed(number))) % 10)
    groups = random_.choice(part.card_groups)
    if not groups:
        return f"⟨card|{number}⟩"
    sizes = {15: (4, 6, 5), 14: (4, 6, 4), 19: (4, 4, 4, 4, 3)}.get(size, (4, 4, 4, 4))
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    parts = [number[at : at + count] for at, count in zip(starts, sizes, strict=True)]
    return f"⟨card|{groups[0].join(parts)}⟩"


def _weighed(digit: int, place: int) -> int:
    """The digit's share of Luhn's sum, before the check digit is there."""
    return digit if place % 2 else sum(map(int, str(2 * digit)))


if __name__ == "__main__":
    for name, part in (("development", _DEVELOPMENT), ("held-out", _HELD_OUT)):
        (FOLDER / f"{name}.txt").write_text("\n".join(lines(part)) + "\n", encoding="utf-8")
