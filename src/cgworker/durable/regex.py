"""Run the regular expressions of JSON Schemas in RE2, in time linear in the length of the text.

JSON Schema uses the expressions of JavaScript (ECMA-262). RE2 spells some of them differently. It has no
lookarounds and no backreferences, because they need unbounded time: a pattern with one is refused.
"""

from __future__ import annotations

import re
from typing import Any

import re2

_MAX_MEMORY = 1 << 21  # bytes for one expression; RE2 refuses to compile one that needs more

_TOKEN = re.compile(
    r"""
    \\u\{(?P<braced>[0-9a-fA-F]{1,6})\}
    | \\u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})
    | \\u(?P<hex>[0-9a-fA-F]{4})
    | \\c(?P<control>[A-Za-z])
    | (?P<category>\\[pP]\{(?:Script|sc|General_Category|gc)=(?P<name>\w+)\})
    | (?P<escape>\\.)
    | (?P<look>\(\?<?[=!])
    | (?P<empty>\[\^?\])
    | (?P<bracket>[\[\]])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = frozenset("dDwWbBtnrvfxpPAz")  # letters that mean the same to RE2
_SPACE = r"\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}"
_NO_SPACE = (
    r"\x{0}-\x{8}\x{e}-\x{1f}!-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}"
    r"\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{fefe}\x{ff00}-\x{10ffff}"
)


class PatternRefused(ValueError):
    """A pattern cannot be used; the text names the part at fault and what to do."""


def compile_pattern(pattern: str) -> Any:
    """Compile a pattern of a JSON Schema with RE2.

    Args:
        pattern: a regular expression in JavaScript's syntax.

    Raises:
        PatternRefused: the pattern is not valid, or uses what RE2 does not have.
    """
    options = re2.Options()
    options.log_errors = False  # RE2 would write them to stderr
    options.max_mem = _MAX_MEMORY
    try:
        return re2.compile(_translated(pattern), options)
    except (re2.error, UnicodeError) as broken:
        reason = broken.args[0] if broken.args else broken
        message = reason.decode(errors="replace") if isinstance(reason, bytes) else str(broken)
        raise _refused(pattern, message) from broken


def _translated(pattern: str) -> str:
    """Return the pattern in RE2's spelling."""
    pieces: list[str] = []
    inside, end = False, 0
    for found in _TOKEN.finditer(pattern):
        kind, text = found.lastgroup, found[0]
        pieces.append(pattern[end : found.start()])
        end = found.end()
        if kind == "bracket" or (kind == "empty" and inside):
            piece = text if kind == "empty" or inside == (text == "]") else f"\\{text}"
            inside = not text.endswith("]")
        elif kind == "empty":
            raise _refused(pattern, rf"{text} has two meanings: a class, or the beginning of one: use \]")
        elif kind == "look" and not inside:
            raise _unbounded(pattern, f"the lookaround {text}...)")
        elif kind == "escape":
            piece = _escape(pattern, text, inside=inside)
        else:
            piece = text if kind == "look" else _character(pattern, found)
        pieces.append(piece)
    return "".join((*pieces, pattern[end:]))


def _character(pattern: str, found: re.Match[str]) -> str:
    """Return a character escape, or a Unicode property, in RE2's spelling."""
    if found["name"]:
        return f"{found[0][:2]}{{{found['name']}}}"
    if found["control"]:
        return f"\\x{{{ord(found['control']) % 32:x}}}"
    if found["high"]:
        high, low = int(found["high"], 16), int(found["low"], 16)
        code = 0x10000 + (high - 0xD800) * 0x400 + (low - 0xDC00)
    else:
        code = int(found["braced"] or found["hex"], 16)
    if 0xD800 <= code <= 0xDFFF:
        raise _refused(pattern, f"{found[0]} is half a character")
    return f"\\x{{{code:x}}}"


def _escape(pattern: str, text: str, *, inside: bool) -> str:
    letter = text[1]
    if letter in "123456789k" and not inside:
        raise _unbounded(pattern, f"the backreference {text}")
    if letter == "s":
        return _SPACE if inside else f"[{_SPACE}]"
    if letter == "S":
        return _NO_SPACE if inside else f"[{_NO_SPACE}]"
    if letter == "b" and inside:
        return r"\x{8}"
    if letter == "0":
        return r"\x{0}"
    if not (letter.isascii() and letter.isalnum()):
        return re.escape(letter)
    if letter not in _ESCAPES:
        raise _refused(pattern, f"there is no escape {text}")
    return text


def _refused(pattern: str, why: str) -> PatternRefused:
    return PatternRefused(f"the pattern {pattern!r:.200} cannot be used: {why}")


def _unbounded(pattern: str, what: str) -> PatternRefused:
    return _refused(
        pattern, f"{what} needs unbounded time: write the pattern without it, or check it in the handler"
    )
