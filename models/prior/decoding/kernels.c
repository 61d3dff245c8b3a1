/* The parts of a decode step that torch computes only by reading its input several times, or more of it than is needed:
 * attention to the text and to the image tokens in the ring buffers, and the log-sum-exp of the groups of tokens to sample
 * from. Here each is read once.
 *
 * Built for one element type at a time: bfloat16 with -DBFLOAT16, else float; with -DTEXT_INT8 the text's keys and values are
 * integers of 8 bits. Compiled and called by kernels.py.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))

/* Vectors of as many floats as the processor's registers hold, of which it has 32 or 16. */
#ifdef __AVX512F__
enum { LANES = 16, REGISTERS = 32 };
#else
enum { LANES = 8, REGISTERS = 16 };
#endif
typedef float vector __attribute__((vector_size(4 * LANES)));

#ifdef BFLOAT16
typedef uint16_t element;
typedef uint16_t elements __attribute__((vector_size(2 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));

INLINE float widen(element x) {
    union { uint32_t bits; float value; } u = {(uint32_t)x << 16};
    return u.value;
}

INLINE vector widen_all(elements x) { return (vector)(__builtin_convertvector(x, words) << 16); }

INLINE element narrow(float x) { /* to nearest, ties to even */
    union { float value; uint32_t bits; } u = {x};
    return (element)((u.bits + 0x7FFF + ((u.bits >> 16) & 1)) >> 16);
}
#else
typedef float element;
typedef vector elements;

INLINE float widen(element x) { return x; }

INLINE vector widen_all(elements x) { return x; }

INLINE element narrow(float x) { return x; }
#endif

INLINE vector load(const element *x) {
    elements all;
    memcpy(&all, x, sizeof all);
    return widen_all(all);
}

#ifdef TEXT_INT8
typedef int8_t text_element;
typedef int8_t text_elements __attribute__((vector_size(LANES)));
typedef int16_t halves __attribute__((vector_size(2 * LANES)));
typedef int32_t integers __attribute__((vector_size(4 * LANES)));

INLINE float widen_text(text_element x) { return x; }

INLINE vector load_text(const text_element *x) {
#ifdef __AVX512F__
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)x)));
#else
    text_elements all;
    memcpy(&all, x, sizeof all);
    halves wider = __builtin_convertvector(all, halves); /* step by step: all at once GCC makes no vector instructions */
    return __builtin_convertvector(__builtin_convertvector(wider, integers), vector);
#endif
}
#else
typedef element text_element;

INLINE float widen_text(text_element x) { return widen(x); }

INLINE vector load_text(const text_element *x) { return load(x); }
#endif

INLINE void store(float *to, vector x) { memcpy(to, &x, sizeof x); }

/* e^x for x <= 0, within 2e-7 of it: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes). */
INLINE float exp_negative(float x) {
    x = x < -87.0f ? -87.0f : x;
    float n = __builtin_rintf(x * 1.44269504f);
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    union { int32_t bits; float value; } power = {((int32_t)n + 127) << 23};
    return (p * r * r + r + 1.0f) * power.value;
}

INLINE float dot(const float *a, const element *b, int64_t count) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) sum += a[i] * widen(b[i]);
    return sum;
}

/* ---- Attention to the text ----
 *
 * Rows that read one caption do so in tiles of up to TILE, which read its keys and values once. Every number of a row is
 * added up in the same order in a tile of any size, so that it does not depend on the others. */

enum { TILE = REGISTERS / 4 };

/* Scores of the queries [tile, width] for as many keys as `vectors` hold; keys [width, room], scores [tile, room]. */
INLINE void score(int tile, int vectors, const float *query, const text_element *keys, int64_t width, int64_t room,
                  float *scores) {
    vector sum[tile][vectors];
    memset(sum, 0, sizeof sum);
    for (int64_t e = 0; e < width; e++)
        for (int j = 0; j < vectors; j++) {
            vector key = load_text(keys + e * room + j * LANES);
            for (int i = 0; i < tile; i++) sum[i][j] += query[i * width + e] * key;
        }
    for (int i = 0; i < tile; i++)
        for (int j = 0; j < vectors; j++) store(scores + i * room + j * LANES, sum[i][j]);
}

/* Replace scores by e^(score - largest), store the sum of these, and return the scores' log-sum-exp. */
NOINLINE float exponentials(float *x, int64_t count, float *total) {
    float largest = x[0], sum = 0;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < count; i++) largest = x[i] > largest ? x[i] : largest;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) sum += x[i] = exp_negative(x[i] - largest);
    *total = sum;
    return largest + logf(sum);
}

/* The sum of values [count, width], as many columns of them as `vectors` hold, by weights [tile, room]; out [tile, width]. */
INLINE void gather(int tile, int vectors, const float *weights, const text_element *values, int64_t count,
                   int64_t width, int64_t room, float *out) {
    vector sum[tile][vectors];
    memset(sum, 0, sizeof sum);
    for (int64_t p = 0; p < count; p++)
        for (int j = 0; j < vectors; j++) {
            vector value = load_text(values + p * width + j * LANES);
            for (int i = 0; i < tile; i++) sum[i][j] += weights[i * room + p] * value;
        }
    for (int i = 0; i < tile; i++)
        for (int j = 0; j < vectors; j++) store(out + i * width + j * LANES, sum[i][j]);
}

/* One head's text: keys [width, room] and values [count, width]; in 8 bits each position's are to be multiplied by a scale. */
struct text {
    const text_element *keys, *values;
    const float *key_scales, *value_scales;
    int64_t count, room;
};

/* One tile and one head: query [tile, width] -> out [tile, width], lse [tile]. */
INLINE void attend_to_text(int tile, const float *query, struct text text, int64_t width, float *out, float *lse) {
    enum { AT_ONCE = 4 };
    const int vectors = tile <= TILE / 2 ? AT_ONCE : AT_ONCE / 2; /* half of the registers hold sums */
    const int64_t count = text.count, room = text.room;
    float scores[tile * room], sums[tile];
    int64_t p = 0, e = 0;
    for (; p + vectors * LANES <= room; p += vectors * LANES)
        score(tile, vectors, query, text.keys + p, width, room, scores + p);
    for (; p < room; p += LANES) score(tile, 1, query, text.keys + p, width, room, scores + p);
    for (int i = 0; i < tile; i++) {
        float *own = scores + i * room;
#ifdef TEXT_INT8
        for (p = 0; p < count; p++) own[p] *= text.key_scales[p];
#endif
        lse[i] = exponentials(own, count, sums + i);
#ifdef TEXT_INT8
        for (p = 0; p < count; p++) own[p] *= text.value_scales[p];
#endif
    }
    for (; e + vectors * LANES <= width; e += vectors * LANES)
        gather(tile, vectors, scores, text.values + e, count, width, room, out + e);
    for (; e + LANES <= width; e += LANES) gather(tile, 1, scores, text.values + e, count, width, room, out + e);
    for (; e < width; e++)
        for (int i = 0; i < tile; i++) {
            float sum = 0;
            for (p = 0; p < count; p++) sum += scores[i * room + p] * widen_text(text.values[p * width + e]);
            out[i * width + e] = sum;
        }
    for (int i = 0; i < tile; i++) {
        const float share = 1.0f / sums[i];
        for (e = 0; e < width; e++) out[i * width + e] *= share;
    }
}

/* ---- Attention to the image tokens ---- */

/* One row: queries [heads, width], ring buffers [entries, heads, width], of which it reads the `count` entries `seen`. */
INLINE void attend_to_image(const element *q, const element *keys, const element *values, const int64_t *seen,
                            int64_t count, const float *text, const float *text_lse, element *out, int64_t heads,
                            int64_t width, float scale) {
    float query[heads * width], acc[heads * width], weights[heads * (count + 1)];
    for (int64_t i = 0; i < heads * width; i++) query[i] = widen(q[i]) * scale;
    for (int64_t m = 0; m < count; m++)
        for (int64_t a = 0; a < heads; a++)
            weights[a * (count + 1) + m] = dot(query + a * width, keys + (seen[m] * heads + a) * width, width);
    for (int64_t a = 0; a < heads; a++) { /* a softmax in which the whole text is one more key: its score is the lse, its value out */
        float *w = weights + a * (count + 1), largest = text_lse[a], sum = 0;
        w[count] = largest;
        for (int64_t m = 0; m < count; m++) largest = w[m] > largest ? w[m] : largest;
#pragma omp simd reduction(+ : sum)
        for (int64_t m = 0; m <= count; m++) sum += w[m] = exp_negative(w[m] - largest);
        const float share = 1.0f / sum;
        for (int64_t m = 0; m <= count; m++) w[m] *= share;
        for (int64_t e = 0; e < width; e++) acc[a * width + e] = w[count] * text[a * width + e];
    }
    for (int64_t m = 0; m < count; m++)
        for (int64_t a = 0; a < heads; a++) {
            const element *value = values + (seen[m] * heads + a) * width;
            float weight = weights[a * (count + 1) + m];
            for (int64_t e = 0; e < width; e++) acc[a * width + e] += weight * widen(value[e]);
        }
    for (int64_t i = 0; i < heads * width; i++) out[i] = narrow(acc[i]);
}

/* ---- A decode step ---- */

/* Cut the readers, of which those of one caption stand side by side, into tiles of 1, 2, 4 ... TILE: the first reader of
 * each, and behind the last the number of readers. Returns the number of tiles. */
static int64_t cut(const int64_t *captions, int64_t rows, int64_t *first) {
    int64_t tiles = 0, r = 0;
    while (r < rows && captions[r] >= 0) {
        int64_t size = 1;
        while (2 * size <= TILE && r + 2 * size <= rows && captions[r + 2 * size - 1] == captions[r]) size *= 2;
        first[tiles++] = r;
        r += size;
    }
    first[tiles] = r;
    return tiles;
}

/* One layer's attention. Every row's new key and value are written into the ring buffers; then each row attends to its
 * text, and to the image tokens that its mask sees. Rows of one slot read what the others have written: so all are written
 * before any is read. Rows that nobody uses give zeros.
 *
 * q, k, v: row r begins at r * stride; keys, values [entries, heads, width]; write [rows] and read [rows, reach] as in
 * rings.py, read < 0 where there is no key; text_keys [captions, heads, width, room], text_values [captions, heads, count,
 * width], both scales [captions, heads, room] and readers [2, rows] as in shared_text.py; out [rows, heads, width]. text
 * [rows, heads, width] and text_lse [rows, heads] are overwritten. */
void decode_attention(const element *q, const element *k, const element *v, int64_t stride, element *keys,
                      element *values, const int64_t *write, const int64_t *read, const text_element *text_keys,
                      const text_element *text_values, const float *key_scales, const float *value_scales,
                      const int64_t *readers, float *text, float *text_lse, element *out, int64_t rows, int64_t reach,
                      int64_t heads, int64_t width, int64_t room, int64_t count, float scale, int64_t threads) {
    const int64_t entry = heads * width, *captions = readers + rows;
    int64_t first[rows + 1];
    const int64_t tiles = cut(captions, rows, first);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static) nowait
        for (int64_t r = 0; r < rows; r++) {
            memcpy(keys + write[r] * entry, k + r * stride, entry * sizeof(element));
            memcpy(values + write[r] * entry, v + r * stride, entry * sizeof(element));
            memset(out + r * entry, 0, entry * sizeof(element));
        }
#pragma omp for schedule(static)
        for (int64_t task = 0; task < heads * tiles; task++) {
            const int64_t a = task / tiles, begin = first[task % tiles], *row = readers + begin;
            const int64_t head = captions[begin] * heads + a;
            struct text stored = {text_keys + head * width * room, text_values + head * count * width, key_scales,
                                  value_scales, count, room};
#ifdef TEXT_INT8
            stored.key_scales += head * room;
            stored.value_scales += head * room;
#endif
            const int tile = (int)(first[task % tiles + 1] - begin);
            float query[tile * width], attended[tile * width], lse[tile];
            for (int i = 0; i < tile; i++)
                for (int64_t e = 0; e < width; e++)
                    query[i * width + e] = widen(q[row[i] * stride + a * width + e]) * scale;
#define ATTEND(n) attend_to_text(n, query, stored, width, attended, lse)
            switch (tile) { /* known at compile time, so that sums stay in registers */
                case 1: ATTEND(1); break;
                case 2: ATTEND(2); break;
                case 4: ATTEND(4); break;
                default: ATTEND(TILE);
            }
            for (int i = 0; i < tile; i++) {
                memcpy(text + row[i] * entry + a * width, attended + i * width, width * sizeof(float));
                text_lse[row[i] * heads + a] = lse[i];
            }
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < first[tiles]; i++) {
            const int64_t r = readers[i];
            int64_t seen[reach], count = 0;
            for (int64_t m = 0; m < reach; m++)
                if (read[r * reach + m] >= 0) seen[count++] = read[r * reach + m];
#define ATTEND_IMAGE(n) \
    attend_to_image(q + r * stride, keys, values, seen, count, text + r * entry, text_lse + r * heads, out + r * entry, \
                    heads, n, scale)
            if (width == 64) /* the paper's; known at compile time, so that loops become whole vectors */
                ATTEND_IMAGE(64);
            else
                ATTEND_IMAGE(width);
        }
    }
}

/* Log of the sum of e^(logit * sharpness[row]) in each group: logits [rows, groups, group] -> out [rows, groups]. */
void group_logsumexp(const element *logits, const float *sharpness, float *out, int64_t rows, int64_t groups,
                    int64_t group, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (rows > 1)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t g = 0; g < groups; g++) {
            const element *x = logits + (r * groups + g) * group;
            float scores[group], largest = -INFINITY, sum = 0;
#pragma omp simd reduction(max : largest)
            for (int64_t i = 0; i < group; i++) {
                scores[i] = widen(x[i]) * sharpness[r];
                largest = scores[i] > largest ? scores[i] : largest;
            }
            if (largest == -INFINITY) { /* none of its tokens may be sampled */
                out[r * groups + g] = -INFINITY;
                continue;
            }
#pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < group; i++) sum += exp_negative(scores[i] - largest);
            out[r * groups + g] = largest + logf(sum);
        }
}
