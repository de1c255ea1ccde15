"""The last number of a text, as GSM8K takes it for the answer (Cobbe et al. 2021, arXiv:2110.14168)."""

import re
import unicodedata
from fractions import Fraction

_CURRENCIES = "$€£¥₹"
_MINUSES = "\u2212\u2013\ufe63\uff0d"
_NARROW_SPACES = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
"""Between thousands; an ordinary space separates numbers."""
_LATEX = re.compile(r"\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})*,\d{3}")
_LONGEST = 1000
"""Digits; what is longer is no number that anybody means, and takes time."""
_NUMBER = re.compile(
    rf"""
    (?P<sign> (?<![A-Za-z\d_)\]}}%]) -[{_CURRENCIES}]? | (?<=[{_CURRENCIES}])- )?
    (?<![A-Za-z\d_])  # no part of a word: m2, H2O
    (?:
        (?<!/) (?: (?P<whole>\d++) [ ] )? (?P<top>\d++) / (?P<bottom>\d++) (?!/)  # 3/4, 1 1/2, but no date
        | (?P<digits> \d[\d,]*+ (?:\.\d++)? | (?<!\d)\.\d++ ) (?P<power> [eE][+-]?\d{{1,3}}(?![A-Za-z\d]) )?
    )
    """,
    re.VERBOSE,
)


def last_number(text: str) -> Fraction | None:
    """The last number of a text, exactly; None where there is none.

    - Commas group digits as in English (1,234) or in India (1,00,000), else they separate numbers; the point is the
      decimal one. No-break and thin spaces group thousands too.
    - A sign counts where nothing stands before it: 7-5 ends with 5, and COVID-19 with 19.
    - Currencies, units, percent signs and a full stop after it do not matter: $5.00, 5 kg, 5%.
    - Fractions are numbers: 3/4, 1 1/2, ½, \\frac{3}{4}. So are digits of other scripts, and of full width.
    - Digits that are part of a word are none: m2, H2O.
    """
    number = None
    for number in _NUMBER.finditer(_plain(text)):  # noqa: B007  # the last one is wanted
        pass
    return _value(number) if number is not None else None


def _plain(text: str) -> str:
    """With ASCII digits, signs and fractions."""
    text = _NARROW_SPACES.sub("", text)
    text = _LATEX.sub(r"\1/\2", text)
    return text if text.isascii() else text.translate(_ASCII)


class _Ascii(dict[int, str]):
    """What stands for each character, found out once."""

    def __missing__(self, code: int) -> str:
        self[code] = plain = _ascii(chr(code))
        return plain


def _ascii(char: str) -> str:
    if char in _MINUSES:
        return "-"
    if (digit := unicodedata.decimal(char, None)) is not None:
        return str(digit)
    if unicodedata.decomposition(char).startswith("<fraction>"):  # ½ is 1, a slash, 2
        return " " + unicodedata.normalize("NFKC", char).replace("\u2044", "/")
    if char == "\u2044":
        return "/"
    if "\uff01" <= char <= "\uff5e":
        return unicodedata.normalize("NFKC", char)
    return char


_ASCII = _Ascii()


def _value(number: re.Match[str]) -> Fraction | None:
    if len(number.group()) > _LONGEST:
        return None
    if number["top"] is not None:
        if int(number["bottom"]) == 0:
            return None
        value = Fraction(int(number["top"]), int(number["bottom"])) + int(number["whole"] or 0)
    else:
        whole, point, decimals = number["digits"].rstrip(",").partition(".")
        last = whole.replace(",", "") if _GROUPED.fullmatch(whole) else whole.rsplit(",", 1)[-1]
        value = Fraction(f"{last or 0}{point}{decimals}{number['power'] or ''}")
    return -value if number["sign"] else value
