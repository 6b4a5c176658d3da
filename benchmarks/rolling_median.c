/*
 * The yardstick of rolling_median.py: the same algorithm in plain C.
 *
 * A chunk of 256 pixels is carried through time; row k of `sorted` holds the k-th smallest sample of the window of each.
 * One step removes a sample and inserts one, a row at a time. Masked and NaN samples are +inf and are not counted. The
 * window is the part of the centred one that exists; fewer than `fewest` samples give NaN.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define LANES 256

static void load(const float *restrict data, const uint8_t *restrict mask, float *restrict value, int32_t *restrict good,
                 long n)
{
    for (long l = 0; l < n; l++) {
        int use = mask[l] == 0 && data[l] == data[l];
        value[l] = use ? data[l] : INFINITY;
        good[l] = use;
    }
}

static void absent(float *restrict value, int32_t *restrict good, long n)
{
    for (long l = 0; l < n; l++) {
        value[l] = INFINITY;
        good[l] = 0;
    }
}

static void slide(float *restrict here, const float *restrict next, const float *restrict old, float *restrict new, long n)
{
    for (long l = 0; l < n; l++) {
        float kept = here[l] >= old[l] ? next[l] : here[l];
        float carried = new[l];
        here[l] = kept < carried ? kept : carried;
        new[l] = kept < carried ? carried : kept;
    }
}

static void median(const float *restrict sorted, const int32_t *restrict count, long fewest, float *restrict out, long n)
{
    for (long l = 0; l < n; l++) {
        long valid = count[l];
        if (valid < fewest) {
            out[l] = NAN;
        } else {
            float low = sorted[(valid - 1) / 2 * LANES + l], high = sorted[valid / 2 * LANES + l];
            out[l] = low == high ? low : (low + high) * 0.5f;
        }
    }
}

int rolling_median(const float *data, const uint8_t *mask, float *out, long n_int, long n_pixel, long width, long fewest)
{
    float *sorted = aligned_alloc(64, sizeof(float) * LANES * (size_t)width);
    float old[LANES], new[LANES];
    int32_t good_old[LANES], good_new[LANES], count[LANES];
    if (!sorted)
        return 1;
    for (long x = 0; x < n_pixel; x += LANES) {
        long n = n_pixel - x < LANES ? n_pixel - x : LANES;
        long lo = 0, hi = 0;
        for (long k = 0; k < width * LANES; k++)
            sorted[k] = INFINITY;
        for (long l = 0; l < n; l++)
            count[l] = 0;
        for (long i = 0; i < n_int; i++) {
            long first = i - width / 2, last = first + width;
            first = first < 0 ? 0 : first;
            last = last > n_int ? n_int : last;
            while (lo < first || hi < last) {
                if (lo < first) {
                    load(data + lo * n_pixel + x, mask + lo * n_pixel + x, old, good_old, n);
                    lo++;
                } else {
                    absent(old, good_old, n);
                }
                if (hi < last) {
                    load(data + hi * n_pixel + x, mask + hi * n_pixel + x, new, good_new, n);
                    hi++;
                } else {
                    absent(new, good_new, n);
                }
                for (long l = 0; l < n; l++)
                    count[l] += good_new[l] - good_old[l];
                for (long k = 0; k + 1 < width; k++)
                    slide(sorted + k * LANES, sorted + (k + 1) * LANES, old, new, n);
                for (long l = 0; l < n; l++)
                    sorted[(width - 1) * LANES + l] = new[l];
            }
            median(sorted, count, fewest, out + i * n_pixel + x, n);
        }
    }
    free(sorted);
    return 0;
}
