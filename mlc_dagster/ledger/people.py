"""When two names are, or may be, one person, and which names cannot go on record at all.

What belongs here: comparing names as people and directories write them. What does not: who must agree to what
(``approval``). Where it is not certain that two people are meant, they count as one.
"""

import re
import unicodedata
from collections.abc import Sequence

_TITLES = frozenset({"mr", "mrs", "ms", "miss", "mx", "dr", "prof", "sir", "herr", "frau", "mme", "mag", "ing"})
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Shown as nothing although their category is that of letters, symbols or marks."""
_ACCENTS = 200
"""Combining classes from here on are marks above and below a letter."""
_LOOKS_LIKE = str.maketrans(
    "аеорсухіјѕһԁԛԝкмтвнοανρτικυχγεıɑɡł",
    "aeopcyxijshdqwkmtbhoavptikuxyeiagl",
)
_EAST_ASIAN = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC"})
_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}")


def is_invisible(character: str) -> bool:
    """True for what is shown as nothing: format characters, variation selectors, fillers."""
    return (
        character in _FILLERS
        or unicodedata.category(character) == "Cf"
        or "VARIATION SELECTOR" in unicodedata.name(character, "")
    )


def scripts(name: str) -> set[str]:
    """Scripts of the letters of a name; those that are written together in East Asia count as one."""
    letters = (character for character in unicodedata.normalize("NFKC", name) if character.isalpha())
    found = {unicodedata.name(letter, "UNKNOWN").partition(" ")[0] for letter in letters if not _is_mark(letter)}
    return {"EAST ASIAN" if script in _EAST_ASIAN else script for script in found}


def tokens(name: str) -> tuple[str, ...]:
    r"""The words of a name, without case, accents, title, domain, +tag and what stands in brackets; may be empty.

    ``Anna Lee``, ``anna.lee+2@corp.example``, ``CORP\anna_lee``, ``Dr Anna Lee (approver)`` and
    ``Anna <anna.lee@corp>`` give ``anna``, ``lee``.
    """
    text = "".join(c for c in unicodedata.normalize("NFKC", name) if not is_invisible(c))
    if "<" in text and "@" in text.partition("<")[2]:
        text = text.partition("<")[2]
    text = text.rpartition("\\")[2].partition("@")[0].partition("+")[0]
    # What stands in brackets is no name, unless nothing else does.
    text = text if not _words(bare := _BRACKETS.sub(" ", text)) else bare
    words = _words(text)
    named = [word for word in words if word not in _TITLES and not word.isdigit()]
    return tuple(named or words)


def spellings(name: str) -> frozenset[str]:
    """The words of a name joined, as they stand and in order: ``Lee, Anna`` and ``annalee`` have one in common."""
    words = tokens(name)
    return frozenset({"".join(words), "".join(sorted(words))} - {""})


def same_person(one: str, other: str) -> bool:
    """True when both names are, or may be, spellings of one: an initial or a single name that fits is the same."""
    if spellings(one) & spellings(other):
        return True
    fewer, more = sorted((tokens(one), tokens(other)), key=len)
    return bool(fewer) and (_fits(fewer, more) or _is_login_of(fewer, more))


def _words(text: str) -> list[str]:
    decomposed = unicodedata.normalize("NFKD", text.casefold()).translate(_LOOKS_LIKE)
    plain = (character for character in decomposed if not _is_mark(character))
    # Vowel signs are no letters to Unicode and yet part of the word.
    return "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in plain).split()


def _is_mark(character: str) -> bool:
    """Accents and modifiers, which people leave out; not the vowel signs of other scripts, which they do not."""
    return unicodedata.combining(character) >= _ACCENTS or unicodedata.category(character) in ("Lm", "Sk")


def _fits(fewer: Sequence[str], more: Sequence[str]) -> bool:
    """Each of ``fewer`` has one of ``more`` to itself that is equal or that one is the initial of."""
    if not fewer:
        return True
    first, rest = fewer[0], fewer[1:]
    for place, word in enumerate(more):
        alike = first == word or (1 in (len(first), len(word)) and first[0] == word[0])
        if alike and _fits(rest, [*more[:place], *more[place + 1 :]]):
            return True
    return False


def _is_login_of(fewer: Sequence[str], more: Sequence[str]) -> bool:
    """``alee`` and ``leea`` are how directories shorten Anna Lee."""
    if len(fewer) != 1 or len(more) < 2:
        return False
    initial, last = more[0][0], more[-1]
    return fewer[0] in (initial + last, last + initial, more[0] + last[0])
