"""The specification: every kernel in plain NumPy, in any float type. Also the runtime where numba is absent.

Each backward function stands below its forward function; the comment on a backward line names the forward
line it differentiates. Weights, shapes and gate order are PyTorch's (torch.nn.LSTM).
"""

from __future__ import annotations

import numpy as np


def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow: exp is only taken of numbers <= 0. Any shape."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


# ---------------------------------------------------------------- dropout


def dropout(y, x, rate, key, threads):
    """y = x / (1 - rate) where a random bit is set, 0 elsewhere. Inverted dropout; y may be x.

    x, y (any shape, up to 2**32 elements, after which the mask repeats). key: uint64; the mask is a function of (key, position) alone, so that the backward pass
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


# ---------------------------------------------------------------- embedding


def embedding_forward(y, tokens, weight, threads):
    """y[m] = weight[tokens[m]]. y (M, E), tokens (M,) int, weight (V, E)."""
    np.take(weight, tokens, axis=0, out=y)


def embedding_backward(dweight, dy, tokens, threads):
    """dweight[tokens[m]] += dy[m]. dweight (V, E) accumulated into, dy (M, E), tokens (M,) int."""
    np.add.at(dweight, tokens, dy)  # y[m] = weight[tokens[m]]


# ---------------------------------------------------------------- LSTM layer


def lstm_work(T, N, sizes, H, rows, dtype, threads):
    """What `lstm_forward` stores for `lstm_backward`, one work a layer: gates (T, N, 4, H), cells (T + 1, N, H).

    sizes: the layers' input sizes. rows: the most distinct inputs that will come to the first layer through an
    index, 0 if its inputs are all in place.
    """
    return [(np.empty((T, N, 4, H), dtype), np.empty((T + 1, N, H), dtype)) for _ in sizes]


def lstm_forward(y, hn, cn, work, x, index, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, threads):
    """One LSTM layer over T steps (torch.nn.LSTM; Hochreiter & Schmidhuber 1997 with Gers' forget gate).

        i, f, o = sigmoid(W x + U h_{t-1} + b),  g = tanh(W x + U h_{t-1} + b)
        c_t = f c_{t-1} + i g,  h_t = o tanh(c_t)

    y (T, N, H); hn, cn (N, H), may be h0, c0. x (rows, D): the distinct inputs; index (T * N,) int32 says which
    row of x stands at (t, n), or None where rows == T * N and x is in place. h0, c0 (N, H). weight_ih (4H, D),
    weight_hh (4H, H), bias_ih, bias_hh (4H,). `work` is written for the backward pass.
    """
    gates, cells = work
    T, N, H = y.shape
    projected = x @ weight_ih.T + (bias_ih + bias_hh)
    projected = (projected if index is None else projected[index]).reshape(T, N, 4, H)
    h, cells[0] = h0, c0
    for t in range(T):
        z = projected[t] + (h @ weight_hh.T).reshape(N, 4, H)  # z = W x + b + U h
        i, f, g, o = gates[t].transpose(1, 0, 2)
        i[...], f[...], o[...] = sigmoid(z[:, 0]), sigmoid(z[:, 1]), sigmoid(z[:, 3])
        g[...] = np.tanh(z[:, 2])
        cells[t + 1] = f * cells[t] + i * g
        y[t] = o * np.tanh(cells[t + 1])
        h = y[t]
    hn[...], cn[...] = y[-1], cells[-1]


def lstm_backward(
    dx, dh, dc, dweight_ih, dweight_hh, dbias_ih, dbias_hh, dy, y, work, x, index, h0, weight_ih, weight_hh, threads
):
    """Back-propagation through time of `lstm_forward`.

    dx (rows, D) overwritten. dh, dc (N, H): on entry the gradient of hn, cn; on return that of h0, c0.
    dweight_ih, dweight_hh, dbias_ih, dbias_hh accumulated into. dy (T, N, H) and `work` are overwritten;
    both hold intermediate gradients afterwards.
    """
    gates, cells = work
    T, N, H = y.shape
    for t in range(T - 1, -1, -1):
        i, f, g, o = gates[t].transpose(1, 0, 2)
        tanh_c = np.tanh(cells[t + 1])
        dh_t = dy[t] + dh
        do = dh_t * tanh_c  # h = o tanh(c)
        dc_t = dc + dh_t * o * (1 - tanh_c * tanh_c)  # h = o tanh(c)
        dc[...] = dc_t * f  # c = f c_prev + i g
        df, di, dg = dc_t * cells[t], dc_t * g, dc_t * i  # c = f c_prev + i g
        dz = np.stack([di * i * (1 - i), df * f * (1 - f), dg * (1 - g * g), do * o * (1 - o)], axis=1)
        gates[t] = dz
        dh[...] = dz.reshape(N, 4 * H) @ weight_hh  # z = W x + b + U h
    dz = gates.reshape(T * N, 4 * H)
    h_prev = np.concatenate([h0[None], y[:-1]]).reshape(T * N, H)
    dweight_hh += dz.T @ h_prev  # z = W x + b + U h
    dprojected = dz
    if index is not None:
        dprojected = np.zeros((len(x), 4 * H), dz.dtype)
        np.add.at(dprojected, index, dz)  # projected[index]
    dweight_ih += dprojected.T @ x  # projected = W x + b
    dbias = dprojected.sum(axis=0)  # projected = W x + b
    dbias_ih += dbias
    dbias_hh += dbias
    dx[...] = dprojected @ weight_ih  # projected = W x + b


# ---------------------------------------------------------------- decoding: one step of the whole network


def decode_work(N, embedding, layers, head_weight, head_bias, threads):
    """What `decode` needs of the weights: here, the weights.

    embedding (V, E); layers: (weight_ih, weight_hh, bias_ih, bias_hh) of each; head_weight (V, H), head_bias (V,).
    The weights must not change while the work is in use. N texts are read side by side.
    """
    return embedding, layers, head_weight, head_bias


def decode(logits, h, c, tokens, work, threads):
    """Read one token of each text: h, c (L, N, H) become the next state, logits (N, V) those of the next token.

    tokens (N,) int64. logits may be (0, V): then they are not computed. See `lstm_forward` for the equations.
    """
    embedding, layers, head_weight, head_bias = work
    x = embedding[tokens]
    for k, (weight_ih, weight_hh, bias_ih, bias_hh) in enumerate(layers):
        z = x @ weight_ih.T
        z += h[k] @ weight_hh.T
        z += bias_ih + bias_hh
        i, f, g, o = np.split(z, 4, axis=1)
        c[k] = sigmoid(f) * c[k] + sigmoid(i) * np.tanh(g)
        x = h[k] = sigmoid(o) * np.tanh(c[k])
    if len(logits):
        linear_forward(logits, (), x, head_weight, head_bias, threads)


def draw(tokens, logits, uniform, temperature, top_k, threads):
    """tokens[n] drawn from softmax(logits[n] / temperature). tokens (N,) int64, logits (N, V), uniform (N,) float64.

    Temperature 0 takes the most likely token. Otherwise, in this order: keep the top_k most likely (0 keeps all),
    softmax, and take the first token whose cumulative probability exceeds the uniform number in [0, 1).
    """
    if temperature == 0:
        tokens[...] = logits.argmax(axis=1)
        return
    logits = logits.astype(np.float64)
    if 0 < top_k < logits.shape[1]:
        smallest_kept = np.partition(logits, -top_k, axis=1)[:, -top_k, None]
        logits[logits < smallest_kept] = -np.inf
    with np.errstate(over="ignore"):  # a tiny temperature: -inf, and its exp is 0
        shifted = (logits - logits.max(axis=1, keepdims=True)) / temperature
    cumulative = np.exp(shifted).cumsum(axis=1)
    tokens[...] = (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(axis=1)


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


# ---------------------------------------------------------------- softmax head


def softmax_work(M, D, V, dtype, threads):
    """Scratch for `softmax_losses` on up to M rows: NumPy needs none."""
    return ()


def softmax_gradient_work(M, D, V, dtype, threads):
    """Scratch for `softmax_losses_and_gradient` on up to M rows: NumPy needs none."""
    return ()


def log_softmax(logits):
    """log(exp(logits) / sum exp(logits)) row by row. Subtracting the largest logit first keeps exp finite."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


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


def adam(w, m, v, g, lr, beta1, beta2, eps, weight_decay, step, scale, threads):
    """Adam (Kingma & Ba 2015, algorithm 1), PyTorch's form; w, m, v (P,) updated in place. step counts from 1.

    The gradient is scale * g + weight_decay * w; `scale` is how global-norm clipping arrives here.
    """
    kind = w.dtype.type
    g = g * kind(scale) + kind(weight_decay) * w
    m[...] = kind(beta1) * m + kind(1 - beta1) * g
    v[...] = kind(beta2) * v + kind(1 - beta2) * (g * g)
    rate = kind(lr / (1 - beta1**step))
    w -= rate * m / (np.sqrt(v) * kind(1 / np.sqrt(1 - beta2**step)) + kind(eps))


def sgd(w, m, g, lr, momentum, weight_decay, scale, threads):
    """Gradient descent with momentum, PyTorch's form: m = momentum m + g, w -= lr m. w, m (P,) in place."""
    kind = w.dtype.type
    m[...] = kind(momentum) * m + (g * kind(scale) + kind(weight_decay) * w)
    w -= kind(lr) * m


def rmsprop(w, v, g, lr, alpha, eps, weight_decay, scale, threads):
    """RMSprop (Hinton's lecture 6e), PyTorch's form: v averages g^2, w -= lr g / (sqrt(v) + eps). In place."""
    kind = w.dtype.type
    g = g * kind(scale) + kind(weight_decay) * w
    v[...] = kind(alpha) * v + kind(1 - alpha) * (g * g)
    w -= kind(lr) * g / (np.sqrt(v) + kind(eps))
