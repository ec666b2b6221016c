"""Stop strings: a text ends before the first of them to be complete, wherever its pieces are cut."""

from __future__ import annotations

from collections.abc import Sequence

from nblstm import checks
from nblstm.errors import ConfigError
from nblstm.text.lines import normalized, place_in


class Stops:
    """Pieces of a text in, the text before a stop string out: `feed` each piece, at the text's end `flush`.

    Of several stop strings the one that is complete first counts, of those the longest. A line end in one stands for
    any (see `nblstm.text.lines`). found: whether one has come. ConfigError if a stop string is empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        for stop in stops:
            checks.a(str, "a stop string", stop)
        if "" in stops:
            raise ConfigError("a stop string must have at least 1 character, got ''.")
        self.stops, self.held, self.found = tuple(map(normalized, stops)), "", False

    def feed(self, piece: str) -> str:
        """Return the text that is certain to precede a stop string; what may be the start of one is held back."""
        if self.found:
            return ""
        held = self.held + piece
        text = normalized(held)
        ends = [(start + len(stop), start) for stop in self.stops if (start := text.find(stop)) >= 0]
        self.found = bool(ends)
        certain = place_in(held, min(ends)[1] if ends else len(text) - self._started(text))
        self.held = "" if ends else held[certain:]
        return held[:certain]

    def _started(self, text: str) -> int:
        """Return the length of the longest start of a stop string that the text ends with."""
        longest = min(len(text), max(map(len, self.stops), default=1) - 1)
        starts = lambda k: tuple(stop[:k] for stop in self.stops if len(stop) > k)
        return next((k for k in range(longest, 0, -1) if text.endswith(starts(k))), 0)

    def flush(self) -> str:
        """Return the text that was held back; it ends here."""
        held, self.held = self.held, ""
        return held
