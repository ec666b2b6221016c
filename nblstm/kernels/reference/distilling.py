"""Distillation: the loss of a student that learns what a teacher says (Hinton, Vinyals & Dean 2015, section 2)."""

from __future__ import annotations

import numpy as np

from nblstm.kernels.reference.head import log_softmax


def distillation(losses, dy, y, lesson, threads):
    """losses[m] of a student's logits y, and the gradient of sum(scales * losses).

        p = softmax(y), p_T = softmax(y / T), q_T = softmax(taught / T)
        loss = (1 - a) (-log p_target) + a T^2 sum_v q_T (log q_T - log p_T)

    lesson: `kernels.Lesson`, T its temperature and a its weight. losses (M,); dy (M, V) overwritten, may be y; y (M, V).
    T^2 keeps the two parts of the gradient as large as they were for T = 1.
    """
    (targets, scales, taught, T, a), rows, kind = lesson, np.arange(len(y)), y.dtype.type
    T, hard, soft = kind(T), kind(1 - a), kind(a)
    log_p, log_p_T, log_q_T = log_softmax(y), log_softmax(y / T), log_softmax(taught / T)
    q = np.exp(log_q_T)
    losses[...] = soft * T * T * (q * (log_q_T - log_p_T)).sum(axis=1) - hard * log_p[rows, targets]
    dlogits = hard * np.exp(log_p) + soft * T * (np.exp(log_p_T) - q)  # d log_p_T = (one-hot - softmax_T) / T
    dlogits[rows, targets] -= hard
    np.multiply(dlogits, scales[:, None], out=dy)
