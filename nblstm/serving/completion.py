"""Completion: the texts that follow one prompt, token by token, as a request asks for them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from nblstm.generation import sampler
from nblstm.generation.stops import Stops
from nblstm.nn.state import State
from nblstm.reporting.surprisal import RankedSurprisals, surprisals
from nblstm.serving.protocol import CompletionRequest, Piece, Token
from nblstm.tasks.language.model import LanguageModel
from nblstm.text.batches import Chunk
from nblstm.text.vocabulary import Vocabulary

LOGITS_AT_ONCE = 1 << 22  # numbers
LEAST = -9999.0  # of a log-probability: JSON knows no infinity

Turn = Callable[[], AbstractContextManager[None]]  # a block of work, some 20 ms of it; may wait, and may raise


class Completion:
    """The texts that follow one prompt of a request. The prompt is encoded now, and nothing is read yet.

    prompt_tokens, completion_tokens: how many there are so far, of all texts; an end token is one of them.
    """

    def __init__(self, model: LanguageModel, request: CompletionRequest, prompt: str) -> None:
        self.model, self.request, self.prompt, self.config = model, request, prompt, request.sampling
        self.network, self.ids = model.network(self.config.backend), model.encode(prompt)
        self.prompt_tokens = len(self.ids)
        self._choices = [_Choice(model.vocabulary, self) for _ in range(self.config.num_samples)]

    @property
    def completion_tokens(self) -> int:
        """The tokens that were drawn."""
        return sum(choice.drawn for choice in self._choices)

    @property
    def most_tokens(self) -> int:
        """The most tokens that the answer may hold."""
        echoed = self.prompt_tokens if self._judges_prompt else 0
        return (self.config.n + echoed) * self.config.num_samples

    @property
    def _judges_prompt(self) -> bool:
        return self.request.echo and self.request.logprobs is not None

    def pieces(self, turn: Turn) -> Iterator[Piece]:
        """Yield the pieces of all texts as they are made, the last of each with its finish. turn: of each step."""
        state, ranked = self._read(turn)
        if self.request.echo:
            tokens = self._prompt_tokens(ranked)
            yield from (Piece(n, self.prompt, tokens, None) for n in range(self.config.num_samples))
        draws, judge = self._draws(state), self._judge(state)
        while True:
            with turn():
                drawn = next(draws, None)
                if drawn is None:
                    break
                judged = judge(drawn)
            yield from self._taken(drawn, judged)
        for n, choice in enumerate(self._choices):
            if choice.finish is None:
                text, tokens = choice.end("length")
                yield Piece(n, text, tokens, choice.finish)

    def _draws(self, state: State) -> Iterator[np.ndarray]:
        vocabulary, random = self.model.vocabulary, np.random.default_rng(self.config.seed)
        over = lambda n: self._choices[n].finish is not None
        return sampler.generate(self.network, state, self.config, random, vocabulary.never_written, self.ids, over)

    def _taken(self, drawn: np.ndarray, judged: list[RankedSurprisals | None]) -> Iterator[Piece]:
        """Yield what drawn tokens (N, K) add to each text."""
        for n, choice in enumerate(self._choices):
            if choice.finish is None:
                text, tokens = choice.take(drawn[n].tolist(), judged[n])
                if text or tokens or choice.finish:
                    yield Piece(n, text, tokens, choice.finish)

    # ------------------------------------------------------------ the prompt

    def _read(self, turn: Turn) -> tuple[State, list[RankedSurprisals]]:
        """Read the prompt as `LanguageModel.state` does: the state after it, and its surprisals where they are asked for."""
        ids, state, ranked = self.ids, self.network.initial_state(), []
        if not len(ids) or self.model.vocabulary.end_id is not None:
            ids = np.concatenate([[self.model.vocabulary.start_id], ids])
        for start in range(0, len(ids), sampler.READ):
            with turn():
                piece, targets = ids[start : start + sampler.READ], ids[start + 1 : start + sampler.READ + 1]
                if self._judges_prompt:
                    logits, state = self.network.outputs(_chunk(piece[:, None]), state)
                    ranked.append(surprisals(logits[: len(targets)], targets))
                else:
                    state = self.network.read(_chunk(piece[:, None]), state)
        return state, ranked

    def _prompt_tokens(self, ranked: list[RankedSurprisals]) -> list[Token]:
        """Return the tokens of the prompt. The first one is given where nothing is read before it."""
        if not ranked:
            return []
        vocabulary, judged = self.model.vocabulary, _joined(ranked)
        given = len(self.ids) - len(judged.bits)
        facts = [(None, None)] * given + self.facts(judged, self.ids[given:].tolist())
        names = [token_name(vocabulary, id) for id in self.ids.tolist()]
        places = _places(vocabulary, self.prompt, self.ids)
        return [Token(name, place, *found) for name, place, found in zip(names, places, facts)]

    # ------------------------------------------------------------ log-probabilities

    def facts(self, ranked: RankedSurprisals, ids: list[int]) -> list[Any]:
        """Return (log-probability, the likely tokens and this one with theirs) of the first tokens, whose ids these are."""
        name, asked = functools.partial(token_name, self.model.vocabulary), self.request.logprobs or 0
        found = []
        for id, bits, best, chances in zip(ids, ranked.bits, ranked.best, ranked.probabilities):
            own = max(LEAST, -float(bits) * math.log(2))
            shown = zip(best[:asked].tolist(), chances[:asked].tolist())
            likely = {name(each): max(LEAST, math.log(p)) if p > 0 else LEAST for each, p in shown}
            found.append((own, {**likely, name(id): own}))
        return found

    def _judge(self, state: State) -> Callable[[np.ndarray], list[RankedSurprisals | None]]:
        """Make the function that judges drawn tokens (N, K): the surprisals of each text's, None if not asked for.

        They are read a second time, before any filter and at temperature 1, whatever they were drawn with.
        """
        N, V = self.config.num_samples, self.network.config.vocab_size
        if self.request.logprobs is None:
            return lambda drawn: [None] * N
        state = state.take(np.zeros(N, np.intp))
        before = self.network.logits(state.features)
        rows = max(1, LOGITS_AT_ONCE // (N * V))

        def judge(drawn: np.ndarray) -> list[RankedSurprisals | None]:
            nonlocal state, before
            parts: list[list[RankedSurprisals]] = [[] for _ in range(N)]
            for start in range(0, drawn.shape[1], rows):
                piece = drawn[:, start : start + rows]
                after, state = self.network.outputs(_chunk(piece.T), state)
                after = after.reshape(piece.shape[1], N, V)
                logits = np.concatenate([before[None], after[:-1]])
                before = after[-1].copy()
                for n in range(N):
                    parts[n].append(surprisals(logits[:, n], piece[n]))
            return [_joined(part) for part in parts]

        return judge


class _Choice:
    """One text under way. drawn: its tokens so far. finish: None, then why it has ended."""

    def __init__(self, vocabulary: Vocabulary, of: Completion) -> None:
        self.vocabulary, self.of, self.decoder = vocabulary, of, vocabulary.decoder()
        self.stops, self.drawn = Stops(of.request.stop), 0
        self.finish: str | None = None
        self.decoded = self.sent = len(of.prompt) if of.request.echo else 0  # characters
        self.waiting: list[Token] = []  # tokens of which nothing is sent yet
        for id in of.ids.tolist():
            self.decoder.feed(id)

    def take(self, ids: list[int], ranked: RankedSurprisals | None) -> tuple[str, list[Token]]:
        """Take the next tokens, up to the end of the text: (the text that is certain now, its tokens)."""
        facts = [] if ranked is None else self.of.facts(ranked, ids)
        text = ""
        for k, id in enumerate(ids):
            self.drawn += 1
            if id == self.vocabulary.end_id:
                return self.end("stop", text)
            piece = self.decoder.feed(id)
            if facts:
                self.waiting.append(Token(token_name(self.vocabulary, id), self.decoded, *facts[k]))
            self.decoded += len(piece)
            text += self.stops.feed(piece)
            if self.stops.found:
                self.finish = "stop"
                break
        return text, self._begun(text)

    def end(self, finish: str, text: str = "") -> tuple[str, list[Token]]:
        """End the text here: (text and all that was held back, its tokens)."""
        text += self.stops.feed(self.decoder.flush()) + self.stops.flush()
        self.finish = "stop" if self.stops.found else finish
        begun = self._begun(text)
        if not self.stops.found:
            begun, self.waiting = begun + self.waiting, []
        return text, begun

    def _begun(self, text: str) -> list[Token]:
        """Take out the waiting tokens that begin within what is sent, now that this text is."""
        self.sent += len(text)
        count = sum(token.offset < self.sent for token in self.waiting)
        begun, self.waiting = self.waiting[:count], self.waiting[count:]
        return begun


def _chunk(tokens: np.ndarray) -> Chunk:
    """Make the chunk that reads tokens (T, N)."""
    return Chunk.rectangle(tokens, tokens, fresh=False)


def _joined(parts: list[RankedSurprisals]) -> RankedSurprisals:
    names = RankedSurprisals.__dataclass_fields__
    return RankedSurprisals(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def token_name(vocabulary: Vocabulary, id: int) -> str:
    """Name a token by its text; one that is no text by itself by its bytes, as OpenAI does."""
    data = vocabulary.token_bytes(id)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _places(vocabulary: Vocabulary, text: str, ids: np.ndarray) -> list[int]:
    """Find where each token of a text begins."""
    places, place = [], 0
    if vocabulary.unk_id is None:  # a token may be less than a character
        decoder = vocabulary.decoder()
        for id in ids.tolist():
            places.append(place)
            place += len(decoder.feed(id))
        return places
    for token in vocabulary.split(text):
        places.append(text.index(token, place))
        place = places[-1] + len(token)
    return places
