"""Make text from outside safe to show in a terminal or a log.

Control characters drive a terminal, direction marks reorder text, and line separators forge lines: they are
spelled out. Characters that a person may have typed, such as an emoji or a space of another width, are kept.
"""

from __future__ import annotations

import logging
import unicodedata

# Controls, format characters, halves of surrogate pairs, line and paragraph separators.
_UNFIT = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"  # within words of some scripts, and within emoji


def printable(text: str, keep: str = "\t") -> str:
    r"""Return the text with unsafe characters spelled out, such as `\x1b` or `\u202e`.

    Args:
        text: the text.
        keep: control characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep or not _is_unfit(c) else _spelled(c) for c in text)


def printable_json(text: str) -> str:
    """Return JSON text with unsafe characters as JSON escapes; it has the same value."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or not _is_unfit(c) else _json_escape(c) for c in text)


class PrintableFormatter(logging.Formatter):
    """Formats log records as printable text; the lines of a traceback stay lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        return printable(super().format(record), keep="\t\n")


def log_to_stderr(level: int) -> None:
    """Log to stderr, unless the program has set up its logging already."""
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def _is_unfit(character: str) -> bool:
    return unicodedata.category(character) in _UNFIT and character not in _JOINERS


def _spelled(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
