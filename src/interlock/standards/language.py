"""As much English as the rules need: whether a noun is plural and a verb past. Unusual words are silenced."""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Plurals that do not end in s, and words that are their own plural.
_PLURALS = _words(
    "people children men women mice feet teeth geese data media criteria series species news equipment information"
    " feedback metadata alumni indices staff aircraft"
)
_NOT_PLURAL = re.compile(r"(ss|us|is)\Z")  # address, status, analysis
_PAST = _words(
    "sent paid made built lost found sold begun broken chosen taken given gone done held kept left met put read set"
    " reset split spent won written drawn withdrawn hidden forgotten frozen bound brought bought fallen grown known"
    " shown thrown spoken stolen woken led fed laid said understood overdue hit cut shut caught taught rebuilt resent"
    " overwritten undone run rerun become seen spun swept stuck struck sunk swung told torn worn born"
)


def is_plural(noun: str) -> bool:
    """Tell whether the last word of `noun` (words joined by `-` or `_`) is a plural."""
    word = re.split(r"[-_]", noun)[-1]
    return word in _PLURALS or (word.endswith("s") and not _NOT_PLURAL.search(word))


def plural(noun: str) -> str:
    """Return a regular plural of `noun`."""
    if re.search(r"(s|x|z|ch|sh)\Z", noun):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if re.search(r"[^aeiou]y\Z", noun) else f"{noun}s"


def is_past(verb: str) -> bool:
    """Tell whether one of the words of `verb` (joined by `_`) is a past participle: `created`, `checked_out`."""
    return any(word in _PAST or (word.endswith("ed") and len(word) > 3) for word in verb.split("_"))
