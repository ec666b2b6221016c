"""CrfHead: the tags of a text by a linear chain, so that each is chosen with its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.errors import ConfigError
from nblstm.kernels import Chain
from nblstm.nn.heads import Head
from nblstm.nn.parameters import Gradients
from nblstm.nn.tape import Tape


class CrfHead(Head):
    """-log p of the tags of a text, all together: y are the emissions of a linear chain (`nblstm.kernels.reference.crf`).

    A row's loss is -log p of its tag given those before it, so that losses are nats a tag and those of a text add up. A
    batch holds whole texts. allowed: a `Chain` of 0 and -inf, added to the scores where the best tags are searched; None
    allows all.
    """

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__(config, weights)
        self.chain = chain_of(weights)
        self.allowed: Chain | None = None

    def checked(self, targets: np.ndarray, rows: int) -> np.ndarray:
        """Return the tags (M,) int32. ConfigError for others."""
        return checks.ids("chunk.targets", targets, self.config.num_outputs, (rows,), np.int32)

    def losses(self, tape: Tape, targets: np.ndarray) -> np.ndarray:
        """Return -log p(tag | those before) (M,)."""
        emissions, (kernels, threads, _, _) = self.outputs(tape.scratch, tape.features), tape.backend
        losses, work = np.empty(len(emissions), emissions.dtype), self._chain_work(tape)
        kernels.crf_losses(losses, work, emissions, targets, self.chain, tape.offsets, threads)
        return losses

    def decode(self, tape: Tape) -> np.ndarray:
        """Return the most probable tags (M,) int32 of those that are allowed."""
        emissions, tags = self.outputs(tape.scratch, tape.features), np.empty(len(tape.features), np.int32)
        chain = self.chain if self.allowed is None else Chain(*(a + b for a, b in zip(self.chain, self.allowed)))
        tape.backend.kernels.crf_decode(tags, emissions, chain, tape.offsets, tape.backend.threads)
        return tags

    def loss_and_gradient(self, tape: Tape, grads: Gradients, chunk: Any) -> tuple[float, np.ndarray]:
        """Return the mean loss of a chunk's rows, and its gradient with respect to tape.features; see `Head`.

        ConfigError for chunk.weights: the tags of a text count together.
        """
        if chunk.weights is not None:
            raise ConfigError(
                "chunk.weights are not for a CRF, where the tags of a text count together; leave them out."
            )
        x, scratch, (kernels, threads, dtype, _) = tape.features, tape.scratch, tape.backend
        y, dy = (scratch.array(name, len(x), self.config.num_outputs) for name in ("emissions", "d emissions"))
        losses, dx = scratch.array("losses", len(x)), scratch.array("dx of head", *x.shape)
        work = self._work(scratch, kernels.linear_work, len(x))
        kernels.linear_forward(y, work, x, self.weight, self.bias, threads)
        scales = np.full(chunk.num_texts, 1 / len(x), dtype)
        kernels.crf_losses_and_gradient(
            losses, dy, chain_of(grads), self._chain_work(tape), y, chunk.targets, scales, self.chain, tape.offsets, threads
        )  # fmt: skip
        kernels.linear_backward(dx, grads["head.weight"], grads["head.bias"], dy, work, x, self.weight, threads)
        return float(losses.mean(dtype=np.float64)), dx

    def _chain_work(self, tape: Tape) -> Any:
        """Return the work of the chain's kernels."""
        K, (kernels, threads, dtype, _) = self.config.num_outputs, tape.backend
        return tape.scratch.work("crf", lambda M: kernels.crf_work(M, K, dtype, threads), len(tape.features))


def chain_of(named: Mapping[str, np.ndarray]) -> Chain:
    """Return the scores of a chain, or their gradients, by their names."""
    return Chain(*(named[f"crf.{name}"] for name in Chain._fields))


def chain_shapes(num_tags: int) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of a chain's scores."""
    return {"crf.transitions": (num_tags, num_tags), "crf.start": (num_tags,), "crf.end": (num_tags,)}
