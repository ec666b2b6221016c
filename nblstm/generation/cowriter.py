"""Co-writing: what a person has typed so far, and how the model would go on. Knows of no terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from nblstm import checks
from nblstm.config import MAX_SIZE, BeamConfig, WriteConfig
from nblstm.generation.beam import BeamSearch, distinct, text_after
from nblstm.generation.sampler import read_ids
from nblstm.nn.network import Network
from nblstm.nn.state import State
from nblstm.text.batches import Chunk
from nblstm.text.lines import LINE_END
from nblstm.text.strings import checked
from nblstm.text.vocabulary import Vocabulary

PLACES = 4  # of the beam, for each continuation: some hypotheses differ only in what is cut off
DIVERSITY = 0.5  # nats: see BeamConfig
PART_OF_A_WORD = re.compile(r"(?<=\S)\s\S*$")  # behind at least one whole word


class Learner(Protocol):
    """A network that learns from what it is asked about: `nblstm.adapting`."""

    def losses(self, chunk: Any, state: State) -> tuple[np.ndarray, State]:
        """Return the losses of a chunk of one text, and the state after it; learn from it."""

    def forget(self) -> None:
        """Go back to the weights as they were trained."""


class _Reading(NamedTuple):
    """A line as far as it has been read; never changed, so whoever has one may go on with it."""

    tokens: list[int]
    states: list[State]  # before the line, then after each of the tokens


class _Place(NamedTuple):
    """Where a text stood before a change, to go back to. typed: whether the change is within a word that is typed."""

    lines: list[str]
    line: str
    cursor: int
    reading: _Reading
    typed: bool


class CoWriter:
    """A text under way. Give it keys (`type`, `backspace`, `enter`, `move`, `undo`, `choose`, `accept`, `dismiss`) and ask
    for `continuations()`.

    lines: the finished lines. line: the one being typed. cursor: the place in it, where is typed. selected: the place of
    the chosen continuation. The state after each token of the line is kept, so that a key costs the reading of about one
    token, and taking one back costs nothing.

    With a learner the model learns from each line as it ends: its weights are a function of the finished lines, so that
    they go back where a line end is undone. They are those that dynamic evaluation has after the same lines.
    """

    def __init__(
        self,
        network: Network,
        vocabulary: Vocabulary,
        fresh: State,
        config: WriteConfig,
        learner: Learner | None = None,
    ) -> None:
        """fresh: the state of one text before its first line. learner: the network itself, if it is to learn."""
        self.network, self.vocabulary, self.config, self._fresh = network, vocabulary, config, fresh
        self._learner = learner
        self._learned = self._nothing_learned()  # the last token of what has been learned from, the state before it
        self.lines: list[str] = []
        self.line, self.cursor, self.selected = "", 0, 0
        self._reading = _Reading([], [fresh])
        self._offered: list[str] | None = None  # continuations of the line, once they are known
        self._undone: list[_Place] = []
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

    def open(self, text: str, on_progress: Callable[[int], None] = lambda characters: None) -> None:
        """Open a text: what was written before is gone, and the cursor stands at the end of the last line.

        on_progress: called after each line that was learned from, with its characters.
        """
        *lines, line = LINE_END.split(checked(text, str))
        if self._learner is not None:
            state = self._learn_anew(lines, on_progress)
        else:
            ids = self.vocabulary.encode("".join(f"{each}\n" for each in lines)).astype(np.int64)
            state = self._fresh if self._lines_are_documents else read_ids(self.network, ids, self._fresh)
        self.lines, self._reading, self._undone = lines, _Reading([], [state]), []
        self._change(line, len(line))

    def type(self, text: str) -> None:
        """Put characters where the cursor stands; a line end ends the line before it."""
        first, *rest = LINE_END.split(checked(text, str))
        if not text:
            return
        self._keep(typed=not rest and len(first) == 1 and not first.isspace())
        self._insert(first)
        for line in rest:
            self._end_line()
            self._insert(line)

    def backspace(self) -> None:
        """Take back the character before the cursor, if there is one in the line."""
        if self.cursor:
            self._keep()
            self._change(self.line[: self.cursor - 1] + self.line[self.cursor :], self.cursor - 1)

    def enter(self) -> None:
        """End the line where the cursor stands; it stays as what comes before the next one.

        A model of documents that knows no newline starts the next line afresh: each is a document.
        """
        self._keep()
        self._end_line()

    def move(self, by: int) -> None:
        """Move the cursor so many characters to the right, but not out of the line."""
        checks.whole("by", by, -MAX_SIZE, MAX_SIZE)
        if self._undone:
            self._undone[-1] = self._undone[-1]._replace(typed=False)
        self._change(self.line, min(max(self.cursor + by, 0), len(self.line)))

    def undo(self) -> None:
        """Go back to before the last change: a word as it was typed, a line end, a continuation, a character taken back."""
        if self._undone:
            place = self._undone.pop()
            if self._learner is not None and place.lines != self.lines:
                self._learn_anew(place.lines)
            self.lines, self._reading = place.lines, place.reading
            self._change(place.line, place.cursor)

    def choose(self, by: int) -> None:
        """Select the continuation so many places further down, from the last on to the first, if any is offered."""
        checks.whole("by", by, -MAX_SIZE, MAX_SIZE)
        if self._offered:
            self.selected = (self.selected + by) % len(self._offered)

    def accept(self) -> None:
        """Type the selected continuation; nothing if none has been offered for this line yet."""
        if self._offered:
            self.type(self._offered[self.selected])

    def dismiss(self) -> None:
        """Show no continuation until the line is another one."""
        self._offered, self.selected = [], 0

    def _keep(self, typed: bool = False) -> None:
        """Remember where the text stands before a change; letters of a word that are typed one by one are one change."""
        if not (typed and self._undone and self._undone[-1].typed):
            self._undone.append(_Place(list(self.lines), self.line, self.cursor, self._reading, typed))

    def _insert(self, text: str) -> None:
        self._change(self.line[: self.cursor] + text + self.line[self.cursor :], self.cursor + len(text))

    def _end_line(self) -> None:
        line, rest = self.line[: self.cursor], self.line[self.cursor :]
        if self._learner is not None:
            state = self._learn(self._learner, line)
        else:
            state = self._read(line + "\n").states[-1]
            state = self._fresh if self._lines_are_documents else state
        self.lines.append(line)
        self._reading = _Reading([], [state])
        self._change(rest, 0)
        self._offered, self.selected = None, 0  # also where the new line looks like the last one

    @property
    def _lines_are_documents(self) -> bool:
        """Whether the model knows nothing of a line before another."""
        return self.vocabulary.end_id is not None and bool(self.vocabulary.unknown("\n"))

    def _change(self, line: str, cursor: int) -> None:
        if (line, cursor) != (self.line, self.cursor):
            self.line, self.cursor, self._offered, self.selected = line, cursor, None, 0

    # ------------------------------------------------------------ what the model learns

    def _nothing_learned(self) -> tuple[np.ndarray, State]:
        return np.full(1, self.vocabulary.start_id, np.int64), self.network.initial_state()

    def _learn_anew(self, lines: list[str], on_progress: Callable[[int], None] = lambda characters: None) -> State:
        """Learn from these lines alone; return the state after them."""
        assert self._learner is not None
        self._learner.forget()
        self._learned, state = self._nothing_learned(), self._fresh
        for line in lines:
            state = self._learn(self._learner, line)
            on_progress(len(line) + 1)
        return state

    def _learn(self, learner: Learner, line: str) -> State:
        """Learn from a line that has ended; return the state after it, by the weights as they are then."""
        alone, (last, state) = self._lines_are_documents, self._learned
        parts = [self.vocabulary.encode(line if alone else line + "\n").astype(np.int64)]
        parts += [np.full(1, self.vocabulary.end_id, np.int64)] if alone else []
        for ids in parts:
            if len(ids):  # a model of words may see nothing of a line
                chunk = Chunk.rectangle(np.concatenate([last, ids[:-1]])[:, None], ids[:, None], fresh=False)
                last, state = ids[-1:], learner.losses(chunk, state)[1]
        self._learned = self._nothing_learned() if alone else (last, state)
        return read_ids(self.network, *self._learned)

    # ------------------------------------------------------------ what the model thinks

    def continuations(self, give_up: Callable[[], bool] = lambda: False) -> list[str]:
        """Search up to config.continuations distinct, likely ways to go on to the end of the word or line.

        They follow the text before the cursor. Words by falling probability; of lines the best of each group first.
        give_up: asked before each step of the search; where it says yes, nothing is offered this time.
        """
        line, offered = (self.line, self.cursor), self._offered
        if offered is None:
            offered = self._continue(self.line[: self.cursor], give_up)
            if line == (self.line, self.cursor):  # nobody has typed in the meantime
                self._offered = offered
        return offered or []

    def _continue(self, line: str, give_up: Callable[[], bool]) -> list[str] | None:
        """Search the continuations of a line; None if given up."""
        tokens, states = self._read(line)
        known, typed, first = self._start(line, tokens)
        if not len(first):
            return []
        ending = _UnitEnd(self.vocabulary, self.config, typed)
        temperature = self.config.temperature or 1.0
        search = BeamSearch(self.network, self.vocabulary, states[known], self._search, ending, first, temperature)
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
    """Return the settings of the search: words by their probability; lines in groups, as the likeliest differ little.

    Above temperature 0 what is offered is drawn without replacement instead.
    """
    beam = PLACES * config.continuations
    if config.temperature > 0:
        return BeamConfig(n=config.n, beam=beam, num_samples=beam // 2, stochastic=True, seed=config.seed)
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
