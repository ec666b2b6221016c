"""The C of products: a matrix times a vector, four rows at a time.

What differs between machines is a handful of macros: a vector of LANES numbers, how it is loaded, multiplied and summed.
Where none of them fits, a vector is one number.
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
    "block": "512",
    "stride": "columns",
    "partial": "(float)s[j]",
    "scale": "m->scale[row + j] * unit",
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
}

INT4 = {
    "block": "32",
    "stride": "columns / 2",
    "scale": "unit",
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
}

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
