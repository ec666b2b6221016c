"""The specification: every kernel in plain NumPy, in any float type. Also the runtime where numba is absent.

Each backward function stands below its forward function; the comment on a backward line names the forward
line it differentiates. Weights, shapes and gate order are PyTorch's (torch.nn.LSTM).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nblstm.kernels.cells.functions import normalize, normalize_backward, sigmoid  # noqa: F401


# ---------------------------------------------------------------- arrays where the kernels work


def array(x):
    """x itself: these kernels work on NumPy arrays."""
    return x


def empty(shape, dtype):
    """An uninitialised array."""
    return np.empty(shape, dtype)


def zeros_like(x):
    """Zeros of the shape and type of x."""
    return np.zeros_like(x)


def assign(y, x):
    """y = x, of one shape and type."""
    np.copyto(y, x)


def host(x):
    """x as a NumPy array: itself."""
    return x


# ---------------------------------------------------------------- dropout


def dropout(y, x, rate, key, threads):
    """y = x / (1 - rate) where a random bit is set, 0 elsewhere. Inverted dropout; y may be x.

    x, y (any shape, up to 2**32 elements, after which the mask repeats). key: uint64; the mask is a function of
    (key, position) alone, so that the backward pass
    is `dropout(dx, dy, rate, key)`: nothing is stored. Mask: two rounds of a 32-bit integer hash
    (C. Wellons, "lowbias32") over position and key; kept where hash >= rate * 2**32.
    """
    kept = dropout_hash(np.arange(x.size, dtype=np.uint32), key) >= np.uint32(rate * 2.0**32)
    np.multiply(x, kept.reshape(x.shape) * x.dtype.type(1 / (1 - rate)), out=y)


def dropout_hash(position, key):
    """32 well-mixed bits for each uint32 position under a uint64 key."""
    low, high = np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32)
    bits = position + low
    bits = (bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> np.uint32(15))) + high
    bits = bits * np.uint32(0x846CA68B)
    return bits ^ (bits >> np.uint32(16))


def scale_texts(y, x, scales, offsets, threads):
    """y = x times a row of factors for each text, the same at all its steps. y may be x.

    x, y (M, D): packed texts; scales (N, D); offsets (T + 1,) as in `recurrent_forward`.
    """
    for start, stop in zip(offsets[:-1], offsets[1:]):
        np.multiply(x[start:stop], scales[: stop - start], out=y[start:stop])


# ---------------------------------------------------------------- embedding


def embedding_forward(y, tokens, weight, threads):
    """y[m] = weight[tokens[m]]. y (M, E), tokens (M,) int, weight (V, E)."""
    np.take(weight, tokens, axis=0, out=y)


def embedding_backward(dweight, dy, tokens, threads):
    """dweight[tokens[m]] += dy[m]. dweight (V, E) accumulated into, dy (M, E), tokens (M,) int."""
    np.add.at(dweight, tokens, dy)  # y[m] = weight[tokens[m]]


# ---------------------------------------------------------------- recurrent layer


def recurrent_work(cells, M, N, rows, dtype, threads):
    """What `recurrent_forward` keeps for `recurrent_backward`, one work for each cell: here, a dict to be filled.

    Up to M rows of up to N texts. rows: for each cell, the most distinct inputs that will come to it through an index,
    0 if its inputs are all in place.
    """
    return [{} for _ in cells]


def recurrent_forward(y, cs, hn, cn, work, x, index, h0, c0, weights, cell, offsets, threads):
    """One direction of one layer over T steps of packed texts.

    y (M, H): h of every step; cs (M, H): c of every step, or None where nobody asks. hn (N, H), cn (N, H or 0): each
    text's state after its last step, not in the place of h0, c0. x (rows, D): the distinct inputs;
    index (M,) int32 says which row of x stands at a place, or None where rows == M and x is in place. h0, c0: as hn,
    cn. weights: name -> array, see `Cell.shapes`; cell: Cell; H is its output_size. offsets (T + 1,) int64: step t
    holds rows offsets[t] : offsets[t + 1], never more than step t - 1; row n of a step is text n. `work` is written
    for the backward pass.

    With layer normalisation a = gain_ih norm(W x) + b_ih and b = gain_hh norm(U h) + b_hh (Ba, Kiros & Hinton 2016,
    eq. 20-22); with a projection h_t = W_hr (o tanh(c_t)).
    """
    a, work["a"], work["steps"] = None, None, []
    if cell.definition.mix is None:  # nothing of x waits for h
        a, work["a"] = preactivation(x, weights, "ih")
        a = a if index is None else a[index]
    h, c = h0, c0
    for start, stop in zip(offsets[:-1], offsets[1:]):
        rows = slice(start, stop)
        n = stop - start
        seen = (None, a[rows]) if a is not None else (x[rows] if index is None else x[index[rows]], None)
        h, c, tape = step(*seen, h[:n], c[:n], weights, cell)
        work["steps"].append(tape)
        y[rows] = hn[:n] = h
        cn[:n] = c
        if cs is not None:
            cs[rows] = c


class Step(NamedTuple):
    """What one step leaves for its way back."""

    h_prev: Any  # (n, output_size)
    c_prev: Any  # (n, H or 0)
    x: Any  # (n, D) as W sees it; None where W x was known
    h: Any  # (n, output_size) as U sees it
    mixed: Any  # what `CellKind.mix` has saved
    norm_ih: Any  # what the layer normalisation of W x and U h has saved
    norm_hh: Any
    saved: Any  # what `CellKind.forward` has saved
    out: Any  # (n, H) before the projection


def step(x, a, h, c, weights, cell):
    """(h, c, Step) after inputs x (n, D), or None where a = W x + b_ih (n, gates H) is known already."""
    kind, n, H = cell.definition, len(h), cell.hidden_size
    x_seen, h_seen, mixed = (x, h, None) if kind.mix is None else kind.mix(x, h, weights, cell)
    a, norm_ih = preactivation(x_seen, weights, "ih") if a is None else (a, None)
    b, norm_hh = preactivation(h_seen, weights, "hh")
    a, b = (None if half is None else half.reshape(n, -1, H) for half in (a, b))
    out, new_c, saved = kind.forward(a, b, h, c, weights, cell)
    new_h = out @ weights["weight_hr"].T if cell.proj_size else out
    return new_h, new_c, Step(h, c, x_seen, h_seen, mixed, norm_ih, norm_hh, saved, out)


def recurrent_backward(dx, dh, dc, grads, dy, dcs, y, work, x, index, h0, weights, cell, offsets, threads):
    """Back-propagation through time of `recurrent_forward`.

    dx (rows, D) overwritten. dh, dc: on entry the gradient of hn, cn; on return that of h0, c0. grads: name -> array,
    accumulated into. dy (M, H) and `work` are overwritten; both hold intermediate gradients afterwards. dcs (M, H):
    the gradient of cs, or None.
    """
    # d: the gradient of W x + b, or where that waits for h of x
    size = cell.input_size if cell.definition.mix else cell.sides.get("ih", 0)
    d = np.empty((len(dy), size), dy.dtype)
    for start, stop in zip(offsets[-2::-1], offsets[:0:-1]):
        n, rows = stop - start, slice(start, stop)
        dc_t = dc[:n] if dcs is None else dc[:n] + dcs[rows]
        d[rows], dh[:n], dc[:n] = step_backward(dy[rows] + dh[:n], dc_t, work["steps"].pop(), weights, grads, cell)
    if index is not None:
        placed, d = d, np.zeros((len(x), size), dy.dtype)
        np.add.at(d, index, placed)  # a[index]
    if cell.definition.mix is None:
        d = preactivation_backward(d, x, work["a"], weights, grads, "ih")
    dx[...] = d


def step_backward(dh, dc, tape, weights, grads, cell):
    """The gradient of a (n, gates H), or of x (n, D) where W x waits for h; of h and of c before. See `step`."""
    kind, n = cell.definition, len(dh)
    if cell.proj_size:
        grads["weight_hr"] += dh.T @ tape.out  # h = W_hr out
        dh = dh @ weights["weight_hr"]  # h = W_hr out
    da, db, dh_prev, dc = kind.backward(dh, dc, tape.saved, tape.h_prev, tape.c_prev, weights, grads, cell)
    da, db = (np.zeros((n, 0), dh.dtype) if half is None else half.reshape(n, -1) for half in (da, db))
    dh_seen = preactivation_backward(db, tape.h, tape.norm_hh, weights, grads, "hh")
    if kind.mix is not None:
        da = preactivation_backward(da, tape.x, tape.norm_ih, weights, grads, "ih")
        da, dh_seen = kind.mix_backward(da, dh_seen, tape.mixed, weights, grads, cell)
    return da, dh_seen + dh_prev, dc


def preactivation(x, weights, side):
    """(W x + b, None), with gains (gain norm(W x) + b, what its gradient needs); (None, None) without a W.

    side: "ih" or "hh".
    """
    if f"weight_{side}" not in weights:
        return None, None
    z, bias, gain = x @ weights[f"weight_{side}"].T, weights[f"bias_{side}"], weights.get(f"gain_{side}")
    if gain is None:
        return z + bias, None
    norm = normalize(z)
    return norm[0] * gain + bias, norm


def preactivation_backward(d, x, norm, weights, grads, side):
    """The gradient of x from d, that of `preactivation`. Adds those of weight, bias and gain."""
    if f"weight_{side}" not in weights:
        return 0
    grads[f"bias_{side}"] += d.sum(axis=0)
    if norm is not None:
        grads[f"gain_{side}"] += (d * norm[0]).sum(axis=0)
        d = normalize_backward(d * weights[f"gain_{side}"], norm)
    grads[f"weight_{side}"] += d.T @ x
    return d @ weights[f"weight_{side}"]


# ---------------------------------------------------------------- decoding: one step of the whole network


def decode_work(N, net, threads):
    """What `decode` needs of up to N texts side by side: here, the weights. net: `kernels.Net`.

    The weights must not change while the work is in use.
    """
    return net


def decode(logits, h, c, top, tokens, work, threads):
    """Read one token of each text: h, c (L, N, H) become the next state, logits (N, V) those of the next token.

    top (N, F): what the head sees. tokens (N,) int64. logits may be (0, V): then they are not computed. See
    `recurrent_forward` for the equations.
    """
    x = work.embedding[tokens]
    for k, (cell, weights) in enumerate(zip(work.cells, work.layers)):
        h[k], c[k], _ = step(x, None, h[k], c[k], weights, cell)
        x = h[k] + x if work.residual and x.shape == h[k].shape else h[k]
    top[...] = np.concatenate([x, c[-1]], axis=1) if work.with_memory else x
    if len(logits):
        linear_forward(logits, (), top, work.head_weight, work.head_bias, threads)


# ---------------------------------------------------------------- drawing the next token


def draw(tokens, logits, uniform, history, banned, filters, threads):
    """tokens[n] drawn from what the filters leave of softmax(logits[n] / temperature).

    tokens (N,) int64, logits (N, V), uniform (N,) float64 in [0, 1), history (N, S) int64: the tokens before.
    banned (B,) int64: ids that are never drawn, fewer than V. filters: see `kernels.Filters`, in this order:

    1. no token that would repeat no_repeat_ngram tokens of the history, unless that leaves none;
    2. repetition_penalty: the logit of each token in the last repetition_window of the history (0: all of it) is
       divided by it where positive, else multiplied (Keskar et al. 2019, section 4.1);
    3. temperature 0: the most likely token, the first of equals, and done; else softmax(logits / temperature);
    4. top_k: the k most likely (Fan et al. 2018);
    5. top_p: the most likely until together they have at least top_p (Holtzman et al. 2020, section 3.1);
    6. min_p: those at least min_p times as likely as the most likely (Nguyen et al. 2024, section 3);
    7. typical_p: those whose surprise is closest to the entropy until together they have at least typical_p
       (Meister et al. 2023, section 3.2);
    8. the first token whose cumulative probability exceeds the uniform number.

    Steps 4 to 7 each start from the probabilities of what the one before left, and equals stay or go together.
    At least one token always stays. All in float64, the sums too.
    """
    z = logits.astype(np.float64)
    z[:, banned] = -np.inf
    if filters.no_repeat_ngram > 0 or filters.repetition_penalty != 1:
        for row, before in zip(z, history):
            _forbid_repeats(row, before, filters.no_repeat_ngram)
            _penalise(row, before[-filters.repetition_window :], filters.repetition_penalty)  # [-0:] is all of it
    if filters.temperature == 0:
        tokens[...] = z.argmax(axis=1)
        return
    with np.errstate(over="ignore"):  # a tiny temperature: -inf, and its exp is 0
        z = (z - z.max(axis=1, keepdims=True)) / filters.temperature
    weights = np.exp(z)
    if 0 < filters.top_k < z.shape[1]:
        weights[~best(z, np.ones_like(z), filters.top_k)] = 0
    if filters.top_p < 1:
        weights[~best(weights, weights, filters.top_p * weights.sum(axis=1, keepdims=True))] = 0
    if filters.min_p > 0:
        weights[weights < filters.min_p * weights.max(axis=1, keepdims=True)] = 0
    if filters.typical_p < 1:
        weights[~best(_typicality(weights, z), weights, filters.typical_p * weights.sum(axis=1, keepdims=True))] = 0
    cumulative = weights.cumsum(axis=1)
    total = cumulative[:, -1:]
    goal = np.minimum(uniform[:, None] * total, np.nextafter(total, 0))
    tokens[...] = (cumulative <= goal).sum(axis=1)


def _forbid_repeats(z, history, size):
    """z[v] = -inf where v would repeat a sequence of `size` tokens of the history, unless none is left. z (V,)."""
    if not 0 < size <= len(history):
        return
    sequences = np.lib.stride_tricks.sliding_window_view(history, size)
    suffix = history[len(history) - size + 1 :]
    forbidden = sequences[(sequences[:, :-1] == suffix).all(axis=1), -1]
    allowed = z.copy()
    allowed[forbidden] = -np.inf
    if allowed.max() > -np.inf:
        z[...] = allowed


def _penalise(z, history, penalty):
    """z of every token in the history: divided by the penalty where positive, else multiplied. z (V,)."""
    seen = np.unique(history)
    z[seen] = np.where(z[seen] > 0, z[seen] / penalty, z[seen] * penalty)


def best(keys, weights, goal):
    """Which of the keys (N, V) are taken, highest first, until their weights (N, V) together reach the goal (N, 1).

    That is: those for which the weights of all higher keys are less than the goal. So equal keys are taken together,
    and at least one is, if the goal is above 0.
    """
    order = np.argsort(-keys, axis=1)
    ordered = np.take_along_axis(weights, order, axis=1)
    higher = ordered.cumsum(axis=1) - ordered  # rounded: -1e-17 or so instead of 0 does no harm
    last = (higher < goal).sum(axis=1, keepdims=True) - 1
    return keys >= np.take_along_axis(keys, np.take_along_axis(order, last, axis=1), axis=1)


def _typicality(weights, z):
    """Minus the distance of each surprise -log p from its mean, the entropy; -inf where p is 0. weights (N, V)."""
    log_p = np.where(weights > 0, z, 0) - np.log(weights.sum(axis=1, keepdims=True))
    p = weights / weights.sum(axis=1, keepdims=True)
    entropy = -(p * log_p).sum(axis=1, keepdims=True)
    return np.where(weights > 0, -np.abs(log_p + entropy), -np.inf)


# ---------------------------------------------------------------- generating: draw, read, draw, read


def generate(history, length, h, c, top, logits, uniform, banned, filters, work, threads):
    """`draw` a token of each text, `decode` it, and so on: K = len(uniform) tokens, to history[:, length : length + K].

    history (N, at least length + K) int64, of which the first `length` tokens are given. h, c (L, N, H), top (N, F)
    and logits (N, V), those of the next token, are overwritten with the ones after. uniform (K, N). banned,
    filters: see `draw`.
    """
    for k, numbers in enumerate(uniform, length):
        draw(history[:, k], logits, numbers, history[:, :k], banned, filters, threads)
        decode(logits, h, c, top, history[:, k], work, threads)


# ---------------------------------------------------------------- searching: choose, read, choose, read


def search(parents, tokens, start, places, h, c, top, logits, noise, banned, beam, work, threads):
    """The steps start ... start + K of a beam search, K = len(noise); returns how many: fewer where it is `over`.

    At each step the best children of all hypotheses take the B places: a row of parents and tokens (S, B) int64 tells
    at which place each hypothesis stood before, and its new token; V where it has ended and keeps its place. Every step
    but the first reads the tokens of the row before: those before `start` are given.
    places: `kernels.Places`, written to. h, c (L, B, H), top (B, F): at `start` 0 those of the B texts, later what the
    call before has left; logits (B, V), of the next token, likewise. noise (K, B, V) float64: Gumbel noise of a
    stochastic beam, else (K, B, 0). banned: ids that are never taken. beam: `kernels.Beam`.
    """
    return search_by(decode, parents, tokens, start, places, h, c, top, logits, noise, banned, beam, work, threads)


def search_by(decode, parents, tokens, start, places, h, c, top, logits, noise, banned, beam, work, threads):
    """`search` with any module's `decode`."""
    V = logits.shape[1]
    for k, numbers in enumerate(noise, start):
        if k > 0:
            h[...], c[...] = h[:, parents[k - 1]], c[:, parents[k - 1]]
            decode(logits, h, c, top, np.where(tokens[k - 1] < V, tokens[k - 1], 0), work, threads)
        children, keys = _children(places, logits, numbers, banned, beam)
        chosen = _choose(children, keys, beam)
        parents[k], tokens[k] = np.divmod(chosen, V + 1)
        _settle(places, parents[k], tokens[k], children.reshape(-1)[chosen], keys.reshape(-1)[chosen], beam, V)
        if over(places, k + 1, beam):
            return k + 1 - start
    return len(noise)


def _children(places, logits, noise, banned, beam):
    """(log p, key to be chosen by), (B, V + 1) float64 each, of every child; in the last column the hypothesis as it is.

    That has the key inf where the hypothesis has ended, so that it keeps its place, and -inf elsewhere; in a stochastic
    beam it competes like every other leaf.
    """
    V, ended = logits.shape[1], places.finished
    log_p = logits.astype(np.float64)
    log_p[:, banned] = -np.inf
    log_p -= log_p.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    children = np.empty((len(ended), V + 1))
    np.add(places.log_probability[:, None], log_p, out=children[:, :V])  # log p(y v) = log p(y) + log p(v | y)
    children[ended, :V] = -np.inf
    children[:, V] = np.where(ended, places.log_probability, -np.inf)
    keys = children.copy()
    keys[ended, V] = places.perturbed[ended] if beam.stochastic else np.inf
    if beam.stochastic:
        keys[:, :V] = perturb(places.perturbed, children[:, :V], noise)
    return children, keys


def _choose(children, keys, beam):
    """The flat places (B,) of the children that are taken, group by group: of each the largest keys, the largest first.

    A token costs `diversity` nats for each place of an earlier group that has taken it.
    """
    B, columns = children.shape
    size, cost, chosen = B // beam.groups, np.zeros(columns), np.empty(B, np.int64)
    for start in range(0, B, size):
        group = keys[start : start + size]
        places = start * columns + largest((group - cost if start else group).reshape(-1), size)
        chosen[start : start + size] = places
        np.add.at(cost, places[children.reshape(-1)[places] > -np.inf] % columns, beam.diversity)
        cost[-1] = 0  # to keep a place is free
    return chosen


def _settle(places, parents, tokens, log_probability, keys, beam, V):
    """The hypotheses move to the places that they have taken."""
    places.log_probability[...] = log_probability
    places.length[...] = places.length[parents] + (tokens < V)
    places.finished[...] = (places.finished[parents] | (tokens == beam.end)) & (log_probability > -np.inf)
    if beam.stochastic:
        places.perturbed[...] = keys


def over(places, steps, beam):
    """Whether nothing that may come after so many steps can change the `wanted` best texts of any group.

    No hypothesis that goes on can rank higher than its bound: log p only falls, and lp is largest at the longest.
    """
    live = (places.log_probability > -np.inf) & ~places.finished
    if steps == beam.longest or not live.any():
        return True
    if not places.finished.any():
        return False
    ranks = np.where(places.finished, rank(places, places.length, beam), -np.inf).reshape(beam.groups, -1)
    bounds = np.where(live, rank(places, beam.longest, beam), -np.inf).reshape(beam.groups, -1)
    as_high = (ranks >= bounds.max(axis=1, keepdims=True)).sum(axis=1)
    return bool((as_high >= min(beam.wanted, ranks.shape[1])).all())


def rank(places, length, beam):
    """What hypotheses (B,) of these lengths are compared by in the end: score, or G in a stochastic beam."""
    return places.perturbed if beam.stochastic else score(places.log_probability, length, beam.length_penalty)


def score(log_probability, length, length_penalty):
    """log p / lp, lp = ((5 + length) / 6)^alpha: Wu et al. 2016, eq. 14."""
    return log_probability / ((5 + length) / 6) ** length_penalty


BLOCKS = 16  # for each of the largest keys that are looked for


def largest(keys, count):
    """The places (count,) of the largest of keys (M,), the largest first, of equals the first.

    At least `count` keys are as large as the count-th largest of the maxima of blocks: the others need no sorting.
    """
    block = max(1, len(keys) // (BLOCKS * count))
    maxima = keys[: len(keys) // block * block].reshape(-1, block).max(axis=1)
    places = np.flatnonzero(keys >= np.partition(maxima, -count)[-count])
    return places[np.argsort(-keys[places], kind="stable")[:count]]


def perturb(parents, children, noise):
    """G (B, V) of the children: log-probabilities plus Gumbel noise, given that their largest is the parent's G.

    parents (B,): G. children (B, V): log p. Kool, van Hoof & Welling 2019, algorithm 1 and appendix B.3: with
    Z = the largest of the unconditioned ones, G = -log(exp(-G_parent) - exp(-Z) + exp(-G)), in its stable form.
    """
    free = children + noise
    alive = (free.max(axis=1) > -np.inf)[:, None]
    T, Z = np.where(alive, parents[:, None], 0.0), np.where(alive, free.max(axis=1, keepdims=True), 0.0)
    with np.errstate(divide="ignore"):  # log 0: the largest child gets its parent's G, an impossible one -inf
        v = T - free + log1mexp(np.minimum(free - Z, 0.0))
    return np.where(alive, T - np.maximum(v, 0.0) - np.log1p(np.exp(-np.abs(v))), -np.inf)


def log1mexp(x):
    """log(1 - exp(x)) for x <= 0 (Maechler 2012, "Accurately Computing log(1 - exp(-|a|))")."""
    return np.where(x > -np.log(2), np.log(-np.expm1(x)), np.log1p(-np.exp(x)))


# ---------------------------------------------------------------- linear layer


def linear_work(M, D, V, dtype, threads):
    """Scratch for `linear_forward` and `linear_backward` on up to M rows: NumPy needs none."""
    return ()


def linear_forward(y, work, x, weight, bias, threads):
    """y = x weight^T + bias. y (M, V), x (M, D), weight (V, D), bias (V,)."""
    np.matmul(x, weight.T, out=y)
    y += bias


def linear_backward(dx, dweight, dbias, dy, work, x, weight, threads):
    """dx (M, D) overwritten, dweight (V, D), dbias (V,) accumulated into; dy (M, V), x (M, D)."""
    np.matmul(dy, weight, out=dx)  # y = x weight^T
    dweight += dy.T @ x  # y = x weight^T
    dbias += dy.sum(axis=0)  # y = ... + bias


# ---------------------------------------------------------------- squared error


def squared_error(losses, dy, y, targets, scales, threads):
    """losses[m] = mean over v of (y[m, v] - targets[m, v])^2, and the gradient of sum(scales * losses).

    losses (M,); dy (M, V) overwritten, may be y; y, targets (M, V); scales (M,). (torch.nn.MSELoss.)
    """
    error = y - targets
    np.mean(error * error, axis=1, out=losses)
    np.multiply(error, scales[:, None] * y.dtype.type(2 / y.shape[1]), out=dy)  # error^2 / V


# ---------------------------------------------------------------- softmax head


def softmax_work(M, D, V, dtype, threads):
    """Scratch for `softmax_losses` on up to M rows: NumPy needs none."""
    return ()


def softmax_gradient_work(M, D, V, dtype, threads):
    """Scratch for `softmax_losses_and_gradient` on up to M rows: NumPy needs none."""
    return ()


def log_softmax(logits):
    """log(exp(logits) / sum exp(logits)) row by row, of the type of logits.

    Subtracting the largest logit first keeps exp finite. The sum is float64: its error would fall on every token of a
    text with the same sign.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True, dtype=np.float64)
    return (shifted - np.log(total)).astype(logits.dtype)


def softmax_losses(losses, work, x, targets, weight, bias, threads):
    """losses[m] = -log softmax(x weight^T + bias)[m, targets[m]], in nats.

    losses (M,), x (M, D), targets (M,) int, weight (V, D), bias (V,).
    """
    losses[...] = -log_softmax(x @ weight.T + bias)[np.arange(len(x)), targets]


def softmax_losses_and_gradient(
    losses, dx, dweight, dbias, work, x, targets, scales, classes, smoothing, weight, bias, threads
):
    """`softmax_losses` with class weights and label smoothing, and the gradient of sum(scales * losses).

        loss = (1 - e) w_target (-log p_target) + e / V sum_v w_v (-log p_v)

    (torch.nn.CrossEntropyLoss; smoothing: Szegedy et al. 2016, section 7). scales (M,): the weight of each row, over
    the sum of all weights for a mean; 0 leaves a row out. classes (V,): w, or None for ones. smoothing: e in [0, 1).
    dx (M, D) overwritten, dweight (V, D), dbias (V,) accumulated into.
    """
    rows, V = np.arange(len(x)), len(bias)
    w = np.ones(V, x.dtype) if classes is None else classes
    log_p = log_softmax(x @ weight.T + bias)
    own = x.dtype.type(1 - smoothing) * w[targets]
    others = w * x.dtype.type(smoothing / V)
    losses[...] = -own * log_p[rows, targets]
    if smoothing > 0:
        losses -= log_p @ others
    wanted = np.tile(others, (len(x), 1))  # of each token: how much its -log p counts
    wanted[rows, targets] += own
    dlogits = np.exp(log_p) * wanted.sum(axis=1, keepdims=True) - wanted  # d -log p_v = softmax - one-hot_v
    dlogits *= scales[:, None]
    linear_backward(dx, dweight, dbias, dlogits, (), x, weight, threads)


# ---------------------------------------------------------------- gradients and optimizers (flat arrays)


def clear(g, threads):
    """g = 0. g (P,)."""
    g.fill(0)


def squared_norm(g, threads):
    """The sum of squares of g (P,), in float64."""
    return float(np.dot(g.astype(np.float64), g.astype(np.float64)))


def clip_values(g, limit, threads):
    """g limited to [-limit, limit], in place. g (P,)."""
    np.clip(g, -limit, limit, out=g)


def adam(w, m, v, g, lr, beta1, beta2, eps, weight_decay, decoupled, step, scale, threads):
    """Adam (Kingma & Ba 2015, algorithm 1), PyTorch's form; w, m, v (P,) updated in place. step counts from 1.

    The gradient is scale * g + weight_decay * w; `scale` is how global-norm clipping arrives here. decoupled: the
    decay of AdamW (Loshchilov & Hutter 2019, algorithm 2), w is first multiplied by 1 - lr * decoupled.
    The article's eq. 10 names the two moments the other way round, and leaves out the bias correction.
    """
    kind = w.dtype.type
    g = g * kind(scale) + kind(weight_decay) * w
    m[...] = kind(beta1) * m + kind(1 - beta1) * g
    v[...] = kind(beta2) * v + kind(1 - beta2) * (g * g)
    rate = kind(lr / (1 - beta1**step))
    w *= kind(1 - lr * decoupled)
    w -= rate * m / (np.sqrt(v) * kind(1 / np.sqrt(1 - beta2**step)) + kind(eps))


def sgd(w, m, g, lr, momentum, nesterov, weight_decay, scale, threads):
    """Gradient descent with momentum, PyTorch's form: m = momentum m + g, w -= lr m. w, m (P,) in place.

    nesterov: w -= lr (g + momentum m) instead (Sutskever et al. 2013, eq. 4, at the point where it looks ahead).
    """
    kind = w.dtype.type
    g = g * kind(scale) + kind(weight_decay) * w
    m[...] = kind(momentum) * m + g
    w -= kind(lr) * (g + kind(momentum) * m if nesterov else m)


def average(a, w, share, threads):
    """a += share * (w - a): the running mean of w where share is 1 over how many have come. a, w (P,)."""
    a += a.dtype.type(share) * (w - a)


def rmsprop(w, v, g, lr, alpha, eps, weight_decay, scale, threads):
    """RMSprop (Hinton's lecture 6e), PyTorch's form: v averages g^2, w -= lr g / (sqrt(v) + eps). In place."""
    kind = w.dtype.type
    g = g * kind(scale) + kind(weight_decay) * w
    v[...] = kind(alpha) * v + kind(1 - alpha) * (g * g)
    w -= kind(lr) * g / (np.sqrt(v) + kind(eps))
