"""The C of a tagger, where it is another than a classifier's; see `c_source` and `c_classifier_source`."""

from __future__ import annotations

from nblstm.exporting.c_source import SIZES_BOTH_WAYS

TAGGER_HEAD = {
    "usage": r"""< words
 *                 (a word a line, or a line of columns that begins with one; an empty line behind a sentence)""",
    "example": r""" *     static nblstm_work work; const char *words[] = {"Ada", "lives", "in", "Bonn"}; int tags[4];
 *     nblstm_tag(&work, words, 4, tags);
 *     printf("%s is %s\n", words[3], nblstm_tag_name(tags[3]));""",
    "declarations": r"""#define NBLSTM_VOCAB @vocab@    /* words that it knows */
#define NBLSTM_TAGS @labels@
#ifndef NBLSTM_WORDS
#define NBLSTM_WORDS @max_length@  /* of a sentence that are read together, a longer one in parts; define less for less memory */
#endif

/* Scratch of one caller: nothing is kept in it from sentence to sentence. */
typedef struct {
    int tokens[NBLSTM_WORDS];
    float spelled[NBLSTM_WORDS * @spelled_room@];
    float outputs[@buffers@][NBLSTM_WORDS * @outputs_of_layer@];
    float scores[NBLSTM_WORDS * NBLSTM_TAGS];
    @from_type@ from[NBLSTM_WORDS * NBLSTM_TAGS];
} nblstm_work;

/* The tags (count) of the words of a sentence, UTF-8 texts that end with a NUL and hold no blank. */
void nblstm_tag(nblstm_work *work, const char *const *words, int count, int *tags);
/* A tag's name. */
const char *nblstm_tag_name(int tag);""",
    "include": "#include <stddef.h>\n",
    "sizes": SIZES_BOTH_WAYS,
    "more_sizes": """#define NBLSTM_SPELL_H @spell_hidden@   /* of the layer that reads a word's characters */
#define NBLSTM_SPELL_P NBLSTM_SPELL_H
#define NBLSTM_SPELL_GATES 4
""",
}

LOOK_UP = r"""
/* Put the bytes of a text behind those of a word, if there is room; the word's new size, or more than it can have. */
static int nblstm_append(char *word, int size, const char *text, long count)
{
    long k;
    if (size + count > NBLSTM_LONGEST) return NBLSTM_LONGEST + 1;
    for (k = 0; k < count; k++) word[size++] = text[k];
    return size;
}

/* The word's number in the vocabulary, 0 if it is not there: as it is looked up, in lower case, say. */
static int nblstm_look_up(const char *text, const char *end)
{
    char word[NBLSTM_LONGEST + 1];
    int size = 0;
    while (text < end && size <= NBLSTM_LONGEST) {
        uint32_t code;
        const char *rest = nblstm_next(text, end, &code);
        (void)code;
@fold@
        size = nblstm_append(word, size, text, rest - text);
        text = rest;
    }
    return size <= NBLSTM_LONGEST ? nblstm_find(word, size) : 0;
}
"""

FOLD_DIGITS = r"""
        if (NBLSTM_IN(code, nblstm_digit)) {
            size = nblstm_append(word, size, "0", 1);
            text = rest;
            continue;
        }"""

FOLD_CASE = r"""
        {
            int low = 0, high = (int)(sizeof nblstm_capital / sizeof *nblstm_capital);
            while (low < high) { /* the first capital that is not below the code point */
                const int middle = (low + high) / 2;
                if (nblstm_capital[middle] < code) low = middle + 1;
                else high = middle;
            }
            if (low < (int)(sizeof nblstm_capital / sizeof *nblstm_capital) && nblstm_capital[low] == code) {
                const char *small = (const char *)nblstm_small + nblstm_small_at[low];
                size = nblstm_append(word, size, small, (long)(nblstm_small_at[low + 1] - nblstm_small_at[low]));
                text = rest;
                continue;
            }
        }"""

SPELLING = r"""
/* out (2 * NBLSTM_SPELL_H) = what both directions make of a word's characters. */
static void nblstm_spell(const char *text, const char *end, float *out)
{
    float row[@spell_row@], z[NBLSTM_SPELL_GATES * NBLSTM_SPELL_H], c[NBLSTM_SPELL_H], *h;
    int letters[@characters@], count = 0, direction, k, i;
    for (; text < end && count < @characters@; count++) {
        int low = 0, high = (int)(sizeof nblstm_known / sizeof *nblstm_known);
        uint32_t code;
        text = nblstm_next(text, end, &code);
        while (low < high) { /* the first known character that is not below the code point */
            const int middle = (low + high) / 2;
            if (nblstm_known[middle] < code) low = middle + 1;
            else high = middle;
        }
        letters[count] = 0;
        if (low < (int)(sizeof nblstm_known / sizeof *nblstm_known) && nblstm_known[low] == code)
            letters[count] = nblstm_known_as[low];
    }
    for (direction = 0; direction < 2; direction++) {
        h = out + direction * NBLSTM_SPELL_H;
        for (i = 0; i < NBLSTM_SPELL_H; i++) h[i] = c[i] = 0.0f;
        for (k = 0; k < count; k++) {
            nblstm_rows(row, &nblstm_spell_head, letters[direction ? count - 1 - k : k], 1);
            nblstm_spell_step(&nblstm_spell_layers[direction], row, @spell_embedding@, z, h, c);
        }
    }
}
"""

READ_SPELLED = r"""
                for (i = 0; i < 2 * NBLSTM_SPELL_H; i++)
                    row[@embedding@ + i] = work->spelled[(long)t * 2 * NBLSTM_SPELL_H + i];"""

TAG_SCORES = r"""
/* The scores (count, NBLSTM_TAGS) of the tags of each word, in work. */
static void nblstm_scores(nblstm_work *work, int count)
{
    const float *x = nblstm_read_layers(work, count);
    nblstm_number q[@widest@];
    int t, k;
    for (t = 0; t < count; t++) {
        float *scores = work->scores + (long)t * NBLSTM_TAGS, unit;
        for (k = 0; k < NBLSTM_TAGS; k++) scores[k] = nblstm_head_bias[k];
        unit = nblstm_prepare(x + (long)t * NBLSTM_F, NBLSTM_F, q);
        nblstm_product(scores, &nblstm_head, q, unit);
    }
}

static void nblstm_read_words(nblstm_work *work, const char *const *words, int count)
{
    int t;
    for (t = 0; t < count; t++) {
        const char *end = words[t];
        while (*end) end++;
        work->tokens[t] = nblstm_look_up(words[t], end);
@spell@
    }
}
"""

VITERBI = r"""
/* The tags of the largest score, all together (Viterbi 1967): those that may follow each other, of equal ones the first. */
static void nblstm_best(nblstm_work *work, int count, int *tags)
{
    float *here = work->scores;
    int t, i, j;
    for (j = 0; j < NBLSTM_TAGS; j++) here[j] += nblstm_start[j];
    for (t = 1; t < count; t++) { /* best[j] = score[j] + max over i of best[i] + transition[i, j] */
        const float *before = here;
        here += NBLSTM_TAGS;
        for (j = 0; j < NBLSTM_TAGS; j++) {
            float most = before[0] + nblstm_transitions[j];
            int from = 0;
            for (i = 1; i < NBLSTM_TAGS; i++) {
                const float sum = before[i] + nblstm_transitions[i * NBLSTM_TAGS + j];
                if (sum > most) most = sum, from = i;
            }
            here[j] += most;
            work->from[(long)t * NBLSTM_TAGS + j] = (@from_type@)from;
        }
    }
    for (i = 0, j = 1; j < NBLSTM_TAGS; j++)
        if (here[j] + nblstm_end[j] > here[i] + nblstm_end[i]) i = j;
    for (t = count - 1; t > 0; t--) {
        tags[t] = i;
        i = work->from[(long)t * NBLSTM_TAGS + i];
    }
    tags[0] = i;
}
"""

EACH_BEST = r"""
/* The tag of the largest score of each word. */
static void nblstm_best(nblstm_work *work, int count, int *tags)
{
    int t, k;
    for (t = 0; t < count; t++) {
        const float *scores = work->scores + (long)t * NBLSTM_TAGS;
        for (tags[t] = 0, k = 1; k < NBLSTM_TAGS; k++)
            if (scores[k] > scores[tags[t]]) tags[t] = k;
    }
}
"""

SPANS = r"""
/* What a tag marks: tag 0 is O, tag 1 + 4 * type + letter one of B, I, E, S. */
#define NBLSTM_LETTER(tag) ((tag) ? "BIES"[((tag) - 1) % 4] : 'O')
#define NBLSTM_TYPE(tag) ((tag) ? ((tag) - 1) / 4 : -1)

static int nblstm_begins(int before, int now)
{
    const char a = NBLSTM_LETTER(before), b = NBLSTM_LETTER(now);
    if (b == 'B' || b == 'S') return 1;
    return (b == 'I' || b == 'E') && (a == 'E' || a == 'S' || a == 'O' || NBLSTM_TYPE(before) != NBLSTM_TYPE(now));
}

static int nblstm_ends(int now, int next)
{
    const char a = NBLSTM_LETTER(now), b = NBLSTM_LETTER(next);
    return a == 'E' || a == 'S' || b == 'B' || b == 'S' || b == 'O' || NBLSTM_TYPE(now) != NBLSTM_TYPE(next);
}

/* Mark the spans of tags as they were marked in what was learned: @scheme@. */
static void nblstm_rewrite(int *tags, int count)
{
    int t, before = 0;
    for (t = 0; t < count; t++) {
        const int now = tags[t], begins = nblstm_begins(before, now);
        const int ends = nblstm_ends(now, t + 1 < count ? tags[t + 1] : 0);
        const int behind = NBLSTM_TYPE(before) == NBLSTM_TYPE(now);
        (void)ends, (void)behind;
        if (now) tags[t] = 1 + 4 * NBLSTM_TYPE(now) + (@letter@);
        before = now;
    }
}
"""
LETTERS = {  # the place of a word's letter among B, I, E, S
    "iob1": "begins && behind ? 0 : 1",
    "iob2": "begins ? 0 : 1",
    "iobes": "begins ? (ends ? 3 : 0) : ends ? 2 : 1",
}

TAG = r"""
void nblstm_tag(nblstm_work *work, const char *const *words, int count, int *tags)
{
    int start, size;
    for (start = 0; start < count; start += size) {
        size = count - start < NBLSTM_WORDS ? count - start : NBLSTM_WORDS;
        nblstm_read_words(work, words + start, size);
        nblstm_scores(work, size);
        nblstm_best(work, size, tags + start);
    }
@rewrite@
}

const char *nblstm_tag_name(int tag)
{
    return nblstm_labels[tag];
}
"""

TAGGER_MAIN = r"""
/* ---------------------------------------------------------------- the program */

#ifdef NBLSTM_MAIN
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

@reference@
static int nblstm_test(nblstm_work *work)
{
    const int read = (int)(sizeof nblstm_read / sizeof *nblstm_read);
    const int count = read < NBLSTM_WORDS ? read : NBLSTM_WORDS;
    double most = 0.0, difference;
    int k;
    nblstm_read_words(work, nblstm_read, count);
    nblstm_scores(work, count);
    for (k = 0; k < count * NBLSTM_TAGS; k++) {
        difference = (double)work->scores[k] - (double)nblstm_reference[k];
        difference = difference < 0.0 ? -difference : difference;
        if (!(difference <= most)) most = difference;
    }
    printf("largest difference of %d scores: %.2g, allowed %.2g\n", k, most, @allowed@);
    return most <= @allowed@ ? 0 : 1;
}

typedef struct { char *text; size_t size, room; } nblstm_text; /* the lines of a sentence, a NUL behind each */

static int nblstm_add(nblstm_text *lines, char c)
{
    if (lines->size == lines->room) {
        char *wider = (char *)realloc(lines->text, lines->room = lines->room * 2 + 256);
        if (!wider) return 0;
        lines->text = wider;
    }
    lines->text[lines->size++] = c;
    return 1;
}

/* Print every line of a sentence with its tag behind it; the word is what stands before the first blank. */
static int nblstm_sentence(nblstm_work *work, const nblstm_text *lines, int count)
{
    char *copy = (char *)malloc(lines->size ? lines->size : 1);
    const char **words = (const char **)calloc((size_t)count, sizeof *words);
    int *tags = (int *)calloc((size_t)count, sizeof *tags), k, done = copy && words && tags;
    if (done) {
        char *word = copy;
        const char *line = lines->text;
        memcpy(copy, line, lines->size);
        for (k = 0; k < count; k++) {
            size_t size = strlen(word);
            words[k] = word;
            word[strcspn(word, " \t")] = 0;
            word += size + 1;
        }
        nblstm_tag(work, words, count, tags);
        for (k = 0; k < count; k++, line += strlen(line) + 1)
            printf("%s%c%s\n", line, strchr(line, '\t') ? '\t' : ' ', nblstm_tag_name(tags[k]));
    }
    free(copy);
    free(words);
    free(tags);
    return done;
}

static int nblstm_lines(nblstm_work *work)
{
    nblstm_text lines = {NULL, 0, 0};
    size_t begin = 0;
    int count = 0, done = 1, c;
    do {
        c = getchar();
        if (c != '\n' && c != EOF) {
            done = nblstm_add(&lines, (char)c);
            continue;
        }
        if (lines.size > begin && lines.text[lines.size - 1] == '\r') lines.size--;
        if (lines.size > begin) {
            done = nblstm_add(&lines, 0);
            begin = lines.size;
            count++;
        }
        else if (c != EOF || count) {
            done = !count || nblstm_sentence(work, &lines, count);
            if (c != EOF) putchar('\n');
            lines.size = begin = 0;
            count = 0;
        }
        if (c == EOF && count) done = nblstm_sentence(work, &lines, count);
    } while (done && c != EOF);
    free(lines.text);
    return done && !fflush(stdout) ? 0 : 1;
}

int main(int argc, char **argv)
{
    static nblstm_work work;
    if (argc == 2 && !strcmp(argv[1], "--test")) return nblstm_test(&work);
    if (argc > 1) {
        const int asked = !strcmp(argv[1], "-h") || !strcmp(argv[1], "--help");
        fprintf(asked ? stdout : stderr, "usage: %s [--test] < WORDS; a word a line, an empty one behind a sentence\n", argv[0]);
        return asked ? 0 : 2;
    }
    return nblstm_lines(&work);
}
#endif
#endif
"""
