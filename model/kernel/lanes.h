// Vectors of the CPU at hand, and the functions that work on them lane by lane.
//
// Arrays are processed in blocks of LANES columns on every CPU, by one or more vectors of V lanes. What is computed for a number
// thus depends on the CPU only through rounding.

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int64_t i64;

enum { LANES = 16 };

#if defined(__AVX512F__)
enum { V = 16 };
#elif defined(__AVX2__)
enum { V = 8 };
#else
enum { V = 4 };
#endif

typedef float v __attribute__((vector_size(4 * V)));
typedef float v_anywhere __attribute__((vector_size(4 * V), aligned(4), may_alias));  // need not be aligned
typedef int32_t vi __attribute__((vector_size(4 * V)));
typedef uint32_t vu __attribute__((vector_size(4 * V)));

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define KEEP_LOOP _Pragma("clang loop unroll(disable)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#define KEEP_LOOP _Pragma("GCC unroll 1")
#endif

INLINE i64 round_up(i64 count, i64 multiple) { return (count + multiple - 1) / multiple * multiple; }

INLINE v load(const float *at) { return *(const v_anywhere *)at; }
INLINE void store(float *at, v x) { *(v_anywhere *)at = x; }
INLINE v all(float x) { return x - (v){}; }
INLINE v choose(vi mask, v x, v y) { return (v)((mask & (vi)x) | (~mask & (vi)y)); }
INLINE v or_zero(vi mask, v x) { return (v)(mask & (vi)x); }
INLINE v larger(v x, v y) { return choose(x > y, x, y); }
INLINE v absolute(v x) { return (v)((vi)x & 0x7fffffff); }

#if defined(__clang__)
#define SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define SHUFFLE(x, y, ...) __builtin_shuffle(x, y, (vi){__VA_ARGS__})
#endif

// The sum of LANES partial sums: lanes i and i + 8, then 4, 2 and 1 apart, on every CPU.
INLINE float sum_lanes(const v x[LANES / V]) {
#if defined(__AVX512F__)
    v s = x[0];
    s += SHUFFLE(s, s, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    s += SHUFFLE(s, s, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    s += SHUFFLE(s, s, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    s += SHUFFLE(s, s, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#elif defined(__AVX2__)
    v s = x[0] + x[1];
    s += SHUFFLE(s, s, 4, 5, 6, 7, 0, 1, 2, 3);
    s += SHUFFLE(s, s, 2, 3, 0, 1, 6, 7, 4, 5);
    s += SHUFFLE(s, s, 1, 0, 3, 2, 5, 4, 7, 6);
#else
    v s = (x[0] + x[2]) + (x[1] + x[3]);
    s += SHUFFLE(s, s, 2, 3, 0, 1);
    s += SHUFFLE(s, s, 1, 0, 3, 2);
#endif
    return s[0];
}

// exp(x) for x <= 0, relative error 1e-7; exactly 0 below -87, where the result would be denormal, which is slow.
// Source: x = n ln 2 + f with ln 2 in two parts; a polynomial for exp(f) with |f| <= ln 2 / 2, as in Cephes' expf.
INLINE v exp_negative(v x) {
    vi live = x > -87.0f;
    x = larger(x, all(-87.0f));
    const float round = 12582912.0f;  // 1.5 * 2^23: adding it leaves no fraction
    v n = (x * 1.44269504f + round) - round;
    v f = x - n * 0.693359375f - n * -2.12194440e-4f;
    v p = f * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * (f * f) + f + 1.0f;
    vi exponent = (vi)((vu)__builtin_convertvector(n, vi) << 23);
    return or_zero(live, (v)((vi)p + exponent));
}

enum { RELU, GELU, SILU };  // activations, numbered as in model/kernel/binding.py

// The activation of x, and its derivative.
INLINE v activate(int kind, v x, v *slope) {
    const v one = all(1.0f);
    if (kind == RELU) {
        *slope = or_zero(x > 0.0f, one);
        return choose(x < 0.0f, (v){}, x);  // NaN stays NaN: a training that has diverged must be noticed
    }
    if (kind == SILU) {  // x s with s = 1 / (1 + exp(-x))
        v e = exp_negative(-absolute(x));
        v s = choose(x > 0.0f, one, e) / (1.0f + e);
        *slope = s + x * s * (1.0f - s);
        return x * s;
    }
    // GELU: x Phi(x) with Phi the normal distribution; its upper tail at |x| is exp(-x^2 / 2) q(t) with t = 1 / (1 + 0.28 |x|).
    // q is the polynomial whose largest error is smallest: 1e-8, found by iteratively reweighted least squares (Lawson).
    v t = 1.0f / (1.0f + 0.28f * absolute(x)), e = exp_negative(x * x * -0.5f);
    v q = t * -0.105807002f + 0.389868914f;
    q = q * t - 0.236985128f;
    q = q * t + 0.268903365f;
    q = q * t + 0.0674995066f;
    q = q * t + 0.116520336f;
    v tail = e * q * t, phi = choose(x > 0.0f, 1.0f - tail, tail);
    *slope = phi + x * e * 0.398942280f;
    return x * phi;
}
