"""Spans in tags: what conlleval finds in them, and the ways of writing them.

| scheme  | the tags of a span of one token | of four tokens      | begins with B            |
|---------|---------------------------------|---------------------|--------------------------|
| `iob1`  | I                               | I I I I             | only behind a span of the same type |
| `iob2`  | B                               | B I I I             | always                   |
| `iobes` | S                               | B I I E             | of two tokens or more    |
| `none`  | tags are names, such as parts of speech, and mark no spans |

A tag of the first three is `O`, or one of these letters, a hyphen and the type of the span: `B-LOC`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from nblstm.kernels import Chain

SCHEMES = ("none", "iob1", "iob2", "iobes")
OUTSIDE = "O"
MARKED = re.compile(r"([BIES])-(.+)", re.DOTALL)


class TaggedSpan(NamedTuple):
    """Tokens start .. stop - 1 of a sentence."""

    type: str
    start: int
    stop: int


@lru_cache(1 << 12)
def mark_of(tag: str) -> tuple[str, str]:
    """Return (letter, type) of a tag: ("B", "LOC"), or ("O", "") of any tag that marks no span."""
    found = MARKED.fullmatch(tag)
    return (found[1], found[2]) if found else (OUTSIDE, "")


def _begins(before: tuple[str, str], now: tuple[str, str]) -> bool:
    """Tell whether a span begins at a tag, given the one before it."""
    if now[0] in "BS":
        return True
    return now[0] in "IE" and (before[0] in "ESO" or before[1] != now[1])


def _ends(before: tuple[str, str], now: tuple[str, str]) -> bool:
    """Tell whether a span has ended with the tag before."""
    return before[0] in "ES" or now[0] in "BSO" or before[1] != now[1]


def spans_of(tags: Sequence[str]) -> list[TaggedSpan]:
    """Return the spans that tags of any scheme mark, as conlleval finds them: whatever the tags are, there is a reading."""
    spans, start, before = [], None, (OUTSIDE, "")
    for place, now in enumerate([*map(mark_of, tags), (OUTSIDE, "")]):
        if start is not None and _ends(before, now):
            spans.append(TaggedSpan(before[1], start, place))
            start = None
        if _begins(before, now):
            start = place
        before = now
    return spans


def written(spans: Iterable[TaggedSpan], length: int, scheme: str) -> list[str]:
    """Return the tags (length,) that mark spans, which follow each other, in a scheme."""
    tags, last = [OUTSIDE] * length, None
    for span in spans:
        letters = ["I"] * (span.stop - span.start)
        if scheme == "iob2" or (last is not None and last.type == span.type and last.stop == span.start):
            letters[0] = "B"
        if scheme == "iobes":
            letters = [*"B", *letters[1:-1], *"E"] if len(letters) > 1 else ["S"]
        tags[span.start : span.stop] = [f"{letter}-{span.type}" for letter in letters]
        last = span
    return tags


def rewritten(tags: Sequence[str], scheme: str) -> list[str]:
    """Return the same spans in another scheme; with "none" the tags as they are."""
    return list(tags) if scheme == "none" else written(spans_of(tags), len(tags), scheme)


def scheme_of(sentences: Iterable[Sequence[str]]) -> str:
    """Find the scheme of the tags of sentences; "none" if one of them marks no span and is not O, or all are O.

    Where B begins some spans and I others, as no scheme has it, the more frequent way counts.
    """
    letters, inside, beginning = set(), 0, 0
    for tags in sentences:
        before = (OUTSIDE, "")
        for tag in tags:
            now = mark_of(tag)
            if now[0] == OUTSIDE and tag != OUTSIDE:
                return "none"
            letters.add(now[0])
            inside += now[0] == "I" and _begins(before, now)
            beginning += now[0] == "B" and now[1] != before[1]  # where iob1 has an I
            before = now
    if letters <= {OUTSIDE}:
        return "none"
    if letters & {"E", "S"}:
        return "iobes"
    return "iob1" if inside > beginning else "iob2"


def outputs_of(types: Iterable[str]) -> tuple[str, ...]:
    """Return the tags that spans of these types have in iobes."""
    return (OUTSIDE, *(f"{letter}-{kind}" for kind in types for letter in "BIES"))


def types_of(tags: Iterable[str]) -> list[str]:
    """Return the types of spans that tags name, sorted."""
    return sorted({mark_of(tag)[1] for tag in tags} - {""})


def allowed_chain(tags: Sequence[str], dtype: str) -> Chain:
    """Return a `Chain` of 0 where tags may follow each other in iobes, -inf elsewhere."""
    marks = list(map(mark_of, tags))

    def may_follow(one: tuple[str, str], other: tuple[str, str]) -> bool:
        goes_on = other[0] in "IE" and one[1] == other[1]
        return goes_on if one[0] in "BI" else other[0] in "OBS"

    masks = (
        [[may_follow(one, other) for other in marks] for one in marks],
        [may_follow((OUTSIDE, ""), other) for other in marks],
        [letter in "OES" for letter, _ in marks],
    )
    return Chain(*(np.where(mask, 0, -np.inf).astype(dtype) for mask in masks))
