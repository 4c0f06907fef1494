// The products of linear.h with factors in bf16 and sums in float32, on AMX: Intel's matrix unit multiplies tiles of 16 rows of 32
// numbers by tiles of 16 pairs of rows (Intel Architecture Instruction Set Extensions, chapter 3, TDPBF16PS).
//
// All sizes are filled up to multiples of SIDE with zeros.

#include <immintrin.h>

// Memory at this address is up to date. Compilers do not know that loads of tiles read it.
#define WRITTEN(at) __asm__ volatile("" : : "r"(at) : "memory")

enum { SIDE = 32 };  // two tiles
typedef uint16_t bf16;

INLINE i64 side(i64 size) { return round_up(size, SIDE); }
INLINE i64 forward_size(i64 out, i64 in) { return side(out) * side(in) / 2; }
INLINE i64 backward_size(i64 out, i64 in) { return side(out) * side(in) / 2; }
INLINE i64 linear_scratch_size(i64 R, i64 widest) { return side(R > widest ? R : widest) * side(widest); }  // both factors

// Asks Linux for permission to use tiles, once per thread, and configures them: eight of 16 rows of 64 bytes. Returns -1 if Linux
// refuses.
static int prepare_tiles(void) {
    static __thread int asked;
    if (!asked) {
        i64 result;  // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), without the C library
        __asm__ volatile("syscall" : "=a"(result) : "0"((i64)158), "D"((i64)0x1023), "S"((i64)18) : "rcx", "r11", "memory");
        if (result != 0) return -1;
        asked = 1;
    }
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) config.bytes[i] = 64, config.rows[i] = 16;
    WRITTEN(&config);
    _tile_loadconfig(&config);
    return 0;
}

INLINE void release_tiles(void) { _tile_release(); }

// Two vectors as 32 numbers in bf16, rounded to nearest even.
INLINE __m512i both(v low, v high) { return (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low); }

// The numbers of two vectors in turn, in bf16.
INLINE __m512i pairs(v first, v second) {
    const __m512i turn = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
                                          19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(turn, both(first, second));
}

// Part of a row: what lies beyond its end is 0.
INLINE v load_part(const float *row, i64 at, i64 end) {
    if (at + V <= end) return load(row + at);
    return at >= end ? (v){} : (v)_mm512_maskz_loadu_ps((__mmask16)((1u << (end - at)) - 1), row + at);
}

// a [m, k] in bf16.
static void to_rows(const float *a, i64 row, i64 m_size, i64 k_size, bf16 *out) {
    const i64 kp = side(k_size);
    for (i64 m = 0; m < m_size; m++)
        for (i64 k = 0; k < kp; k += 2 * V)
            _mm512_storeu_si512(out + m * kp + k, both(load_part(a + m * row, k, k_size), load_part(a + m * row, k + V, k_size)));
    memset(out + m_size * kp, 0, sizeof(bf16) * (size_t)((side(m_size) - m_size) * kp));
}

// b [k, n] as [k / 2, n, 2]: the second factor of a product over k.
static void to_pairs(const float *b, i64 row, i64 k_size, i64 n_size, bf16 *out) {
    const i64 np = side(n_size);
    for (i64 k = 0; k < side(k_size); k += 2)
        for (i64 n = 0; n < np; n += V) {
            v first = k < k_size ? load_part(b + k * row, n, n_size) : (v){};
            v second = k + 1 < k_size ? load_part(b + (k + 1) * row, n, n_size) : (v){};
            _mm512_storeu_si512(out + k * np + 2 * n, pairs(first, second));
        }
}

// Turns a [m, k] in bf16 to [k / 2, m, 2].
static void rows_to_pairs(const bf16 *a, i64 m_size, i64 k_size, bf16 *out) {
    transpose((const float *)a, k_size / 2, m_size, k_size / 2, (float *)out, m_size);  // a pair moves as one float
}

// y [k, m] as its transpose [m, k] in bf16.
static void to_columns(const float *y, i64 row, i64 k_size, i64 m_size, bf16 *out) {
    const i64 kp = side(k_size);
    for (i64 k = 0; k < kp; k += 2 * V)
        for (i64 m = 0; m < side(m_size); m += V) {
            v square[V];
            UNROLL for (int i = 0; i < V; i++) {
                const i64 at = k + 2 * i;
                v first = at < k_size ? load_part(y + at * row, m, m_size) : (v){};
                v second = at + 1 < k_size ? load_part(y + (at + 1) * row, m, m_size) : (v){};
                square[i] = (v)pairs(first, second);
            }
            transpose_square(square);
            UNROLL for (int i = 0; i < V; i++) store((float *)(out + (m + i) * kp + k), square[i]);
        }
}

// c [m, n] = bias, or += without bias, + a [m, k] b [k, n]; sizes of a and b as filled up, those of c as they are.
static void tile_product(i64 m_size, i64 n_size, i64 k_size, const bf16 *a, const bf16 *b, float *c, i64 c_row, Mode mode,
                         const float *bias) {
    const i64 kp = side(k_size), np = side(n_size);
    float edge[SIDE * SIDE];
    for (i64 n = 0; n < n_size; n += SIDE)
        for (i64 m = 0; m < m_size; m += SIDE) {
            const i64 wide = n_size - n < SIDE ? n_size - n : SIDE, high = m_size - m < SIDE ? m_size - m : SIDE;
            const int is_edge = wide < SIDE || high < SIDE;
            float *at = is_edge ? edge : c + m * c_row + n;
            const i64 row = is_edge ? SIDE : c_row;
            if (mode == ADD || bias) {
                for (i64 i = 0; i < high && (is_edge || mode == SET); i++)
                    memcpy(at + i * row, mode == ADD ? c + (m + i) * c_row + n : bias + n, sizeof(float) * (size_t)wide);
                WRITTEN(at);
                _tile_loadd(0, at, row * 4);
                _tile_loadd(1, at + 16, row * 4);
                _tile_loadd(2, at + 16 * row, row * 4);
                _tile_loadd(3, at + 16 * row + 16, row * 4);
            } else {
                _tile_zero(0);
                _tile_zero(1);
                _tile_zero(2);
                _tile_zero(3);
            }
            WRITTEN(a);
            for (i64 k = 0; k < kp; k += SIDE) {
                _tile_loadd(4, a + m * kp + k, kp * 2);
                _tile_loadd(5, a + (m + 16) * kp + k, kp * 2);
                _tile_loadd(6, b + k * np + 2 * n, np * 4);
                _tile_loadd(7, b + k * np + 2 * n + 32, np * 4);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
            _tile_stored(0, at, row * 4);
            _tile_stored(1, at + 16, row * 4);
            _tile_stored(2, at + 16 * row, row * 4);
            _tile_stored(3, at + 16 * row + 16, row * 4);
            WRITTEN(at);
            for (i64 i = 0; i < high && is_edge; i++)
                memcpy(c + (m + i) * c_row + n, edge + i * SIDE, sizeof(float) * (size_t)wide);
        }
}

static void pack_forward(const float *weight, i64 out, i64 in, float *packed_weight, float *scratch) {
    to_rows(weight, in, out, in, (bf16 *)scratch);
    rows_to_pairs((bf16 *)scratch, side(out), side(in), (bf16 *)packed_weight);
}

static void pack_backward(const float *weight, i64 out, i64 in, float *packed_weight) {
    to_pairs(weight, in, out, in, (bf16 *)packed_weight);
}

static void linear(const float *x, i64 x_row, i64 R, i64 out, i64 in, const float *packed_weight, const float *bias, float *y,
                   i64 y_row, float *scratch) {
    to_rows(x, x_row, R, in, (bf16 *)scratch);
    tile_product(R, out, in, (bf16 *)scratch, (const bf16 *)packed_weight, y, y_row, SET, bias);
}

static void input_gradient(const float *dy, i64 dy_row, i64 R, i64 out, i64 in, const float *packed_weight, float *dx, i64 dx_row,
                           Mode mode, float *scratch) {
    to_rows(dy, dy_row, R, out, (bf16 *)scratch);
    tile_product(R, in, out, (bf16 *)scratch, (const bf16 *)packed_weight, dx, dx_row, mode, 0);
}

static void add_weight_gradient(const float *dy, i64 dy_row, i64 R, i64 out, const float *x, i64 x_row, i64 in, float *dw,
                                float *scratch) {
    bf16 *first = (bf16 *)scratch, *second = first + side(out) * side(R);
    to_columns(dy, dy_row, R, out, first);
    to_pairs(x, x_row, R, in, second);
    tile_product(out, in, R, first, second, dw, in, ADD, 0);
}
