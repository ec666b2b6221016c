"""The C of `nblstm.exporting.c`: one header, whose begin and end stand here, products, steps and text beside.

Names that begin with nblstm_ get the model's prefix.
"""

FRAME = r"""/* @description@
 *
 * Made by nblstm export, weights @weights@: @bytes@ bytes of constants. C99, or C++; no malloc, no libm, no globals.
 *
 * As a program:   cc -O3 -march=native -DNBLSTM_MAIN -x c @file@ -o @name@ && ./@name@ @usage@
 * As a library:   #include "@file@" where it is used; in one file, before that, #define NBLSTM_IMPLEMENTATION
 *
@example@
 */
#ifndef NBLSTM_INCLUDED
#define NBLSTM_INCLUDED

@include@#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

@declarations@

#ifdef __cplusplus
}
#endif
#endif

#if (defined(NBLSTM_IMPLEMENTATION) || defined(NBLSTM_MAIN)) && !defined(NBLSTM_IMPLEMENTED)
#define NBLSTM_IMPLEMENTED

#define NBLSTM_LAYERS @layers@
@sizes@
#define NBLSTM_GATES @gates@
@more_sizes@
"""

SIZES_BOTH_WAYS = """#define NBLSTM_DIRECTIONS @directions@
#define NBLSTM_H @hidden@       /* units of a layer, in one direction */
#define NBLSTM_P @outputs@       /* outputs of a layer, in one direction */
#define NBLSTM_F (NBLSTM_DIRECTIONS * NBLSTM_P)"""

LANGUAGE_HEAD = {
    "usage": '--prompt "@prompt@" -n 100',
    "example": r""" *     nblstm_state state; nblstm_random random; static float logits[NBLSTM_VOCAB]; int token = NBLSTM_START;
 *     nblstm_init(&state); nblstm_seed(&random, 1);
 *     for (k = 0; k < 100; k++) {
 *         nblstm_feed(&state, token);
 *         nblstm_logits(&state, logits);
 *         token = nblstm_sample(logits, 0.8, 0, 1.0, &random);
 *     }""",
    "declarations": r"""#define NBLSTM_VOCAB @vocab@    /* tokens */
#define NBLSTM_START @start@    /* the token that is fed before a text */
#define NBLSTM_END (@end@)     /* the token behind which a text is over; -1: there is none */
#define NBLSTM_BANNED (@banned@)  /* the token that is never drawn; -1: there is none */

typedef struct { float h[@h_size@], c[@c_size@], features[@features@]; } nblstm_state;
typedef struct { uint64_t high, low, step_high, step_low; } nblstm_random;

/* The state before a text. */
void nblstm_init(nblstm_state *state);
/* Read a token, 0 .. NBLSTM_VOCAB - 1. */
void nblstm_feed(nblstm_state *state, int token);
/* The logits (NBLSTM_VOCAB) of the next token. */
void nblstm_logits(const nblstm_state *state, float *logits);
/* A source of random numbers: NumPy's default_rng(seed). */
void nblstm_seed(nblstm_random *random, uint64_t seed);
/* Draw the next token; the logits are overwritten. temperature 0: the most likely; top_k 0 and top_p 1: from all. */
int nblstm_sample(float *logits, double temperature, int top_k, double top_p, nblstm_random *random);
/* The first token of the UTF-8 text that ends before `end`, -1 if there is none; returns the rest of the text. */
const char *nblstm_encode(const char *text, const char *end, int *token);
/* The bytes of a token that follows the token `before`, -1 where a text begins; returns how many. */
int nblstm_text(int before, int token, const char **text);""",
    "sizes": """#define NBLSTM_H @hidden@       /* units of a layer */
#define NBLSTM_P @outputs@       /* outputs of a layer */""",
}

SAMPLE = r"""
/* ---------------------------------------------------------------- drawing a token */

/* state = state * multiplier + step, of 128 bits (PCG64: O'Neill 2014) */
static void nblstm_advance(nblstm_random *r)
{
    const uint64_t mh = UINT64_C(0x2360ED051FC65DA4), ml = UINT64_C(0x4385DF649FCCF645), half = 0xffffffffu;
    const uint64_t a = r->low >> 32, b = r->low & half, c = ml >> 32, d = ml & half;
    const uint64_t middle = (b * d >> 32) + (a * d & half) + (b * c & half);
    const uint64_t carried = a * c + (a * d >> 32) + (b * c >> 32) + (middle >> 32);
    r->high = carried + r->high * ml + r->low * mh + r->step_high;
    r->low = r->low * ml + r->step_low;
    r->high += r->low < r->step_low;
}

static uint32_t nblstm_hash(uint32_t value, uint32_t *hash, uint32_t multiplier)
{
    value ^= *hash;
    *hash *= multiplier;
    value *= *hash;
    return value ^ value >> 16;
}

/* NumPy's SeedSequence of one whole number. */
void nblstm_seed(nblstm_random *random, uint64_t seed)
{
    uint32_t pool[4], hash = 0x43b0d7e5u;
    uint64_t words[4];
    int k, j;
    for (k = 0; k < 4; k++) pool[k] = nblstm_hash(k < 2 ? (uint32_t)(seed >> 32 * k) : 0, &hash, 0x931e8875u);
    for (k = 0; k < 4; k++)
        for (j = 0; j < 4; j++)
            if (j != k) {
                const uint32_t mixed = 0xca01f9ddu * pool[j] - 0x4973f715u * nblstm_hash(pool[k], &hash, 0x931e8875u);
                pool[j] = mixed ^ mixed >> 16;
            }
    hash = 0x8b51f9ddu;
    for (k = 0; k < 4; k++) {
        words[k] = nblstm_hash(pool[2 * k % 4], &hash, 0x58f38dedu);
        words[k] |= (uint64_t)nblstm_hash(pool[(2 * k + 1) % 4], &hash, 0x58f38dedu) << 32;
    }
    random->high = random->low = 0;
    random->step_high = words[2] << 1 | words[3] >> 63;
    random->step_low = words[3] << 1 | 1;
    nblstm_advance(random);
    random->low += words[1];
    random->high += words[0] + (random->low < words[1]);
    nblstm_advance(random);
}

/* A number in [0, 1). */
static double nblstm_uniform(nblstm_random *r)
{
    uint64_t mixed;
    int turn;
    nblstm_advance(r);
    mixed = r->high ^ r->low;
    turn = (int)(r->high >> 58);
    mixed = mixed >> turn | mixed << (-turn & 63);
    return (double)(mixed >> 11) * (1.0 / 9007199254740992.0);
}

/* Zero all weights but the largest, which together count for `goal`: each as 1, or as its weight. Equals stay. */
static void nblstm_keep(float *weights, double goal, int by_weight)
{
    uint32_t least = 0, bit;
    nblstm_bits u;
    int k;
    for (bit = (uint32_t)1 << 30; bit; bit >>= 1) { /* the largest limit that still leaves enough, bit by bit */
        double mass = 0.0;
        for (k = 0; k < NBLSTM_VOCAB; k++) {
            u.f = weights[k];
            if (u.i >= (least | bit)) mass += by_weight ? (double)u.f : 1.0;
        }
        if (mass >= goal) least |= bit;
    }
    for (k = 0; k < NBLSTM_VOCAB; k++) {
        u.f = weights[k];
        if (u.i < least) weights[k] = 0.0f;
    }
}

int nblstm_sample(float *logits, double temperature, int top_k, double top_p, nblstm_random *random)
{
    int best = NBLSTM_BANNED == 0 ? 1 : 0, k;
    double total = 0.0, sum = 0.0, goal;
    float most;
    for (k = best; k < NBLSTM_VOCAB; k++)
        if (logits[k] > logits[best]) best = k;
    if (!(temperature > 0.0)) return best;
    most = logits[best];
    for (k = 0; k < NBLSTM_VOCAB; k++) {
        const double z = ((double)logits[k] - (double)most) / temperature;
        logits[k] = z > -87.0 && k != NBLSTM_BANNED ? nblstm_exp((float)z) : 0.0f;
    }
    if (top_k > 0 && top_k < NBLSTM_VOCAB) nblstm_keep(logits, (double)top_k, 0);
    for (k = 0; k < NBLSTM_VOCAB; k++) total += (double)logits[k];
    if (top_p < 1.0) {
        nblstm_keep(logits, top_p * total, 1);
        for (k = 0, total = 0.0; k < NBLSTM_VOCAB; k++) total += (double)logits[k];
    }
    goal = nblstm_uniform(random) * total;
    for (k = 0; k < NBLSTM_VOCAB; k++) {
        sum += (double)logits[k];
        if (sum > goal) return k;
    }
    return best;
}
"""

MAIN = r"""
/* ---------------------------------------------------------------- the program */

#ifdef NBLSTM_MAIN
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

@reference@
static int nblstm_test(void)
{
    nblstm_state state;
    float logits[NBLSTM_VOCAB];
    double most = 0.0, difference;
    int k;
    nblstm_init(&state);
    for (k = 0; k < (int)(sizeof nblstm_read / sizeof *nblstm_read); k++) nblstm_feed(&state, nblstm_read[k]);
    nblstm_logits(&state, logits);
    for (k = 0; k < (int)(sizeof nblstm_asked / sizeof *nblstm_asked); k++) {
        difference = (double)logits[nblstm_asked[k]] - (double)nblstm_reference[k];
        difference = difference < 0.0 ? -difference : difference;
        if (!(difference <= most)) most = difference;
    }
    printf("largest difference of %d logits: %.2g, allowed %.2g\n", k, most, @allowed@);
    return most <= @allowed@ ? 0 : 1;
}

static int nblstm_usage(const char *program, int code)
{
    fprintf(code ? stderr : stdout,
            "usage: %s [-n N] [--prompt TEXT] [--temperature T] [--top-k K] [--top-p P] [--seed S] [--test]\n",
            program);
    return code;
}

int main(int argc, char **argv)
{
    nblstm_state state;
    nblstm_random random;
    float logits[NBLSTM_VOCAB];
    const char *prompt = "", *text, *rest;
    double temperature = 1.0, top_p = 1.0;
    long n = 200, top_k = 0;
    uint64_t seed = (uint64_t)time(NULL) * 1000003u ^ (uint64_t)clock();
    int k, token, before = -1, size;

    for (k = 1; k < argc; k++) {
        char *behind = NULL;
        if (!strcmp(argv[k], "--test")) return nblstm_test();
        if (!strcmp(argv[k], "-h") || !strcmp(argv[k], "--help")) return nblstm_usage(argv[0], 0);
        if (k + 1 >= argc) return nblstm_usage(argv[0], 2);
        if (!strcmp(argv[k], "-n")) n = strtol(argv[++k], &behind, 10);
        else if (!strcmp(argv[k], "--prompt")) prompt = argv[++k];
        else if (!strcmp(argv[k], "--temperature")) temperature = strtod(argv[++k], &behind);
        else if (!strcmp(argv[k], "--top-k")) top_k = strtol(argv[++k], &behind, 10);
        else if (!strcmp(argv[k], "--top-p")) top_p = strtod(argv[++k], &behind);
        else if (!strcmp(argv[k], "--seed")) seed = (uint64_t)strtoull(argv[++k], &behind, 10);
        else return nblstm_usage(argv[0], 2);
        if (behind && (*behind || behind == argv[k])) return nblstm_usage(argv[0], 2);
    }
    if (n < 0 || top_k < 0 || !(temperature >= 0.0) || !(top_p > 0.0 && top_p <= 1.0)) return nblstm_usage(argv[0], 2);
    top_k = top_k < NBLSTM_VOCAB ? top_k : 0;

    nblstm_init(&state);
    nblstm_seed(&random, seed);
    if (NBLSTM_END >= 0 || !*prompt) nblstm_feed(&state, NBLSTM_START);
    for (text = prompt, rest = prompt + strlen(prompt); text < rest;) {
        text = nblstm_encode(text, rest, &token);
        if (token >= 0) nblstm_feed(&state, before = token);
    }
    if (*prompt && before < 0 && NBLSTM_END < 0) nblstm_feed(&state, NBLSTM_START); /* nothing but blanks */
    fputs(prompt, stdout);
    for (; n > 0; n--) {
        nblstm_logits(&state, logits);
        token = nblstm_sample(logits, temperature, (int)top_k, top_p, &random);
        if (token == NBLSTM_END) break;
        nblstm_feed(&state, token);
        size = nblstm_text(before, token, &text);
        fwrite(text, 1, (size_t)size, stdout);
        before = token;
    }
    putchar('\n');
    return fflush(stdout) ? 1 : 0;
}
#endif
#endif
"""
