"""Co-writing: what a person has typed so far, and how the model would go on. Knows of no terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nblstm import checks
from nblstm.config import MAX_SIZE, BeamConfig, WriteConfig
from nblstm.generation.beam import BeamSearch, distinct, text_after
from nblstm.nn.network import Network
from nblstm.nn.state import State
from nblstm.text.lines import LINE_END
from nblstm.text.vocabulary import Vocabulary, checked

PLACES = 4  # of the beam, for each continuation: some hypotheses differ only in what is cut off
DIVERSITY = 0.5  # nats: see BeamConfig
PART_OF_A_WORD = re.compile(r"(?<=\S)\s\S*$")  # behind at least one whole word


class _Reading(NamedTuple):
    """A line as far as it has been read; never changed, so whoever has one may go on with it."""

    tokens: list[int]
    states: list[State]  # before the line, then after each of the tokens


class CoWriter:
    """A text under way. Give it keys (`type`, `backspace`, `enter`, `choose`, `accept`) and ask for `continuations()`.

    lines: the finished lines. line: the one being typed. selected: the place of the chosen continuation.
    The state after each token of the line is kept, so that a key costs the reading of about one token, and
    taking one back costs nothing.
    """

    def __init__(self, network: Network, vocabulary: Vocabulary, fresh: State, config: WriteConfig) -> None:
        """fresh: the state of one text before its first line."""
        self.network, self.vocabulary, self.config, self._fresh = network, vocabulary, config, fresh
        self.lines: list[str] = []
        self.line, self.selected = "", 0
        self._reading = _Reading([], [fresh])
        self._offered: list[str] | None = None  # continuations of the line, once they are known
        self._search = _search_config(config)
        self._inside = np.array(
            [
                id for id, token in enumerate(vocabulary.tokens)
                if id not in (vocabulary.unk_id, vocabulary.end_id) and not LINE_END.match(token)
            ],
            np.int64,
        )  # fmt: skip

    # ------------------------------------------------------------ what a person does

    @property
    def text(self) -> str:
        """Everything written so far."""
        return "\n".join([*self.lines, self.line])

    def type(self, text: str) -> None:
        """Add characters to the line; a line end ends it."""
        first, *rest = LINE_END.split(checked(text, str))
        self._change(self.line + first)
        for line in rest:
            self.enter()
            self._change(line)

    def backspace(self) -> None:
        """Take the line's last character back, if it has any."""
        self._change(self.line[:-1])

    def enter(self) -> None:
        """End the line; it stays as what comes before the next one.

        A model of documents that knows no newline starts the next line afresh: each is a document.
        """
        self.lines.append(self.line)
        state = self._read(self.line + "\n").states[-1]
        one_line_documents = self.vocabulary.end_id is not None and self.vocabulary.unknown("\n")
        self._reading = _Reading([], [self._fresh if one_line_documents else state])
        self._change("")

    def choose(self, by: int) -> None:
        """Select the continuation so many places further down, from the last on to the first, if any is offered."""
        checks.whole("by", by, -MAX_SIZE, MAX_SIZE)
        if self._offered:
            self.selected = (self.selected + by) % len(self._offered)

    def accept(self) -> None:
        """Type the selected continuation; nothing if none has been offered for this line yet."""
        if self._offered:
            self.type(self._offered[self.selected])

    def _change(self, line: str) -> None:
        if line != self.line:
            self.line, self._offered, self.selected = line, None, 0

    # ------------------------------------------------------------ what the model thinks

    def continuations(self, give_up: Callable[[], bool] = lambda: False) -> list[str]:
        """Search up to config.continuations distinct, likely ways to go on to the end of the word or line.

        Words by falling probability; of lines the best of each group first.
        give_up: asked before each step of the search; where it says yes, nothing is offered this time.
        """
        line, offered = self.line, self._offered
        if offered is None:
            offered = self._continue(line, give_up)
            if line is self.line:  # nobody has typed in the meantime
                self._offered = offered
        return offered or []

    def _continue(self, line: str, give_up: Callable[[], bool]) -> list[str] | None:
        """Search the continuations of a line; None if given up."""
        tokens, states = self._read(line)
        known, typed, first = self._start(line, tokens)
        if not len(first):
            return []
        ending = _UnitEnd(self.vocabulary, self.config, typed)
        search = BeamSearch(self.network, self.vocabulary, states[known], self._search, ending, first)
        while not search.done:
            if give_up():
                return None
            search.step()
        before = tokens[:known]
        found = distinct(search.hypotheses(), lambda hypothesis: self._text(before, typed, hypothesis.tokens))
        return [text for text, _ in found if text][: self.config.continuations]

    def _read(self, line: str) -> _Reading:
        """Read a line: what has not changed since the last one is kept, the rest is read now."""
        tokens, before, same = self.vocabulary.encode(line).astype(np.int64).tolist(), self._reading, 0
        while same < min(len(tokens), len(before.tokens)) and tokens[same] == before.tokens[same]:
            same += 1
        states, decode = before.states[: same + 1], self.network.decoder()
        for token in tokens[same:]:
            state = states[-1].copy()
            decode([token], state, want_logits=False)
            states.append(state)
        self._reading = _Reading(tokens, states)
        return self._reading

    def _start(self, line: str, tokens: list[int]) -> tuple[int, str, np.ndarray]:
        """Return (tokens of the line to start after, the text typed after them, ids (M,) that may come first).

        Of words and sub-words the last one may be unfinished: the search starts before it, with those that start so.
        """
        known, words = len(tokens), self.vocabulary.level in ("word", "subword")
        spaced = self.vocabulary.level == "word" and self.vocabulary.tokenizer == "whitespace"  # no spaces in tokens
        if words and known and not (spaced and line.endswith(" ")):
            part = self.vocabulary.split(line)[-1]
            longer = [id for id in self._inside.tolist() if self.vocabulary.tokens[id].startswith(part)]
            if longer:
                typed = part.encode("latin-1").decode("utf-8", "replace") if self.vocabulary.by_bytes else part
                return known - 1, (" " if spaced and known > 1 else "") + typed, np.array(longer)
        return known, " " if spaced and line.endswith(" ") and known else "", self._inside

    def _text(self, before: list[int], typed: str, tokens: np.ndarray) -> str:
        """Return the text that tokens (t,) found after `before` add to the typed one, without the line's end."""
        text = text_after(self.vocabulary, before, tokens)
        if not text.startswith(typed) or "\ufffd" in text:  # half a character
            return ""
        text = LINE_END.split(text[len(typed) :])[0]
        if len(tokens) == self.config.n and self.vocabulary.level != "word":
            text = PART_OF_A_WORD.sub("", text)
        return text.rstrip()


def _search_config(config: WriteConfig) -> BeamConfig:
    """Return the settings of the search: words by their probability; lines in groups, as the likeliest differ little."""
    beam = PLACES * config.continuations
    if config.until == "word":
        return BeamConfig(n=config.n, beam=beam, num_samples=beam // 2, length_penalty=0.0)
    return BeamConfig(
        n=config.n, beam=beam, num_samples=PLACES, length_penalty=1.0, groups=config.continuations, diversity=DIVERSITY
    )


class _UnitEnd:
    """An Ending: the continuation has come to the end of its first word, or of its line."""

    def __init__(self, vocabulary: Vocabulary, config: WriteConfig, typed: str) -> None:
        self.vocabulary, self.typed, self.window = vocabulary, typed.strip(), config.n
        if config.until == "line":
            self.end = LINE_END
        else:  # a word token is a whole word, a character or byte may be followed by more of it
            self.end = re.compile(r"\S|[\r\n]" if vocabulary.level == "word" else r"\S\s|[\r\n]")

    def reached(self, tokens: np.ndarray) -> bool:
        text = self.vocabulary.decode(tokens).lstrip(" ")
        added = text[len(self.typed) :] if self.typed else text
        return self.end.search(added) is not None
