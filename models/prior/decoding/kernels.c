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

/* One slot: queries [heads, width], ring buffers [size, heads, width], of which it reads the `count` entries `seen`. */
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

/* Write every slot's new key and value into its ring buffers, then attend to the image tokens that its mask sees, and
 * merge that with the attention to the text (see partial_attention.py), given by its output and log-sum-exp.
 *
 * q, k, v: row s begins at s * stride; keys, values [slots, size, heads, width]; write [slots] and read [slots, reach]
 * as in rings.py, read < 0 where there is no key; text [rows, heads, width] and text_lse [rows, heads], of which slot s
 * has row text_row[s]; out [slots, heads, width]. */
void decode_attention(const element *q, const element *k, const element *v, int64_t stride, element *keys,
                      element *values, const int64_t *write, const int64_t *read, const element *text,
                      const float *text_lse, const int64_t *text_row, element *out, int64_t slots, int64_t size,
                      int64_t reach, int64_t heads, int64_t width, float scale, int64_t threads) {
    const int64_t row = heads * width;
#pragma omp parallel for num_threads(threads) schedule(static) if (slots > 1)
    for (int64_t s = 0; s < slots; s++) {
        element *own_keys = keys + s * size * row, *own_values = values + s * size * row;
        memcpy(own_keys + write[s] * row, k + s * stride, row * sizeof(element));
        memcpy(own_values + write[s] * row, v + s * stride, row * sizeof(element));
        int64_t seen[reach], count = 0;
        for (int64_t m = 0; m < reach; m++)
            if (read[s * reach + m] >= 0) seen[count++] = read[s * reach + m];
        const element *own_text = text + text_row[s] * row;
        const float *own_lse = text_lse + text_row[s] * heads;
        if (width == 64) /* the paper's; known at compile time, so that loops become whole vectors */
            attend(q + s * stride, own_keys, own_values, seen, count, own_text, own_lse, out + s * row, heads, 64,
                   scale);
        else
            attend(q + s * stride, own_keys, own_values, seen, count, own_text, own_lse, out + s * row, heads,
                   width, scale);
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
