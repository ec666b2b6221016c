"""The C of a text classifier, where it is another than a language model's; see `c_source`."""

from __future__ import annotations

from nblstm.exporting.c_source import SIZES_BOTH_WAYS

CLASSIFIER_HEAD = {
    "usage": '"a text" "another text"',
    "example": r""" *     static nblstm_work work; float probabilities[NBLSTM_LABELS];
 *     int label = nblstm_classify(&work, text, strlen(text), probabilities);
 *     printf("%s %f\n", nblstm_label(label), probabilities[label]);""",
    "declarations": r"""#define NBLSTM_VOCAB @vocab@    /* tokens that it knows */
#define NBLSTM_LABELS @labels@
#define NBLSTM_END @end@       /* the token that stands for a text of nothing */
#ifndef NBLSTM_TOKENS
#define NBLSTM_TOKENS @max_length@  /* of a text that are read, from its start; define less for less memory */
#endif

/* Scratch of one caller: nothing is kept in it from text to text. */
typedef struct { int tokens[NBLSTM_TOKENS]; float outputs[@buffers@][NBLSTM_TOKENS * @outputs_of_layer@]; } nblstm_work;

/* The most probable label of a UTF-8 text of `size` bytes, and the probability of every label (NBLSTM_LABELS). */
int nblstm_classify(nblstm_work *work, const char *text, size_t size, float *probabilities);
/* A label's name. */
const char *nblstm_label(int label);""",
    "include": "#include <stddef.h>\n",
    "sizes": SIZES_BOTH_WAYS,
}

READ_TEXT = r"""
/* The tokens of a text, the first NBLSTM_TOKENS of them; how many. */
static int nblstm_read_text(nblstm_work *work, const char *text, const char *end)
{
    int count = 0, token;
@trim@
    while (text < end && count < NBLSTM_TOKENS) {
        text = nblstm_encode(text, end@first@, &token);
        if (token >= 0) work->tokens[count++] = token;
    }
    if (!count) work->tokens[count++] = NBLSTM_END;
    return count;
}
"""

TRIM = r"""
    const char *rest, *behind;
    uint32_t code;
    for (rest = text; rest < end; text = rest) { /* blanks at both ends mean nothing */
        rest = nblstm_next(text, end, &code);
        if (!NBLSTM_IN(code, nblstm_space)) break;
    }
    for (rest = behind = text; rest < end;) {
        rest = nblstm_next(rest, end, &code);
        if (!NBLSTM_IN(code, nblstm_space)) behind = rest;
    }
    end = behind;"""
NOTHING_BUT_BLANKS = r"""
    if (text == end) work->tokens[count++] = nblstm_find(" ", 1, 0);"""

READ_LAYERS = r"""
/* The outputs (count, NBLSTM_F) of the last layer behind the first `count` tokens, at least one, in work. */
static const float *nblstm_read_layers(nblstm_work *work, int count)
{
    float row[@widest@], z[@pre@], h[NBLSTM_P], c[@memory_size@];
    const float *x = row;
    int layer, cell, k, t, i, n = @input@;
    for (cell = 0; cell < NBLSTM_LAYERS * NBLSTM_DIRECTIONS; cell++) {
        const int backwards = cell % NBLSTM_DIRECTIONS, first = backwards * NBLSTM_P;
        const float *below;
        layer = cell / NBLSTM_DIRECTIONS;
        below = work->outputs[(layer + 1) % @buffers@];
        for (i = 0; i < NBLSTM_P; i++) h[i] = nblstm_h[cell * NBLSTM_P + i];
        for (i = 0; i < @memory_size@; i++) c[i] = nblstm_c[@memory_place@];
        for (k = 0; k < count; k++) {
            float *y;
            t = backwards ? count - 1 - k : k;
            y = work->outputs[layer % @buffers@] + (long)t * NBLSTM_F;
            if (layer) x = below + (long)t * NBLSTM_F, n = NBLSTM_F;
            else {
                const int token = work->tokens[t];
@read@
            }
            nblstm_step(&nblstm_layers[cell], @given@, n, z, h, c);
            for (i = 0; i < NBLSTM_P; i++) y[first + i] = h[i]@residual@;
        }
    }
    return work->outputs[(NBLSTM_LAYERS - 1) % @buffers@];
}
"""

CLASSIFY = r"""
/* The logits (NBLSTM_LABELS) of the first `count` tokens, at least one, in work. */
static void nblstm_logits(nblstm_work *work, int count, float *logits)
{
    const float *x = nblstm_read_layers(work, count);
    float pooled[NBLSTM_F], unit;
    nblstm_number q[@widest@];
    int k, t, i;
    (void)t;
@pooling@
    unit = nblstm_prepare(pooled, NBLSTM_F, q);
    for (k = 0; k < NBLSTM_LABELS; k++) logits[k] = nblstm_head_bias[k];
    nblstm_product(logits, &nblstm_head, q, unit);
}

int nblstm_classify(nblstm_work *work, const char *text, size_t size, float *probabilities)
{
    float total = 0.0f;
    int best = 0, k;
    nblstm_logits(work, nblstm_read_text(work, text, text + size), probabilities);
    for (k = 1; k < NBLSTM_LABELS; k++)
        if (probabilities[k] > probabilities[best]) best = k;
    for (k = 0; k < NBLSTM_LABELS; k++)
        if (k != best) total += probabilities[k] = nblstm_exp(probabilities[k] - probabilities[best]);
    probabilities[best] = 1.0f;
    for (k = 0, total += 1.0f; k < NBLSTM_LABELS; k++) probabilities[k] /= total;
    return best;
}

const char *nblstm_label(int label)
{
    return nblstm_labels[label];
}
"""

POOLINGS_CODE = {
    "last": """\
    for (i = 0; i < NBLSTM_F; i++) pooled[i] = x[(i < NBLSTM_P ? (long)(count - 1) * NBLSTM_F : 0) + i];""",
    "mean": """\
    for (i = 0; i < NBLSTM_F; i++) pooled[i] = 0.0f;
    for (t = 0; t < count; t++)
        for (i = 0; i < NBLSTM_F; i++) pooled[i] += x[(long)t * NBLSTM_F + i];
    for (i = 0; i < NBLSTM_F; i++) pooled[i] /= (float)count;""",
    "max": """\
    for (i = 0; i < NBLSTM_F; i++) pooled[i] = x[i];
    for (t = 1; t < count; t++)
        for (i = 0; i < NBLSTM_F; i++)
            if (x[(long)t * NBLSTM_F + i] > pooled[i]) pooled[i] = x[(long)t * NBLSTM_F + i];""",
    "attention": """\
    /* s = query . tanh(W x + b); the mean of x with weights exp(s), which are those of the largest s so far */
    {
        float hidden[NBLSTM_F], most = 0.0f, total = 0.0f;
        for (t = 0; t < count; t++, x += NBLSTM_F) {
            float s = 0.0f, before, now;
            for (i = 0; i < NBLSTM_F; i++) hidden[i] = nblstm_attention_bias[i];
            unit = nblstm_prepare(x, NBLSTM_F, q);
            nblstm_product(hidden, &nblstm_attention, q, unit);
            nblstm_tanh(hidden, NBLSTM_F);
            for (i = 0; i < NBLSTM_F; i++) s += nblstm_query[i] * hidden[i];
            before = t ? (s > most ? nblstm_exp(most - s) : 1.0f) : 0.0f;
            most = !t || s > most ? s : most;
            now = nblstm_exp(s - most);
            total = total * before + now;
            for (i = 0; i < NBLSTM_F; i++) pooled[i] = (t ? pooled[i] * before : 0.0f) + now * x[i];
        }
        for (i = 0; i < NBLSTM_F; i++) pooled[i] /= total;
    }""",
}

CLASSIFIER_MAIN = r"""
/* ---------------------------------------------------------------- the program */

#ifdef NBLSTM_MAIN
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

@reference@
static int nblstm_test(nblstm_work *work)
{
    const int read = (int)(sizeof nblstm_read / sizeof *nblstm_read);
    float logits[NBLSTM_LABELS];
    double most = 0.0, difference;
    int k;
    for (k = 0; k < read && k < NBLSTM_TOKENS; k++) work->tokens[k] = nblstm_read[k];
    nblstm_logits(work, k, logits);
    for (k = 0; k < NBLSTM_LABELS; k++) {
        difference = (double)logits[k] - (double)nblstm_reference[k];
        difference = difference < 0.0 ? -difference : difference;
        if (!(difference <= most)) most = difference;
    }
    printf("largest difference of %d logits: %.2g, allowed %.2g\n", k, most, @allowed@);
    return most <= @allowed@ ? 0 : 1;
}

static void nblstm_print(nblstm_work *work, const char *text, size_t size)
{
    float probabilities[NBLSTM_LABELS];
    const int label = nblstm_classify(work, text, size, probabilities);
    printf("%s\t%.4f\n", nblstm_label(label), (double)probabilities[label]);
}

/* Every line of standard input. */
static int nblstm_lines(nblstm_work *work)
{
    size_t size = 0, room = 256;
    char *line = (char *)malloc(room), *wider;
    int c;
    while (line && (c = getchar(), c != EOF || size)) {
        if (c == '\n' || c == EOF) {
            nblstm_print(work, line, size && line[size - 1] == '\r' ? size - 1 : size);
            size = 0;
            continue;
        }
        if (size == room) {
            wider = (char *)realloc(line, room *= 2);
            if (!wider) free(line);
            if ((line = wider) == NULL) break;
        }
        line[size++] = (char)c;
    }
    if (line) free(line);
    return line && !fflush(stdout) ? 0 : 1;
}

int main(int argc, char **argv)
{
    static nblstm_work work;
    int k;
    if (argc == 2 && !strcmp(argv[1], "--test")) return nblstm_test(&work);
    if (argc == 2 && (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))) {
        printf("usage: %s [TEXT ...] [--test]; without a text every line of standard input\n", argv[0]);
        return 0;
    }
    if (argc < 2) return nblstm_lines(&work);
    for (k = 1; k < argc; k++) nblstm_print(&work, argv[k], strlen(argv[k]));
    return fflush(stdout) ? 1 : 0;
}
#endif
#endif
"""
