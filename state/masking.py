"""E-mail addresses, card numbers and phone numbers in what users write, replaced by their kind.

A reviewed set of rules and no model, so that the same text gives the same masked text on every
worker and in every replay. Numbers are judged as whole runs of digit groups: what part of a longer
number looks like says nothing. docs/security.md has precision and recall on a labelled list, and
the limits: names and postal addresses stay.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Kind = Literal["email", "card", "phone"]


class Span(NamedTuple):
    """What was found, and where."""

    kind: Kind
    start: int
    end: int


_SEPARATOR = r"[ \u00a0\u00ad\u2000-\u200b\u202f\u205f\u3000().\-/\u2010-\u2015]"
"""No tab and no line break: columns and lists are of numbers that have nothing to do with each
other."""
_RUN = re.compile(rf"(?:[+\uff0b] ?)?\(?\d(?:{_SEPARATOR}{{0,3}}\d){{6,63}}")
"""At least seven digits, with at most three signs between two of them: ``) -`` or `` / ``. The cap
keeps a text of digits from being one run whose parts are all tried."""
_GROUP = re.compile(r"\d+")
_GROUPS_MAX = 12
"""Digit groups of one number: a card in fours has five, a phone number in twos seven."""
_ONES_MAX = 2
"""Of them with one digit: ``+1 ...``, ``+49 (0) ...``."""
_TURNS_MAX = 8
"""Of looking again. Three were enough for all that fuzzing made up; hostile texts get no more."""
_DIGITS_MIN = 7
_DIGITS_MAX = 19

_AT, _DOT = r"[@\uff20]", r"(?:[.\uff0e]|(?<=[A-Za-z0-9])\u3002(?=[A-Za-z]))"
_LOCAL = r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}"
_LABEL = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
_EMAIL = re.compile(
    rf"(?<![\w.!#$%&'*+/=?^`{{|}}~-]){_LOCAL}(?:{_AT}|\s?[(\[{{]\s?(?:at|@|\u00e4t)\s?[)\]}}]\s?)"
    rf"{_LABEL}(?:(?:{_DOT}|\s?[(\[{{]\s?(?:dot|punkt|\.)\s?[)\]}}]\s?){_LABEL}){{0,6}}"
    rf"(?:{_DOT}|\s?[(\[{{]\s?(?:dot|punkt|\.)\s?[)\]}}]\s?)[^\W\d_]{{2,24}}(?![^\W_]|{_AT})",
    re.IGNORECASE,
)
_PICTURE = re.compile(r"@\d+x\.\w+$")
"""``logo@2x.png`` is a file."""
_MAY_BE_EMAIL = re.compile(rf"{_AT}|[(\[{{]\s?(?:at|\u00e4t)\s?[)\]}}]", re.IGNORECASE)
_WORTH_A_LOOK = re.compile(
    rf"[@\uff20(\[{{\d](?:(?<={_AT})|(?<=[(\[{{])\s?(?:at|\u00e4t|@)|(?<=\d)(?:{_SEPARATOR}{{0,3}}\d){{6}})",
    re.IGNORECASE,
)
"""One pass that most texts end with: it begins with a set of signs, which is searched for fast."""

_TELLING_NOTHING = bytes(sign for sign in range(128) if sign not in b"0123456789@([{")

_DATE = re.compile(
    r"(?:\d{1,2}([./-])\d{1,2}\1(?:19|20)\d{2}|(?:19|20)\d{2}([./-])\d{1,2}\2\d{1,2})(?!\d)"
)
_LONE_YEAR = r"(?:19|20)\d\d(?![\d.,]|\s\d)"
_AMOUNT_AFTER = re.compile(
    r"(?:[.,]?-)?\s?(?:[$\u20ac\u00a3\u00a5\u20bd%]|(?:EUR|USD|GBP|CHF|PLN|z\u0142|kr|Kc|K\u010d|\u5186|\u5143)\b)"
    rf"(?!\s?(?!{_LONE_YEAR})\d)",  # that one is of the next number
    re.IGNORECASE,
)
_AMOUNT_BEFORE = re.compile(
    r"(?:(?<!\d)(?<!\d\s)|(?<=\b(?:19|20)\d\d\s))"  # else it is of the number before
    r"(?:[$\u20ac\u00a3\u00a5\u20bd]|\b(?:EUR|USD|GBP|CHF|PLN))\s?$",
    re.IGNORECASE,
)
_CALLED_A_PHONE = re.compile(
    r"(?:(?:(?<![\[\w])(?:tel|telefon\w*|t\u00e9l|t\u00e9l\u00e9phone|tel\u00e9fono|telefone|telefoon|telefono|puhelin|"
    r"phone|mobile|mobil\w*|m\u00f3vil|celular|cellulare|handy|cell|fax|whatsapp|sms|signal|hotline|"
    r"kom\u00f3rka|\u0442\u0435\u043b|\u0442\u0435\u043b\u0435\u0444\u043e\u043d)\b|\u7535\u8bdd|\u96fb\u8a71|\u624b\u673a|\u643a\u5e2f|\u260e|\U0001f4de)"
    r"[^\w\d]{0,3}(?:(?:no|nr|num|number|nummer|numero|n\u00famero|is|ist|at|unter|es|\u53f7|\u756a\u53f7)\b[^\w\d]{0,3})?"
    r"|\b(?:call|ring|text|rufen?|anrufen|ruf|appelez|llama|llame|zadzwo\u0144|bel)\W{1,2}"
    r"(?:me|us|mich|uns|moi|nous|mij|ons|pod)?\W{0,2}(?:an|at|on|under|unter|au|al|op|numer)?\W{0,3})$",
    re.IGNORECASE,
)
_BEFORE_CHARS = 32

_SHAPES: dict[tuple[int, ...], re.Pattern[str]] = {
    (3, 3, 4): re.compile(r"\(?[2-9]\d\d\D+[2-9]\d\d\D\d+"),  # North America
    (1, 3, 3, 4): re.compile(r"1\D+[2-9]\d\d\D+[2-9]\d\d\D\d+"),
    (3, 3, 3): re.compile(r"[5679]\d\d([ -])\d+\1\d+"),  # Spain, Poland
    (5, 5): re.compile(r"[6-9]\d+[ -]\d+"),  # India
    (3, 4, 4): re.compile(r"1[3-9]\d([ -])\d+\1\d+"),  # China
    (1, 3, 3, 2, 2): re.compile(r"8\D+[3-9]\d\d\D+\d+\D\d+\D\d+"),  # Russia
    (2, 5, 4): re.compile(r"\(\d\d\) ?9\d+[ -]\d+"),  # Brazil
    (2, 4, 4): re.compile(r"\(\d\d\) ?[2-5]\d+[ -]\d+"),
}
"""Numbers without a plus or a leading zero, by the sizes of their groups of digits."""


def mask(text: str) -> str:
    """Return the text with every find replaced by its kind; the very same text if there is none.

    Masking twice changes nothing more.

    >>> mask("Write to anna@example.org or +49 30 1234567, card 4111 1111 1111 1111")
    'Write to [email] or [phone], card [card]'
    >>> mask("Order 20261125, 1.299,00 EUR, ISBN 978-3-16-148410-0")
    'Order 20261125, 1.299,00 EUR, ISBN 978-3-16-148410-0'
    """
    # Again, for what is left beside a find may be one by itself; each turn takes digits or an @.
    for _ in range(_TURNS_MAX):
        found = spans(text) if _worth_a_look(text) else []
        if not found:
            break
        parts = []
        at = 0
        for kind, start, end in found:
            parts += [text[at:start], f"[{kind}]"]
            at = end
        text = "".join([*parts, text[at:]])
    return text


def _worth_a_look(text: str) -> bool:
    """Tell whether a text may hold anything: most are let go here, in a fifth of a microsecond."""
    if text.isascii():
        telling = text.encode().translate(None, _TELLING_NOTHING)
        if len(telling) < _DIGITS_MIN and not telling.strip(b"0123456789"):
            return False
    return _WORTH_A_LOOK.search(text) is not None


def spans(text: str) -> list[Span]:
    """Return what is found in a text, in order and without overlaps."""
    found = _emails(text) if _MAY_BE_EMAIL.search(text) else []
    emails = iter([*found, Span("email", len(text), len(text))])
    email = next(emails)
    for run in _RUN.finditer(text):
        while email.end <= run.start() and email.start < len(text):
            email = next(emails)
        if email.start >= run.end():
            found += _numbers(text, run)
    return sorted(found, key=lambda span: span.start)


def _emails(text: str) -> list[Span]:
    return [
        Span("email", match.start(), match.end())
        for match in _EMAIL.finditer(text)
        if not _PICTURE.search(match.group())
    ]


def _numbers(text: str, run: re.Match[str]) -> list[Span]:
    """Return the card and phone numbers of a run: the longest that begins at each digit group."""
    start, end = run.span()
    sign = text[start] in "+\uff0b"
    if not sign and start and (text[start - 1].isalnum() or text[start - 1] in "_#"):
        return []  # AB1234567, #1234567: somebody's own numbering
    if end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end = _up_to_last_gap(text, start, end)
    groups = [group.span() for group in _GROUP.finditer(text, start, end)]
    found: list[Span] = []
    first = 0
    while first < len(groups):
        date = _DATE.match(text, groups[first][0])
        if date is not None:
            first = sum(group[0] < date.end() for group in groups)
            continue
        last = _longest(text, groups[first : first + _GROUPS_MAX], start)
        if last is None:
            first += 1
            continue
        kind, count = last
        begin, to = _beginning(text, groups[first][0], start), groups[first + count - 1][1]
        if ")" not in text[begin:to]:  # the bracket is around it, not of it
            begin += text[begin] == "("
        found.append(Span(kind, begin, to))
        first += count
    return found


def _up_to_last_gap(text: str, start: int, end: int) -> int:
    """Leave out a last group that a letter follows: ``12 345 67kg``."""
    while end > start and text[end - 1].isdigit():
        end -= 1
    return end


def _longest(text: str, groups: list[tuple[int, int]], run_start: int) -> tuple[Kind, int] | None:
    """Return what the longest number is that begins with the first group, and of how many groups.

    Whoever writes nothing but digits and spaces must not keep the worker busy: groups of one
    digit, of which no kind of number has more than two, end the search.
    """
    sizes: list[int] = []
    ones = digits_count = 0
    for start, end in groups:
        ones += end - start == 1
        digits_count += end - start
        if ones > _ONES_MAX or digits_count > _DIGITS_MAX:
            break
        sizes.append(end - start)
    if sum(sizes) < _DIGITS_MIN:
        return None
    digits = "".join(text[start:end] for start, end in groups[: len(sizes)])
    if not digits.isascii():
        digits = "".join(str(int(digit)) for digit in digits)  # of any script
    begin = _beginning(text, groups[0][0], run_start)
    while len(digits) >= _DIGITS_MIN:
        if _is_card(digits):
            return "card", len(sizes)
        if _is_phone(text, begin, groups[len(sizes) - 1][1], digits, sizes, run_start):
            return "phone", len(sizes)
        digits = digits[: -sizes.pop()]
    return None


def _beginning(text: str, start: int, run_start: int) -> int:
    """Take in the bracket and the plus that stand before a number's first digit."""
    while start > run_start and text[start - 1] in "(+\uff0b ":
        start -= 1
    return start + (len(text[start:]) - len(text[start:].lstrip(" ")))


def _is_card(digits: str) -> bool:
    return 14 <= len(digits) <= 19 and _has_issuer(digits) and _luhn(digits)


def _has_issuer(digits: str) -> bool:
    """Tell whether a card company has numbers that begin so and are so long (ISO/IEC 7812)."""
    size, two, three, four = len(digits), int(digits[:2]), int(digits[:3]), int(digits[:4])
    if size == 14:
        return two in (36, 38, 39) or 300 <= three <= 305
    if size == 15:
        return two in (34, 37)
    if size == 16:
        master = 51 <= two <= 55 or 2221 <= four <= 2720
        return digits[0] == "4" or master or 3528 <= four <= 3589 or digits[0] == "6"
    return (digits[0] == "4" and size == 19) or two in (50, 62, 63, 67) or 56 <= two <= 58


def _luhn(digits: str) -> bool:
    """Check the last digit (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _is_phone(
    text: str, start: int, end: int, digits: str, sizes: list[int], run_start: int
) -> bool:
    if len(digits) > 15:  # ITU-T E.164
        return False
    raw = text[start:end]
    if raw[0] in "+\uff0b":
        found = len(digits) >= 8 and digits[0] != "0"
    else:
        found = _is_of_a_country(raw, digits, sizes) or _is_called_one(text, start, raw, run_start)
    return found and not (
        _AMOUNT_AFTER.match(text, end) or _AMOUNT_BEFORE.search(text[max(0, start - 12) : start])
    )


def _is_called_one(text: str, start: int, raw: str, run_start: int) -> bool:
    """Tell whether the words before a number say that it is one to call."""
    if start > run_start or re.fullmatch(r"\d+\.\d{2}", raw):
        return False
    return _CALLED_A_PHONE.search(text[max(0, start - _BEFORE_CHARS) : start]) is not None


def _is_of_a_country(raw: str, digits: str, sizes: list[int]) -> bool:
    """Tell whether a number without a plus is grouped as phone numbers are somewhere."""
    count = len(digits)
    alone = len(sizes) == 1
    if digits.startswith("00"):
        return digits[2] != "0" and (12 if alone else 11) <= count <= 15
    if digits[0] == "0":  # a trunk prefix: Europe, Japan, Australia and others
        if alone:
            return 10 <= count <= 11
        return 9 <= count <= 12 and 2 <= sizes[0] <= 6 and min(sizes) >= 2 and len(sizes) <= 6
    if alone:
        return False
    shape = _SHAPES.get(tuple(sizes))
    return shape is not None and shape.fullmatch(raw) is not None
