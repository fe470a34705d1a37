"""Parses responses, and compares free texts. An unclear response gives None, never a guess."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from .item import AnswerKind, Item

_ALONE = re.compile(r"\W*([A-Za-z])\W*")
_LETTER = r"([B-Z]\b|A\b(?!\s+[a-z]))(?!')"  # "A dog" names no option
_LEADING = re.compile(rf"[\W_]*{_LETTER}\s*[).:]")
_NAMED = re.compile(rf"\b(?i:answer|option|choice)\b(?:\s+is)?\s*:?\s*[(*\"']*{_LETTER}")
_SEVERAL = re.compile(r"\b[A-Z]\s*(?:,|/|&|\bor\b|\band\b)\s*[A-Z]\b")
_NO = re.compile(r"\W*no\s*(?:$|[.,;:!\n])", re.IGNORECASE)
_MEASURE = re.compile(r"(\d+(?:\.\d+)?|(?<!\d)\.\d+)\s*(second|hour|minute)?", re.IGNORECASE)
_MINUTES = {"second": 1 / 60, "minute": 1.0, "hour": 60.0}
_ARTICLES = {"a", "an", "the"}
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def parsed(item: Item, response: str) -> str | None:
    """The answer in a response to `item`; None if it is unclear."""
    if item.kind is AnswerKind.CHOICE:
        return option_letter(response, item.options)
    if item.kind is AnswerKind.YES_NO:
        return yes_no(response)
    if item.kind is AnswerKind.COUNT:
        return whole_number(response)
    if item.kind is AnswerKind.MINUTES:
        return minutes(response)
    return response.strip() or None


def option_letter(response: str, options: Sequence[str]) -> str | None:
    """The letter of the option that a response chooses."""
    letters = string.ascii_uppercase[: len(options)]
    text = response.strip()
    if found := _ALONE.fullmatch(text):
        return found[1].upper() if found[1].upper() in letters else None
    same = [letter for letter, option in zip(letters, options, strict=True) if words(option) == words(text) != []]
    if len(same) == 1:
        return same[0]
    if _SEVERAL.search(text):
        return None
    leading = _LEADING.match(text)
    chosen = {match[1] for match in _NAMED.finditer(text)} | ({leading[1]} if leading else set())
    return chosen.pop() if len(chosen) == 1 and chosen <= set(letters) else None


def yes_no(response: str) -> str | None:
    """The answer "yes" or "no": a response that begins with it and does not contain the other."""
    found = re.findall(r"[a-z]+", response.lower())
    if found in (["y"], ["n"]):
        return "yes" if found == ["y"] else "no"
    if not found or {"yes", "no"} <= set(found):
        return None
    if found[0] == "yes":
        return "yes"
    return "no" if _NO.match(response) else None  # not "no idea"


def whole_number(response: str) -> str | None:
    """The only whole number in a response, in digits or as a word up to twelve."""
    if re.search(r"\d[.,]\d", response):
        return None
    found = re.findall(r"\d+|[a-z]+", response.lower())
    numbers = [str(int(word)) if word.isdigit() else str(_NUMBERS.index(word)) for word in found if _is_number(word)]
    return numbers[0] if len(set(numbers)) == 1 else None


def minutes(response: str) -> str | None:
    """The only number in a response, in minutes or in another unit that it names."""
    found = {(float(number), unit.lower()) for number, unit in _MEASURE.findall(response.replace(",", ""))}
    if len(found) != 1:
        return None
    number, unit = found.pop()
    return str(number * _MINUTES.get(unit, 1.0))


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation and articles."""
    plain = "".join(character if character.isalnum() or character == "'" else " " for character in text.lower())
    return [word for word in plain.split() if word not in _ARTICLES]


def exact_match(response: str, truth: str) -> bool:
    """Whether both texts have the same words."""
    return words(response) == words(truth)


def contains_words(response: str, truth: str) -> bool:
    """Whether the words of `truth` follow one another in a response."""
    return bool(words(truth)) and f" {' '.join(words(truth))} " in f" {' '.join(words(response))} "


def token_f1(response: str, truth: str) -> float:
    """Harmonic mean of the precision and recall of a response's words, 0 to 1."""
    ours, true = words(response), words(truth)
    if not ours or not true:
        return float(ours == true)
    both = sum((Counter(ours) & Counter(true)).values())
    return 2 * both / (len(ours) + len(true))


def _is_number(word: str) -> bool:
    return word.isdigit() or word in _NUMBERS
