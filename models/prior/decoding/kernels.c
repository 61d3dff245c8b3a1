/* The two parts of a decode step that torch computes only by reading its input several times: attention to the image
 * tokens in the ring buffers, and the log-sum-exp of the groups of tokens to sample from. Here each is read once.
 *
 * Built for one element type at a time: bfloat16 with -DBFLOAT16, else float. Compiled and called by kernels.py.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef BFLOAT16
typedef uint16_t element;

static inline float widen(element x) {
    union { uint32_t bits; float value; } u = {(uint32_t)x << 16};
    return u.value;
}

static inline element narrow(float x) { /* to nearest, ties to even */
    union { float value; uint32_t bits; } u = {x};
    return (element)((u.bits + 0x7FFF + ((u.bits >> 16) & 1)) >> 16);
}
#else
typedef float element;

static inline float widen(element x) { return x; }

static inline element narrow(float x) { return x; }
#endif

/* e^x for x <= 0, within 2e-7 of it: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes). */
static inline float exp_negative(float x) {
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

static inline float dot(const float *a, const element *b, int64_t count) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) sum += a[i] * widen(b[i]);
    return sum;
}

/* One row: queries [heads, width], ring buffers [entries, heads, width], of which it reads the `count` entries `seen`. */
static inline __attribute__((always_inline)) void attend(
    const element *q, const element *keys, const element *values, const int64_t *seen, int64_t count,
    const element *text, const float *text_lse, element *out, int64_t heads, int64_t width, float scale) {
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
        for (int64_t m = 0; m <= count; m++) w[m] /= sum;
        for (int64_t e = 0; e < width; e++) acc[a * width + e] = w[count] * widen(text[a * width + e]);
    }
    for (int64_t m = 0; m < count; m++)
        for (int64_t a = 0; a < heads; a++) {
            const element *value = values + (seen[m] * heads + a) * width;
            float weight = weights[a * (count + 1) + m];
            for (int64_t e = 0; e < width; e++) acc[a * width + e] += weight * widen(value[e]);
        }
    for (int64_t i = 0; i < heads * width; i++) out[i] = narrow(acc[i]);
}

/* Write every row's new key and value into the ring buffers, then let it attend to the image tokens that its mask sees,
 * and merge that with the attention to the text (see partial_attention.py), given by its output and log-sum-exp. Rows of
 * one slot read what the others have written: so all are written before any is read.
 *
 * q, k, v: row r begins at r * stride; keys, values [entries, heads, width]; write [rows] and read [rows, reach] as in
 * rings.py, read < 0 where there is no key; text [places, heads, width] and text_lse [places, heads], of which row r has
 * place[r]; out [rows, heads, width]. */
void decode_attention(const element *q, const element *k, const element *v, int64_t stride, element *keys,
                      element *values, const int64_t *write, const int64_t *read, const element *text,
                      const float *text_lse, const int64_t *place, element *out, int64_t rows, int64_t reach,
                      int64_t heads, int64_t width, float scale, int64_t threads) {
    const int64_t entry = heads * width;
#pragma omp parallel num_threads(threads) if (rows > 1)
    {
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            memcpy(keys + write[r] * entry, k + r * stride, entry * sizeof(element));
            memcpy(values + write[r] * entry, v + r * stride, entry * sizeof(element));
        }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            int64_t seen[reach], count = 0;
            for (int64_t m = 0; m < reach; m++)
                if (read[r * reach + m] >= 0) seen[count++] = read[r * reach + m];
            const element *own_text = text + place[r] * entry;
            const float *own_lse = text_lse + place[r] * heads;
            if (width == 64) /* the paper's; known at compile time, so that loops become whole vectors */
                attend(q + r * stride, keys, values, seen, count, own_text, own_lse, out + r * entry, heads, 64, scale);
            else
                attend(q + r * stride, keys, values, seen, count, own_text, own_lse, out + r * entry, heads, width,
                       scale);
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
