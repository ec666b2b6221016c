"""The peer of a translator: the same network, weights, training step and beam search in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from nblstm.nn.parameters import views
from nblstm.tasks.translation.config import TranslatorConfig

END, PAD = 1, -100  # PAD: of targets, which cross_entropy leaves out


class TorchTranslator(nn.Module):
    """An LSTM encoder of both directions, a bridge, an LSTM decoder, Luong's general attention, as a user would write them."""

    def __init__(self, config: TranslatorConfig, parameters: np.ndarray, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing  # of the labels, of a call
        c, H, E = config, config.hidden_size, config.embedding_size
        self.config = c
        self.encoder = nn.ModuleDict({
            "embedding": nn.Embedding(c.source_vocab_size, E),
            "rnn": nn.LSTM(E, H, c.num_layers, dropout=c.dropout, bidirectional=True, batch_first=True),
        })  # fmt: skip
        self.decoder = nn.ModuleDict({
            "embedding": nn.Embedding(c.vocab_size, E),
            "rnn": nn.LSTM(E, H, c.num_layers, dropout=c.dropout, batch_first=True),
        })  # fmt: skip
        names = [f"{kind}_l{k}" for kind in ("h", "c") for k in range(c.num_layers)]
        self.bridge = nn.ModuleDict({name: nn.Linear(2 * H, H) for name in names})
        self.attention = nn.ModuleDict({
            "key": nn.Linear(2 * H, H, bias=False), "combine": nn.Linear(3 * H, H, bias=False),
        })  # fmt: skip
        self.head = nn.Linear(H, c.vocab_size)
        self.input_dropout, self.between, self.output_dropout = map(
            nn.Dropout, (c.input_dropout, c.dropout, c.output_dropout)
        )
        named = views(parameters.copy(), c)
        self.load_state_dict({name: torch.from_numpy(array) for name, array in named.items()})

    def encode(self, sources: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Return memory (N, S, 2 H), its keys (N, S, H) and the decoder's first state."""
        x = self.input_dropout(self.encoder["embedding"](sources))
        packed, (h, c) = self.encoder["rnn"](pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        memory = self.between(pad_packed_sequence(packed, batch_first=True)[0])
        states = []
        for kind, last in (("h", h), ("c", c)):
            joined = last.view(self.config.num_layers, 2, len(sources), -1).transpose(1, 2).flatten(2)
            states.append(torch.stack([self.bridge[f"{kind}_l{k}"](layer) for k, layer in enumerate(joined)]))
        return memory, self.attention["key"](memory), (torch.tanh(states[0]), states[1])

    def decode(self, tokens: torch.Tensor, state: Any, memory: Any, keys: Any, mask: Any) -> tuple[torch.Tensor, Any]:
        """Return logits (N, T, V) and the state after tokens (N, T). mask (N, 1, S): where sources are."""
        h, state = self.decoder["rnn"](self.input_dropout(self.decoder["embedding"](tokens)), state)
        scores = torch.bmm(h, keys.transpose(1, 2)).masked_fill(~mask, -torch.inf)
        context = torch.bmm(torch.softmax(scores, dim=2), memory)
        return self.head(
            self.output_dropout(torch.tanh(self.attention["combine"](torch.cat([context, h], dim=2))))
        ), state

    def loss(self, sources: list[torch.Tensor], targets: list[torch.Tensor], smoothing: float) -> torch.Tensor:
        """Return the mean loss of a batch. targets: <end> on both sides."""
        lengths = torch.tensor([len(source) for source in sources])
        memory, keys, state = self.encode(pad_sequence(sources, batch_first=True), lengths)
        mask = (torch.arange(memory.shape[1])[None] < lengths[:, None])[:, None]
        read = pad_sequence([target[:-1] for target in targets], batch_first=True)
        wanted = pad_sequence([target[1:] for target in targets], batch_first=True, padding_value=PAD)
        logits, _ = self.decode(read, state, memory, keys, mask)
        return nn.functional.cross_entropy(
            logits.flatten(0, 1), wanted.flatten(), ignore_index=PAD, label_smoothing=smoothing
        )

    def forward(self, sources: list[torch.Tensor], targets: list[torch.Tensor]) -> torch.Tensor:
        """Return the mean loss of a batch; see `loss`."""
        return self.loss(sources, targets, self.smoothing)

    @torch.no_grad()
    def search(self, source: torch.Tensor, beam: int, longest: int, alpha: float) -> tuple[float, list[int]]:
        """Find the best translation of one source: its score and its tokens."""
        memory, keys, (h, c) = self.encode(source[None], torch.tensor([len(source)]))
        mask, live, ended = torch.ones(1, 1, len(source), dtype=torch.bool), [(0.0, [])], []
        for _ in range(longest):
            count = len(live)
            tokens = torch.tensor([[ids[-1] if ids else END] for _, ids in live])
            expanded = (x.expand(count, -1, -1) for x in (memory, keys))
            h, c = (x.expand(-1, count, -1).contiguous() if x.shape[1] != count else x for x in (h, c))
            logits, (h, c) = self.decode(tokens, (h, c), *expanded, mask)
            log_p = torch.log_softmax(logits[:, 0].double(), dim=1) + torch.tensor([[p] for p, _ in live]).double()
            found, places = log_p.flatten().topk(beam - len(ended))
            grown = [
                (float(p), live[place // log_p.shape[1]][1] + [place % log_p.shape[1]], place // log_p.shape[1])
                for p, place in zip(found, places.tolist())
            ]
            ended += [(p, ids) for p, ids, _ in grown if ids[-1] == END]
            parents = [parent for _, ids, parent in grown if ids[-1] != END]
            live = [(p, ids) for p, ids, _ in grown if ids[-1] != END]
            if not live:
                break
            h, c = h[:, parents], c[:, parents]
        scored = [(p / ((5 + len(ids)) / 6) ** alpha, ids) for p, ids in ended or live]
        return max(scored)


class TorchTranslatorTraining:
    """Training steps: forward, backward, clip, fused Adam."""

    def __init__(self, model: TorchTranslator, lr: float, clip: float) -> None:
        self.model, self.clip = model, clip
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)

    def step(self, sources: list[torch.Tensor], targets: list[torch.Tensor], smoothing: float) -> float:
        """One update; the loss before it."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model.loss(sources, targets, smoothing)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return loss.item()
