"""The C of text: tokens from bytes and back, a kind of vocabulary each."""

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
    *token = -1;
    if (text >= end) return end;@line_end@
    *token = (unsigned char)*text;
    return text + 1;
}
"""

CARRIAGE_RETURN = r"""
    if (*text == '\r') { /* which is a line end, alone and before another */
        *token = @newline@;
        return text + 1 < end && text[1] == '\n' ? text + 2 : text + 1;
    }"""

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
    if (text >= end) return end;@line_end@
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
    if (text >= end) return end;@line_end@
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
        if (text >= end) return end;@line_end@
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
