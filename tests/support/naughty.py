"""Texts that programs stumble over: byte sequences that are nearly UTF-8, after Markus Kuhn's decoder test, and strings."""

import re

# Unicode, table 3-7: the well-formed byte sequences.
WELL_FORMED = re.compile(
    rb"(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*"
)


def first_bad_byte(data):
    """The offset of the first byte that is in no well-formed sequence; None where all are."""
    end = WELL_FORMED.match(data).end()
    return None if end == len(data) else end


def encoded(code, length):
    """A number up to 2^31 in the pattern of UTF-8 with so many bytes, more than it needs or more than there are."""
    if length == 1:
        return bytes([code])
    lead = (0xFF << (8 - length)) & 0xFF
    rest = [0x80 | (code >> (6 * k)) & 0x3F for k in reversed(range(length - 1))]
    return bytes([lead | code >> (6 * (length - 1)), *rest])


def sequences():
    """Name -> bytes: what is right, boundaries, stray and lonely bytes, overlong forms, surrogates, non-characters."""
    last = {1: 0x7F, 2: 0x7FF, 3: 0xFFFF, 4: 0x1FFFFF, 5: 0x3FFFFFF, 6: 0x7FFFFFFF}
    found = {"greek": "κόσμε".encode(), "euro": "€".encode(), "every ASCII but NUL": bytes(range(1, 128))}
    for length, code in last.items():
        found[f"last of {length}"] = encoded(code, length)
        if length > 1:
            found[f"first of {length}"] = encoded(last[length - 1] + 1, length)
    found |= {f"U+{code:04X}": encoded(code, 3 if code < 0x10000 else 4) for code in (
        0xD7FF, 0xE000, 0xFFFD, 0x10FFFF, 0x110000, 0xFFFE, 0xFFFF, 0xFDD0, 0xFDEF, 0x1FFFE, 0x1FFFF, 0x10FFFE)}  # fmt: skip
    found |= {f"{n} continuations": bytes(0x80 + k for k in range(n)) for n in (1, 2, 3, 4, 5, 6, 7, 64)}
    found |= {f"lonely {lead:02x}": bytes([lead]) + b" " for lead in range(0x80, 0x100)}
    for length in range(2, 7):
        found[f"{length} without the last"] = encoded(last[length - 1] + 1, length)[:-1]
        found[f"{length} without the last, more"] = encoded(last[length], length)[:-1] + b"a"
    found["unfinished in a row"] = b"".join(encoded(last[n - 1] + 1, n)[:-1] for n in range(2, 7))
    found |= {"fe": b"\xfe", "ff": b"\xff", "fe fe ff ff": b"\xfe\xfe\xff\xff"}
    for code in (0x00, 0x2F, 0x7F):
        found |= {f"overlong {code:02x} in {n}": encoded(code, n) for n in range(2, 7)}
    found |= {f"overlong boundary {n}": encoded(last[n - 1], n) for n in range(2, 7)}
    surrogates = (0xD800, 0xDB7F, 0xDB80, 0xDBFF, 0xDC00, 0xDF80, 0xDFFF)
    found |= {f"surrogate {code:04x}": encoded(code, 3) for code in surrogates}
    found |= {f"pair {a:04x} {b:04x}": encoded(a, 3) + encoded(b, 3) for a in surrogates[:4] for b in surrogates[4:]}
    return found


STRINGS = [
    "", " ", "\t", "\n", "\r", "\r\n", "\n\r", "\x0b\x0c", "\x1c\x1d\x1e\x1f", "\x85\u2028\u2029", "\u00a0\u3000\u200b\ufeff",
    "undefined", "null", "None", "NaN", "inf", "-0", "1e999", "0x0", "1,000", "true", "<unk>", "<end>", "<eos>", "-", "--", "-n",
    "--help", "@file", ":demo:", "~", "$HOME", "`id`", "$(id)", ";ls", "&&", "|", ">", "*", "?", "[a]", "{0}", "%s%n%d", "%(x)s",
    "'", '"', "\\", "\\n", "\\u0041", "'; DROP TABLE tokens; --", "<script>alert(1)</script>", "</style>", "<!--", "]]>", "&amp;",
    "../../etc/passwd", "/dev/null", "C:\\con", "a/b", ".", "..", ".hidden", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b31m",
    "\x07\x08\x7f", "a\bb", "\u202ertl\u202c", "\u2066\u2069", "e\u0301", "é", "Å\u212b", "ﬁ ligature", "İıſ", "ß", "ǅ", "Z\u0351\u036b\u0343",
    "\u0301alone", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫", "👍🏿", "田中さんにあげて下さい", "社會科學院", "울란바토르", "مرحبا بالعالم", "שָׁלוֹם", "नमस्ते", "ไทยไม่มีช่องว่าง",
    "𝕋𝕙𝕖 𝓺𝓾𝓲𝓬𝓴", "𠜎𠜱", "\U0010ffff", "\ufffd", "\ufffe\uffff", "\ue000", "½ ² ①", "１２３", "٣", "don't can’t l'été", "snake_case",
    "x" * 300, "\u0300" * 100, "a\u0000b",
]  # fmt: skip
