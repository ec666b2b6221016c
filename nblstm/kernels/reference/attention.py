"""Attention: for each query a distribution over the keys of its text, and the mean of their values by it.

    a = softmax over j of score(q_i, k_j)        context_i = sum over j of a_ij v_j

    multiplicative   score(q, k) = q . k                   (Luong et al. 2015, eq. 8: "dot"; with k = W v: "general")
    additive         score(q, k) = w . tanh(q + k)         (Bahdanau et al. 2015, appendix A.1.2)

Rows of a text stand together, text after text, however long each is: `kernels.Alignment` says where.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels.cells.functions import noticed
from nblstm.kernels.threads import not_while_forking


def attention_work(queries, keys, sizes, texts, dtype, threads):
    """Scratch for texts of up to so many queries and keys; sizes: of a key and of a value. NumPy needs none."""
    return ()


def _spans(alignment):
    """Yield (rows of queries, rows of keys, cells of weights) of each text."""
    queries, keys, cells = alignment
    for n in range(len(queries) - 1):
        yield slice(queries[n], queries[n + 1]), slice(keys[n], keys[n + 1]), slice(cells[n], cells[n + 1])


@not_while_forking
def attention_forward(context, weights, work, inputs, alignment, threads):
    """context (Mq, F) and weights a, flat, text after text, as the equations above say.

    inputs: `kernels.Attended`. alignment: `kernels.Alignment`; every text has a query and a key.
    """
    query, key, value, vector = inputs
    for q, k, cells in _spans(alignment):
        s = query[q] @ key[k].T if vector is None else np.tanh(noticed(query[q, None] + key[None, k])) @ vector
        s = noticed(s)
        e = np.exp(s - s.max(axis=1, keepdims=True))
        a = e / e.sum(axis=1, keepdims=True)
        weights[cells] = a.reshape(-1)
        context[q] = a @ value[k]


@not_while_forking
def attention_backward(dquery, dkey, dvalue, dvector, dcontext, weights, work, inputs, alignment, threads):
    """dquery (Mq, D), dkey (Mk, D), dvalue (Mk, F) overwritten, dvector (D,) accumulated into, None where there is none.

    weights: as `attention_forward` has left them.
    """
    query, key, value, vector = inputs
    for q, k, cells in _spans(alignment):
        a = weights[cells].reshape(q.stop - q.start, k.stop - k.start)
        dvalue[k] = a.T @ dcontext[q]  # context = a v
        da = dcontext[q] @ value[k].T  # context = a v
        ds = a * (da - (a * da).sum(axis=1, keepdims=True))  # a = softmax(s)
        if vector is None:
            dquery[q] = ds @ key[k]  # s = q k^T
            dkey[k] = ds.T @ query[q]  # s = q k^T
            continue
        t = np.tanh(query[q, None] + key[None, k])
        dvector += np.einsum("ij,ijd->d", ds, t)  # s = t w
        dz = ds[:, :, None] * vector * (1 - t * t)  # tanh' = 1 - t^2
        dquery[q], dkey[k] = dz.sum(axis=1), dz.sum(axis=0)
