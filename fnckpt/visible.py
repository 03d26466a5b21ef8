"""Text from files as it may be shown: nothing in it moves a cursor or begins a line."""

import unicodedata

# Cc: control; Cf: directions of writing; Cs: half a character; Zl, Zp: separators of lines.
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def visible(text: str, *, lines: bool = False) -> str:
    r"""``text`` with what a terminal or a page would not show as a character written out.

    Every name from a file goes through this on its way to a terminal or a page: a name may hold
    the escapes that colour a terminal, rename its window, or write over the line before.

    Args:
      text: as it stands in the file.
      lines: keep line breaks, for a message of our own.

    >>> visible("w\x1b[31m\n\u202e")
    'w\\x1b[31m\\n\\u202e'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        each if (lines and each == "\n") or not _is_hidden(each) else _written_out(each)
        for each in text
    )


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
