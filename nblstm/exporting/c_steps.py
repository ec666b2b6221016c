"""The C of a step: what a token does to the state, in the parts that a network may have."""

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

FEED = r"""void nblstm_init(nblstm_state *state)
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

FUNCTIONS = {
    "nblstm_sigmoid": SIGMOID,
    "nblstm_tanh": TANH,
    "nblstm_normalize": NORMALIZE,
}  # in their order, where called
