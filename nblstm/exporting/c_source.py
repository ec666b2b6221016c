"""The C of `nblstm.exporting.c`: one header, in parts. Names that begin with nblstm_ get the model's prefix.

A matrix is multiplied four rows at a time. What differs between machines is a handful of macros: a vector of LANES
numbers, how it is loaded, multiplied and summed. Where none of them fits, a vector is one number.
"""

HEAD = r"""/* @description@
 *
 * Made by nblstm export, weights @weights@: @bytes@ bytes of constants. C99, or C++; no malloc, no libm, no globals.
 *
 * As a program:   cc -O3 -march=native -DNBLSTM_MAIN -x c @file@ -o @name@ && ./@name@ --prompt "@prompt@" -n 100
 * As a library:   #include "@file@" where it is used; in one file, before that, #define NBLSTM_IMPLEMENTATION
 *
 *     nblstm_state state; nblstm_random random; static float logits[NBLSTM_VOCAB]; int token = NBLSTM_START;
 *     nblstm_init(&state); nblstm_seed(&random, 1);
 *     for (k = 0; k < 100; k++) {
 *         nblstm_feed(&state, token);
 *         nblstm_logits(&state, logits);
 *         token = nblstm_sample(logits, 0.8, 0, 1.0, &random);
 *     }
 */
#ifndef NBLSTM_INCLUDED
#define NBLSTM_INCLUDED

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NBLSTM_VOCAB @vocab@    /* tokens */
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
int nblstm_text(int before, int token, const char **text);

#ifdef __cplusplus
}
#endif
#endif

#if (defined(NBLSTM_IMPLEMENTATION) || defined(NBLSTM_MAIN)) && !defined(NBLSTM_IMPLEMENTED)
#define NBLSTM_IMPLEMENTED

#define NBLSTM_LAYERS @layers@
#define NBLSTM_H @hidden@       /* units of a layer */
#define NBLSTM_P @outputs@       /* outputs of a layer */
#define NBLSTM_GATES @gates@

"""

INT_VECTORS = r"""
/* ---------------------------------------------------------------- vectors: LANES products of int16, summed in int32 */

typedef int16_t nblstm_number;

#if @avx512@
#include <immintrin.h>
typedef __m512i nblstm_vector;
#define NBLSTM_LANES 32
#define NBLSTM_ZERO _mm512_setzero_si512()
#define NBLSTM_LOAD(x) _mm512_loadu_si512((const void *)(x))
#define NBLSTM_WIDEN(w) _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(w)))
#if defined(__AVX512VNNI__)
#define NBLSTM_ADD(sum, w, x) _mm512_dpwssd_epi32(sum, w, x)
#else
#define NBLSTM_ADD(sum, w, x) _mm512_add_epi32(sum, _mm512_madd_epi16(w, x))
#endif
#define NBLSTM_HALF(a, k) _mm512_maskz_extracti64x4_epi64(255, a, k) /* g++ warns of its own header without a mask */
#define NBLSTM_HALVES(a) _mm256_add_epi32(NBLSTM_HALF(a, 0), NBLSTM_HALF(a, 1))
#elif defined(__AVX2__)
#include <immintrin.h>
typedef __m256i nblstm_vector;
#define NBLSTM_LANES 16
#define NBLSTM_ZERO _mm256_setzero_si256()
#define NBLSTM_LOAD(x) _mm256_loadu_si256((const __m256i *)(const void *)(x))
#define NBLSTM_WIDEN(w) _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(w)))
#define NBLSTM_NIBBLES(w) _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(w)))
#define NBLSTM_EIGHT _mm256_set1_epi16(8)
#define NBLSTM_LOW(w) _mm256_sub_epi16(_mm256_and_si256(NBLSTM_NIBBLES(w), _mm256_set1_epi16(15)), NBLSTM_EIGHT)
#define NBLSTM_HIGH(w) _mm256_sub_epi16(_mm256_srli_epi16(NBLSTM_NIBBLES(w), 4), NBLSTM_EIGHT)
#define NBLSTM_ADD(sum, w, x) _mm256_add_epi32(sum, _mm256_madd_epi16(w, x))
#define NBLSTM_HALVES(a) (a)
#elif defined(__SSE2__)
#include <emmintrin.h>
typedef __m128i nblstm_vector;
#define NBLSTM_LANES 8
#define NBLSTM_ZERO _mm_setzero_si128()
#define NBLSTM_LOAD(x) _mm_loadu_si128((const __m128i *)(const void *)(x))
#define NBLSTM_EIGHT_BYTES(w) _mm_loadl_epi64((const __m128i *)(const void *)(w))
#define NBLSTM_WIDEN(w) _mm_srai_epi16(_mm_unpacklo_epi8(NBLSTM_ZERO, NBLSTM_EIGHT_BYTES(w)), 8)
#define NBLSTM_NIBBLES(w) _mm_unpacklo_epi8(NBLSTM_EIGHT_BYTES(w), NBLSTM_ZERO)
#define NBLSTM_LOW(w) _mm_sub_epi16(_mm_and_si128(NBLSTM_NIBBLES(w), _mm_set1_epi16(15)), _mm_set1_epi16(8))
#define NBLSTM_HIGH(w) _mm_sub_epi16(_mm_srli_epi16(NBLSTM_NIBBLES(w), 4), _mm_set1_epi16(8))
#define NBLSTM_ADD(sum, w, x) _mm_add_epi32(sum, _mm_madd_epi16(w, x))
#elif defined(__ARM_NEON) || defined(__ARM_NEON__)
#include <arm_neon.h>
typedef int32x4_t nblstm_vector;
#define NBLSTM_LANES 8
#define NBLSTM_ZERO vdupq_n_s32(0)
#define NBLSTM_LOAD(x) vld1q_s16(x)
#define NBLSTM_WIDEN(w) vmovl_s8(vld1_s8(w))
#define NBLSTM_NIBBLES(w) vreinterpretq_s16_u16(vmovl_u8(vld1_u8(w)))
#define NBLSTM_LOW(w) vsubq_s16(vandq_s16(NBLSTM_NIBBLES(w), vdupq_n_s16(15)), vdupq_n_s16(8))
#define NBLSTM_HIGH(w) vsubq_s16(vshrq_n_s16(NBLSTM_NIBBLES(w), 4), vdupq_n_s16(8))
#define NBLSTM_ADD(sum, w, x) nblstm_add(sum, w, x)
static nblstm_vector nblstm_add(nblstm_vector sum, int16x8_t w, int16x8_t x)
{
    sum = vmlal_s16(sum, vget_low_s16(w), vget_low_s16(x));
    return vmlal_s16(sum, vget_high_s16(w), vget_high_s16(x));
}
#define NBLSTM_STORE(s, a) vst1q_s32(s, a)
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
typedef v128_t nblstm_vector;
#define NBLSTM_LANES 8
#define NBLSTM_ZERO wasm_i32x4_splat(0)
#define NBLSTM_LOAD(x) wasm_v128_load(x)
#define NBLSTM_WIDEN(w) wasm_i16x8_load8x8(w)
#define NBLSTM_LOW(w) wasm_i16x8_sub(wasm_v128_and(wasm_u16x8_load8x8(w), wasm_i16x8_splat(15)), wasm_i16x8_splat(8))
#define NBLSTM_HIGH(w) wasm_i16x8_sub(wasm_u16x8_shr(wasm_u16x8_load8x8(w), 4), wasm_i16x8_splat(8))
#define NBLSTM_ADD(sum, w, x) wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(w, x))
#define NBLSTM_STORE(s, a) wasm_v128_store(s, a)
#else
typedef int32_t nblstm_vector;
#define NBLSTM_LANES 1
#define NBLSTM_ZERO 0
#define NBLSTM_LOAD(x) (*(x))
#define NBLSTM_WIDEN(w) (*(w))
#define NBLSTM_LOW(w) ((*(w) & 15) - 8)
#define NBLSTM_HIGH(w) ((*(w) >> 4) - 8)
#define NBLSTM_ADD(sum, w, x) ((sum) + (w) * (x))
#define NBLSTM_STORE(s, a) (*(s) = (a))
#endif

/* s[j] = the sum of a[j]'s lanes. */
static void nblstm_sums(int32_t *s, const nblstm_vector *a)
{
#if defined(NBLSTM_HALVES)
    __m256i two = _mm256_hadd_epi32(NBLSTM_HALVES(a[0]), NBLSTM_HALVES(a[1]));
    __m256i other = _mm256_hadd_epi32(NBLSTM_HALVES(a[2]), NBLSTM_HALVES(a[3]));
    __m256i four = _mm256_hadd_epi32(two, other);
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
    _mm_storeu_si128((__m128i *)(void *)s, sum);
#elif defined(__SSE2__)
    __m128i p = _mm_add_epi32(_mm_unpacklo_epi32(a[0], a[1]), _mm_unpackhi_epi32(a[0], a[1]));
    __m128i q = _mm_add_epi32(_mm_unpacklo_epi32(a[2], a[3]), _mm_unpackhi_epi32(a[2], a[3]));
    _mm_storeu_si128((__m128i *)(void *)s, _mm_add_epi32(_mm_unpacklo_epi64(p, q), _mm_unpackhi_epi64(p, q)));
#else
    int32_t lanes[4] = {0, 0, 0, 0};
    int j;
    for (j = 0; j < 4; j++) {
        NBLSTM_STORE(lanes, a[j]);
        s[j] = lanes[0] + lanes[1] + lanes[2] + lanes[3];
    }
#endif
}
"""

INT_PRODUCT = r"""
/* ---------------------------------------------------------------- matrices */

#define NBLSTM_BLOCK @block@  /* inputs that are summed in int32: 512 * 127 * 32767 < 2^31 */

typedef struct { const nblstm_weight *w; const nblstm_scale *scale; int rows, columns; } nblstm_matrix;

/* q = x (n) in steps of the unit that is returned; zeros behind them, up to a multiple of 32. */
static float nblstm_prepare(const float *x, int n, nblstm_number *q)
{
    nblstm_bits u;
    int32_t most = 0;
    float scale;
    int k;
    for (k = 0; k < n; k++) {
        int32_t size;
        u.f = x[k];
        size = (int32_t)(u.i & 0x7fffffffu);
        most = size > most ? size : most; /* positive floats are ordered as their bits are */
    }
    u.i = (uint32_t)most;
    scale = u.f > 1e-30f ? 32767.0f / u.f : 0.0f;
    for (k = 0; k < n; k++) {
        q[k] = (int16_t)((int)(x[k] * scale + 32768.5f) - 32768); /* to the nearest */
    }
    for (; k % 32; k++) q[k] = 0;
    return u.f > 1e-30f ? u.f / 32767.0f : 0.0f;
}

/* y (rows) += matrix q, in units. Four rows at once; the matrix has zeros behind its last row. */
static void nblstm_product(float *y, const nblstm_matrix *m, const nblstm_number *q, float unit)
{
    const int columns = m->columns, stride = @stride@;
    int row, start, k, j;
    for (row = 0; row < m->rows; row += 4) {
        const nblstm_weight *w = m->w + (long)row * stride;
        float total[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        for (start = 0; start < columns; start += NBLSTM_BLOCK) {
            nblstm_vector a[4];
            int32_t s[4];
            const int stop = columns - start < NBLSTM_BLOCK ? columns : start + NBLSTM_BLOCK;
            a[0] = a[1] = a[2] = a[3] = NBLSTM_ZERO;
@inner@
            nblstm_sums(s, a);
            for (j = 0; j < 4; j++) total[j] += @partial@;
        }
        for (j = 0; j < 4; j++) total[j] *= @scale@;
        if (row + 4 <= m->rows) { /* all is read before any is written, so that a compiler may take four at once */
            float *place = y + row;
            for (j = 0; j < 4; j++) total[j] += place[j];
            for (j = 0; j < 4; j++) place[j] = total[j];
        } else
            for (j = 0; row + j < m->rows; j++) y[row + j] += total[j];
    }
}

/* y (count * columns) = rows first .. first + count of the matrix. */
static void nblstm_rows(float *y, const nblstm_matrix *m, long first, int count)
{
    long row;
    int k;
    for (row = first; row < first + count; row++)
        for (k = 0; k < m->columns; k++) *y++ = @number@;
}
"""

INT8 = {
    "block": "512", "stride": "columns", "partial": "(float)s[j]", "scale": "m->scale[row + j] * unit",
    "number": "(float)m->w[row * m->columns + k] * m->scale[row]",
    "types": "typedef int8_t nblstm_weight;\ntypedef float nblstm_scale;\n",
    "avx512": "defined(__AVX512BW__) && defined(__AVX512F__)",
    "inner": """\
            for (k = start; k < stop; k += NBLSTM_LANES) {
                a[0] = NBLSTM_ADD(a[0], NBLSTM_WIDEN(w + k), NBLSTM_LOAD(q + k));
                a[1] = NBLSTM_ADD(a[1], NBLSTM_WIDEN(w + stride + k), NBLSTM_LOAD(q + k));
                a[2] = NBLSTM_ADD(a[2], NBLSTM_WIDEN(w + 2 * stride + k), NBLSTM_LOAD(q + k));
                a[3] = NBLSTM_ADD(a[3], NBLSTM_WIDEN(w + 3 * stride + k), NBLSTM_LOAD(q + k));
            }""",
}  # fmt: skip

INT4 = {
    "block": "32", "stride": "columns / 2", "scale": "unit",
    "partial": "(float)s[j] * nblstm_float(m->scale[((long)(row + j) * columns + start) / NBLSTM_BLOCK])",
    "number": "nblstm_nibble(m, row, k)",
    "types": "typedef uint8_t nblstm_weight;\ntypedef uint16_t nblstm_scale;\n",
    "avx512": "0",
    "inner": """\
            (void)stop;
            for (k = 0; k < 16; k += NBLSTM_LANES)
                for (j = 0; j < 4; j++) {
                    const nblstm_weight *p = w + (long)j * stride + start / 2 + k;
                    a[j] = NBLSTM_ADD(a[j], NBLSTM_LOW(p), NBLSTM_LOAD(q + start + k));
                    a[j] = NBLSTM_ADD(a[j], NBLSTM_HIGH(p), NBLSTM_LOAD(q + start + 16 + k));
                }""",
}  # fmt: skip

NIBBLE = r"""
/* Column k of a row: the low half of byte k of its 32 columns is column k, the high half column k + 16. */
static float nblstm_nibble(const nblstm_matrix *m, long row, int k)
{
    const nblstm_weight byte = m->w[(row * m->columns + k / 32 * 32) / 2 + k % 16];
    return (float)((k % 32 < 16 ? byte & 15 : byte >> 4) - 8) * nblstm_float(m->scale[(row * m->columns + k) / 32]);
}
"""

BITS = r"""
typedef union { float f; uint32_t i; } nblstm_bits;
"""

BFLOAT = r"""
/* A bfloat16 as a float. */
static float nblstm_float(uint16_t half)
{
    nblstm_bits u;
    u.i = (uint32_t)half << 16;
    return u.f;
}
"""

FLOAT_VECTORS = r"""
/* ---------------------------------------------------------------- vectors: LANES products of floats */

typedef float nblstm_number;

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
typedef __m256 nblstm_vector;
#define NBLSTM_LANES 8
#define NBLSTM_ZERO _mm256_setzero_ps()
#define NBLSTM_LOAD(x) _mm256_loadu_ps(x)
#define NBLSTM_HALF(w) _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(w)))
#define NBLSTM_WIDEN(w) _mm256_castsi256_ps(_mm256_slli_epi32(NBLSTM_HALF(w), 16))
#define NBLSTM_ADD(sum, w, x) _mm256_fmadd_ps(w, x, sum)
#define NBLSTM_STORE(s, a) _mm_storeu_ps(s, _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)))
#elif defined(__SSE2__)
#include <emmintrin.h>
typedef __m128 nblstm_vector;
#define NBLSTM_LANES 4
#define NBLSTM_ZERO _mm_setzero_ps()
#define NBLSTM_LOAD(x) _mm_loadu_ps(x)
#define NBLSTM_HALF(w) _mm_loadl_epi64((const __m128i *)(const void *)(w))
#define NBLSTM_WIDEN(w) _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), NBLSTM_HALF(w)))
#define NBLSTM_ADD(sum, w, x) _mm_add_ps(sum, _mm_mul_ps(w, x))
#define NBLSTM_STORE(s, a) _mm_storeu_ps(s, a)
#elif defined(__ARM_NEON) || defined(__ARM_NEON__)
#include <arm_neon.h>
typedef float32x4_t nblstm_vector;
#define NBLSTM_LANES 4
#define NBLSTM_ZERO vdupq_n_f32(0.0f)
#define NBLSTM_LOAD(x) vld1q_f32(x)
#define NBLSTM_WIDEN(w) vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(w), 16))
#define NBLSTM_ADD(sum, w, x) vmlaq_f32(sum, w, x)
#define NBLSTM_STORE(s, a) vst1q_f32(s, a)
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
typedef v128_t nblstm_vector;
#define NBLSTM_LANES 4
#define NBLSTM_ZERO wasm_f32x4_splat(0.0f)
#define NBLSTM_LOAD(x) wasm_v128_load(x)
#define NBLSTM_WIDEN(w) wasm_i32x4_shl(wasm_u32x4_load16x4(w), 16)
#define NBLSTM_ADD(sum, w, x) wasm_f32x4_add(sum, wasm_f32x4_mul(w, x))
#define NBLSTM_STORE(s, a) wasm_v128_store(s, a)
#else
typedef float nblstm_vector;
#define NBLSTM_LANES 1
#define NBLSTM_ZERO 0.0f
#define NBLSTM_LOAD(x) (*(x))
#define NBLSTM_WIDEN(w) nblstm_float(*(w))
#define NBLSTM_ADD(sum, w, x) ((sum) + (w) * (x))
#define NBLSTM_STORE(s, a) (*(s) = (a))
#endif
"""

FLOAT_PRODUCT = r"""
/* ---------------------------------------------------------------- matrices */

typedef struct { const nblstm_weight *w; int rows, columns; } nblstm_matrix;

/* q = x (n), zeros behind them up to a multiple of 16; the unit is 1. */
static float nblstm_prepare(const float *x, int n, nblstm_number *q)
{
    int k;
    for (k = 0; k < n; k++) q[k] = x[k];
    for (; k % 16; k++) q[k] = 0.0f;
    return 1.0f;
}

/* y (rows) += matrix q. Four rows at once; the matrix has zeros behind its last row. */
static void nblstm_product(float *y, const nblstm_matrix *m, const nblstm_number *q, float unit)
{
    const int columns = m->columns;
    int row, k, j;
    for (row = 0; row < m->rows; row += 4) {
        const nblstm_weight *w = m->w + (long)row * columns;
        nblstm_vector a[4];
        a[0] = a[1] = a[2] = a[3] = NBLSTM_ZERO;
        for (k = 0; k < columns; k += NBLSTM_LANES) {
            a[0] = NBLSTM_ADD(a[0], @load@(w + k), NBLSTM_LOAD(q + k));
            a[1] = NBLSTM_ADD(a[1], @load@(w + columns + k), NBLSTM_LOAD(q + k));
            a[2] = NBLSTM_ADD(a[2], @load@(w + 2 * columns + k), NBLSTM_LOAD(q + k));
            a[3] = NBLSTM_ADD(a[3], @load@(w + 3 * columns + k), NBLSTM_LOAD(q + k));
        }
        for (j = 0; j < 4 && row + j < m->rows; j++) {
            float lanes[4] = {0.0f, 0.0f, 0.0f, 0.0f};
            NBLSTM_STORE(lanes, a[j]);
            y[row + j] += ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) * unit;
        }
    }
}

/* y (count * columns) = rows first .. first + count of the matrix. */
static void nblstm_rows(float *y, const nblstm_matrix *m, long first, int count)
{
    long k;
    for (k = first * m->columns; k < (first + count) * m->columns; k++) *y++ = @number@;
}
"""

FLOAT32 = {"load": "NBLSTM_LOAD", "number": "m->w[k]", "types": "typedef float nblstm_weight;\n"}
BFLOAT16 = {"load": "NBLSTM_WIDEN", "number": "nblstm_float(m->w[k])", "types": "typedef uint16_t nblstm_weight;\n"}

STEP = r"""
/* ---------------------------------------------------------------- a step */

#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__)
#pragma GCC push_options
#pragma GCC optimize("O3") /* for many numbers at once, at -O2 too */
#define NBLSTM_OPTIMIZED
#endif

/* e^x = 2^k e^r, |r| <= ln(2) / 2 (the polynomial is that of Cephes' expf). */
static float nblstm_exp(float x)
{
    nblstm_bits u;
    float r, p;
    int32_t size;
    int k;
    u.f = x; /* |x| <= 87, compared as integers: what has no branch is made for many numbers at once */
    size = (int32_t)(u.i & 0x7fffffffu);
    size = size < 0x42ae0000 ? size : 0x42ae0000;
    u.i = (u.i & 0x80000000u) | (uint32_t)size;
    x = u.f;
    k = (int)(x * 1.44269504f + 127.5f) - 127; /* to the nearest: what is cut off is positive */
    r = x - (float)k * 0.693359375f;
    r = r + (float)k * 2.12194440e-4f;
    p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    u.i = (uint32_t)(k + 127) << 23;
    return (p * r * r + r + 1.0f) * u.f;
}
@functions@
#ifdef NBLSTM_OPTIMIZED
#pragma GCC pop_options
#endif

@step@
"""

STEP_CODE = r"""
/* A step of a cell. Its inputs are x (n), or where x is 0 the pre-activations z that they make; h and c become the next. */
static void nblstm_step(const nblstm_layer *l, const float *x, int n, float *z, float *h, float *c)
{
    float y[NBLSTM_H];@other@
    nblstm_number q[@widest@];
    float unit;
    int i;
    (void)x, (void)n, (void)c, (void)q, (void)unit;
@products@
@cell@
@output@
}
"""

FEED = r"""
void nblstm_init(nblstm_state *state)
{
    int k;
    for (k = 0; k < (int)(sizeof nblstm_h / sizeof *nblstm_h); k++) state->h[k] = nblstm_h[k];
    for (k = 0; k < (int)(sizeof nblstm_c / sizeof *nblstm_c); k++) state->c[k] = nblstm_c[k];
    for (k = 0; k < @features@; k++) state->features[k] = 0.0f;
}

void nblstm_feed(nblstm_state *state, int token)
{
    float x[@widest@], z[@pre@];
    int layer, i;
@read@
    for (layer = 0; layer < NBLSTM_LAYERS; layer++) {
        float *h = state->h + layer * NBLSTM_P;
        nblstm_step(&nblstm_layers[layer], @first_input@, layer ? NBLSTM_P : @embedding@, z, h, @memory@);@carry@
    }
    for (i = 0; i < NBLSTM_P; i++) state->features[i] = x[i];@beside@
}

void nblstm_logits(const nblstm_state *state, float *logits)
{
    nblstm_number q[@widest@];
    float unit = nblstm_prepare(state->features, @features@, q);
    int k;
    for (k = 0; k < NBLSTM_VOCAB; k++) logits[k] = nblstm_head_bias[k];
    nblstm_product(logits, &nblstm_head, q, unit);
}
"""

SIGMOID = r"""
static void nblstm_sigmoid(float *x, int n)
{
    int k;
    for (k = 0; k < n; k++) x[k] = 1.0f / (1.0f + nblstm_exp(-x[k]));
}
"""

TANH = r"""
static void nblstm_tanh(float *x, int n)
{
    int k;
    for (k = 0; k < n; k++) x[k] = 2.0f / (1.0f + nblstm_exp(-2.0f * x[k])) - 1.0f;
}
"""

NORMALIZE = r"""
/* x = gain (x - mean) / deviation, and the bias on top, if there is one. */
static void nblstm_normalize(float *x, int n, const float *gain, const float *bias)
{
    nblstm_bits u;
    float mean = 0.0f, variance = 0.0f, y;
    int k;
    for (k = 0; k < n; k++) mean += x[k];
    mean /= (float)n;
    for (k = 0; k < n; k++) variance += (x[k] - mean) * (x[k] - mean);
    variance = variance / (float)n + 1e-5f;
    u.f = variance; /* 1 / sqrt: half the exponent, then Newton's steps */
    u.i = 0x5f3759dfu - (u.i >> 1);
    y = u.f;
    for (k = 0; k < 4; k++) y *= 1.5f - 0.5f * variance * y * y;
    for (k = 0; k < n; k++) x[k] = (x[k] - mean) * y * gain[k] + (bias ? bias[k] : 0.0f);
}
"""

PRODUCT_OF_INPUT = """\
    if (x) {
        for (i = 0; i < NBLSTM_GATES * NBLSTM_H; i++) z[i] = @begin@;
        unit = nblstm_prepare(x, n, q);
        nblstm_product(z, &l->input, q, unit);@normalized@
    }"""
RECURRENT_CODE = """\
    unit = nblstm_prepare(h, NBLSTM_P, q);
    nblstm_product(z, &l->recurrent, q, unit);"""
RECURRENT_APART = """\
    for (i = 0; i < NBLSTM_GATES * NBLSTM_H; i++) b[i] = 0.0f;
    unit = nblstm_prepare(h, NBLSTM_P, q);
    nblstm_product(b, &l->recurrent, q, unit);@normalized@
@joined@"""
HIDDEN_BIAS = "    for (i = 0; i < NBLSTM_H; i++) b[2 * NBLSTM_H + i] += l->hidden_bias[i];"
SUM_OF_BOTH = "    for (i = 0; i < NBLSTM_GATES * NBLSTM_H; i++) z[i] += b[i];"
NORMALIZED_INPUT = """
        nblstm_normalize(z, NBLSTM_GATES * NBLSTM_H, l->gain_ih, l->bias);"""
NORMALIZED_RECURRENT = """
    nblstm_normalize(b, NBLSTM_GATES * NBLSTM_H, l->gain_hh, 0);"""
NORMALIZED_MEMORY = """\
    nblstm_normalize(y, NBLSTM_H, l->gain_c, l->bias_c);
"""

CELLS_CODE = {
    "lstm": """\
    /* i, f, o = sigmoid, g = tanh; c = f c + i g; h = o tanh(c) */
    nblstm_sigmoid(z, 2 * NBLSTM_H);
    nblstm_tanh(z + 2 * NBLSTM_H, NBLSTM_H);
    nblstm_sigmoid(z + 3 * NBLSTM_H, NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) y[i] = c[i] = z[NBLSTM_H + i] * c[i] + z[i] * z[2 * NBLSTM_H + i];
@squash@    nblstm_tanh(y, NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) y[i] *= z[3 * NBLSTM_H + i];""",
    "peepholes": """\
    /* i, f = sigmoid(z + p c), g = tanh; c = f c + i g; o = sigmoid(z + p c); h = o tanh(c) */
    for (i = 0; i < NBLSTM_H; i++) {
        z[i] += l->peepholes[i] * c[i];
        z[NBLSTM_H + i] += l->peepholes[NBLSTM_H + i] * c[i];
    }
    nblstm_sigmoid(z, 2 * NBLSTM_H);
    nblstm_tanh(z + 2 * NBLSTM_H, NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) {
        y[i] = c[i] = z[NBLSTM_H + i] * c[i] + z[i] * z[2 * NBLSTM_H + i];
        z[3 * NBLSTM_H + i] += l->peepholes[2 * NBLSTM_H + i] * c[i];
    }
    nblstm_sigmoid(z + 3 * NBLSTM_H, NBLSTM_H);
@squash@    nblstm_tanh(y, NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) y[i] *= z[3 * NBLSTM_H + i];""",
    "update-lstm": """\
    /* i, f, o, u = sigmoid, g = tanh; c = u (f c + i g) + (1 - u) c; h = o tanh(c) */
    nblstm_sigmoid(z, 2 * NBLSTM_H);
    nblstm_tanh(z + 2 * NBLSTM_H, NBLSTM_H);
    nblstm_sigmoid(z + 3 * NBLSTM_H, 2 * NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) {
        const float new_c = z[NBLSTM_H + i] * c[i] + z[i] * z[2 * NBLSTM_H + i], u = z[4 * NBLSTM_H + i];
        y[i] = c[i] = u * new_c + (1.0f - u) * c[i];
    }
@squash@    nblstm_tanh(y, NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) y[i] *= z[3 * NBLSTM_H + i];""",
    "gru": """\
    /* r, u = sigmoid(a + b); n = tanh(a + r b); h = (1 - u) n + u h */
    for (i = 0; i < 2 * NBLSTM_H; i++) z[i] += b[i];
    nblstm_sigmoid(z, 2 * NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) y[i] = z[2 * NBLSTM_H + i] + z[i] * b[2 * NBLSTM_H + i];
    nblstm_tanh(y, NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) y[i] = (1.0f - z[NBLSTM_H + i]) * y[i] + z[NBLSTM_H + i] * h[i];""",
    "mingru": """\
    /* u = sigmoid(z); h = (1 - u) h + u n */
    nblstm_sigmoid(z, NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) y[i] = (1.0f - z[i]) * h[i] + z[i] * z[NBLSTM_H + i];""",
    "tanh": """\
    for (i = 0; i < NBLSTM_H; i++) y[i] = z[i];
    nblstm_tanh(y, NBLSTM_H);""",
    "relu": """\
    for (i = 0; i < NBLSTM_H; i++) y[i] = z[i] > 0.0f ? z[i] : 0.0f;""",
}

OUTPUT_CODE = """\
    for (i = 0; i < NBLSTM_H; i++) h[i] = y[i];"""
PROJECTED = """\
    unit = nblstm_prepare(y, NBLSTM_H, q);
    for (i = 0; i < NBLSTM_P; i++) h[i] = 0.0f;
    nblstm_product(h, &l->projection, q, unit);"""
PLAIN = """
        for (i = 0; i < NBLSTM_P; i++) x[i] = h[i];"""
RESIDUAL = """
        for (i = 0; i < NBLSTM_P; i++) x[i] = h[i] + (@first@ ? x[i] : 0.0f);"""

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

TEXT_CODE = r"""
/* ---------------------------------------------------------------- text */

int nblstm_text(int before, int token, const char **text)
{
    const uint32_t start = nblstm_offsets[token];
    int size = (int)(nblstm_offsets[token + 1] - start);
    *text = (const char *)nblstm_bytes + start;@spacing@
    (void)before;
    return size;
}
"""

SPACING = r"""
    if (size && **text == ' ') { /* words are stored with the blank that stands between two of them */
        const char last = before < 0 || nblstm_offsets[before] == nblstm_offsets[before + 1] ? '\n'
            : (char)nblstm_bytes[nblstm_offsets[before]];
        if (last == '\n') ++*text, --size;
    }"""

ENCODE_BYTES = r"""
@linkage@const char *nblstm_encode(const char *text, const char *end@blank_parameter@, int *token)
{
    *token = text < end ? (unsigned char)*text++ : -1;
    return text;
}
"""

FIND = r"""
/* The token of these bytes; 0, which is <unk>, if there is none. */
static int nblstm_find(const char *text, long size@blank_parameter@)
{
    int token;
    long k;
    for (token = 1; token < NBLSTM_VOCAB; token++) {
        const char *own = (const char *)nblstm_bytes + nblstm_offsets[token];
        long length = (long)(nblstm_offsets[token + 1] - nblstm_offsets[token]);@skip@@blank@
        if (length != size || !size) continue;
        for (k = 0; k < size && own[k] == text[k]; k++) {}
        if (k == size) return token;
    }
    return 0;
}

/* The text behind its first character, whose code point is *code; a byte that is no UTF-8 is a character too. */
static const char *nblstm_next(const char *text, const char *end, uint32_t *code)
{
    const unsigned char *p = (const unsigned char *)text;
    const int more = p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 1 : p[0] < 0xf0 ? 2 : 3;
    int k;
    *code = more ? p[0] & (0x3fu >> more) : p[0];
    for (k = 1; k <= more; k++) {
        if (text + k >= end || (p[k] & 0xc0) != 0x80) {
            *code = p[0];
            return text + 1;
        }
        *code = *code << 6 | (p[k] & 0x3fu);
    }
    return text + more + 1;
}
"""

SKIP = r"""
        if (length && *own == ' ') ++own, --length;"""

BLANK = r"""
        if (blank) { /* as if one stood before the text */
            if (!length || *own != ' ') continue;
            ++own, --length;
        }"""

ENCODE_CHARS = r"""
@linkage@const char *nblstm_encode(const char *text, const char *end@blank_parameter@, int *token)
{
    uint32_t code;
    const char *rest;
    *token = -1;
    if (text >= end) return end;
    rest = nblstm_next(text, end, &code);
    *token = nblstm_find(text, rest - text@blank_value@);
    return rest;
}
"""

RANGES = r"""
static int nblstm_within(uint32_t code, const uint32_t *ranges, int count)
{
    int low = 0, high = count / 2;
    while (low < high) { /* the last range that does not begin behind the code point */
        const int middle = (low + high) / 2;
        if (ranges[2 * middle] <= code) low = middle + 1;
        else high = middle;
    }
    return low && code <= ranges[2 * low - 1];
}

#define NBLSTM_IN(code, ranges) nblstm_within(code, ranges, (int)(sizeof ranges / sizeof *ranges))
"""

ENCODE_WORDS = r"""
/* The text behind the letters, digits and underscores that it begins with. */
static const char *nblstm_letters(const char *text, const char *end)
{
    uint32_t code;
    while (text < end) {
        const char *rest = nblstm_next(text, end, &code);
        if (!NBLSTM_IN(code, nblstm_letter)) break;
        text = rest;
    }
    return text;
}

/* A word with what an apostrophe ties to it, or another character; either takes one blank before it along. */
@linkage@const char *nblstm_encode(const char *text, const char *end@blank_parameter@, int *token)
{
    const char *start = text, *rest, *more;
    uint32_t code = 0;
    *token = -1;
    if (text >= end) return end;
    if (*text == ' ' && text + 1 < end) {
        (void)nblstm_next(text + 1, end, &code);
        if (!NBLSTM_IN(code, nblstm_space)) start++;
    }
    rest = nblstm_letters(start, end);
    if (rest == start) rest = nblstm_next(start, end, &code);
    else
        while (rest < end) {
            const char *behind = nblstm_next(rest, end, &code);
            if (code != '\'' && code != 0x2019) break;
            more = nblstm_letters(behind, end);
            if (more == behind) break;
            rest = more;
        }
    *token = nblstm_find(text, rest - text@blank_value@);
    return rest;
}
"""

ENCODE_SPACED = r"""
/* What stands between blanks, or a line end. */
@linkage@const char *nblstm_encode(const char *text, const char *end@blank_parameter@, int *token)
{
    const char *rest = text;
    uint32_t code;
    *token = -1;
    for (;; text = rest) {
        if (text >= end) return end;
        rest = nblstm_next(text, end, &code);
        if (code == '\n' || !NBLSTM_IN(code, nblstm_space)) break;
    }
    while (code != '\n' && rest < end) {
        const char *behind = nblstm_next(rest, end, &code);
        if (NBLSTM_IN(code, nblstm_space)) break;
        rest = behind;
    }
    *token = nblstm_find(text, rest - text@blank_value@);
    return rest;
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
