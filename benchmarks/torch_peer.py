"""The peer: the same network, the same weights and the same training step in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from nblstm.nn.parameters import flatten, views
from nblstm.tasks.language.config import LanguageConfig
from nblstm.text.batches import Chunk


class TorchModel(nn.Module):
    """nn.Embedding, nn.LSTM, nn.Linear or an adaptive softmax, as PyTorch users write them; weights copied from nblstm's.

    PyTorch has no Mogrifier LSTM: it is `Mogrifier`, a loop.
    """

    def __init__(self, config: LanguageConfig, parameters: np.ndarray) -> None:
        super().__init__()
        self.config = config
        V, E, H, L = config.vocab_size, config.embedding_size, config.hidden_size, config.num_layers
        self.embedding, self.head = nn.Embedding(V, E), _head(config)
        self.rnn: nn.Module = nn.LSTM(E, H, L, dropout=config.dropout if L > 1 else 0.0)
        if config.cell == "mogrifier-lstm":
            self.rnn = Mogrifier(config)
        self.input_dropout, self.dropout = nn.Dropout(config.input_dropout), nn.Dropout(config.output_dropout)
        if config.tie:
            self.head.weight = self.embedding.weight
        self.load(parameters)

    def load(self, parameters: np.ndarray) -> None:
        """Take over the weights of a flat buffer (num_parameters,)."""
        named = views(parameters.copy(), self.config)
        self.load_state_dict({name: torch.from_numpy(array) for name, array in named.items()})

    def forward(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Logits (T, N, V) and the state after tokens (T, N)."""
        y, state = self.rnn(self.input_dropout(self.embedding(tokens)), state)
        return self.head(self.dropout(y)), state

    def loss(self, tokens: torch.Tensor, targets: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """The mean loss in nats per token, and the state."""
        if self.config.head == "adaptive":
            y, state = self.rnn(self.input_dropout(self.embedding(tokens)), state)
            return self.head(self.dropout(y).flatten(0, 1), targets.flatten()).loss, state
        logits, state = self(tokens, state)
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()), state

    def flat_gradient(self) -> np.ndarray:
        """The gradients in nblstm's order (num_parameters,)."""
        named = dict(self.named_parameters())
        return flatten({name: named[name].grad.numpy() for name in self.config.shapes}, self.config)


class Mogrifier(nn.Module):
    """Layers of a Mogrifier LSTM without dropout: what nn.LSTMCell calls, after the rounds, in a loop over time."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.rounds, self.num_layers, self.hidden_size = config.mogrifier_rounds, config.num_layers, config.hidden_size
        for layer, cell in enumerate(config.cells):
            for name, shape in cell.shapes.items():
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(torch.zeros(shape)))

    def forward(self, y: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Outputs (T, N, H) of inputs (T, N, D), and h and c (L, N, H) behind them."""
        zeros, ends = y.new_zeros(self.num_layers, y.shape[1], self.hidden_size), []
        for layer, both in enumerate(zip(*(state or (zeros, zeros)))):
            w = {
                name.removesuffix(f"_l{layer}"): value
                for name, value in self.named_parameters()
                if name.endswith(f"_l{layer}")
            }
            outputs = []
            for x in y.unbind():
                both = self.step(x, both, w)
                outputs.append(both[0])
            y = torch.stack(outputs)
            ends.append(both)
        return y, tuple(map(torch.stack, zip(*ends)))

    def step(self, x: torch.Tensor, both: Any, w: dict[str, torch.Tensor]) -> Any:
        """(h, c) after an input x (N, D)."""
        h, c = both
        for k in range(1, self.rounds + 1):
            if k % 2:
                x = 2 * torch.sigmoid(nn.functional.linear(h, w[f"weight_q{k}"])) * x
            else:
                h = 2 * torch.sigmoid(nn.functional.linear(x, w[f"weight_r{k}"])) * h
        return torch.lstm_cell(x, (h, c), w["weight_ih"], w["weight_hh"], w["bias_ih"], w["bias_hh"])


def _head(config: LanguageConfig) -> nn.Module:
    """nn.Linear, or nn.AdaptiveLogSoftmaxWithLoss of the same clusters."""
    if config.head != "adaptive":
        return nn.Linear(config.head_size, config.vocab_size)
    cutoffs = list(config.edges[1:-1])
    return nn.AdaptiveLogSoftmaxWithLoss(config.head_size, config.vocab_size, cutoffs, div_value=4.0, head_bias=True)


def rectangle(chunk: Chunk) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens and the targets of a chunk of texts of equal length, (T, N) int64."""
    return tuple(torch.from_numpy(ids.reshape(-1, chunk.num_texts)).long() for ids in (chunk.tokens, chunk.targets))


class TorchTraining:
    """Training steps of a TorchModel: forward, backward, clip, fused AdamW; the state is carried and detached.

    decay: AdamW's, without which it is Adam. rounded: the loss is computed under autocast to bfloat16.
    """

    def __init__(self, model: TorchModel, lr: float, clip: float, rounded: bool = False, decay: float = 0.0) -> None:
        self.model, self.clip, self.state, self.rounded = model, clip, None, rounded
        self.optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=decay, fused=True)

    def step(self, tokens: torch.Tensor, targets: torch.Tensor) -> float:
        """One update; the loss before it. tokens, targets (T, N) int64."""
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.rounded):
            loss, state = self.model.loss(tokens, targets, self.state)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        self.state = tuple(part.detach() for part in state)
        return loss.item()
