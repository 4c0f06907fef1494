// The products of linear layers: y = x W^T + bias, dx = dy W and dW += dy^T x. In float32 here; bf16.h has them with bf16 factors.
//
//     x, dx [R, in]     y, dy [R, out]     W, dW [out, in]

typedef struct {
    float *forward, *backward;  // a layer's weight, packed for y and for dx
} Packed;

// Floats of a packed weight.
INLINE i64 forward_size(i64 out, i64 in) { return in * round_up(out, STRIP); }
INLINE i64 backward_size(i64 out, i64 in) { return out * round_up(in, STRIP); }

// Floats of workspace that these functions need for R rows of up to `widest` numbers.
INLINE i64 linear_scratch_size(i64 R, i64 widest) { return 0 * R * widest; }

// Packs B[k, n] = w[k * row + n] into strips. n_size is a multiple of V; `out` has k_size * round_up(n_size, STRIP) numbers.
static void pack(const float *w, i64 row, i64 k_size, i64 n_size, float *out) {
    for (i64 n = 0; n < n_size; n += V)
        for (i64 k = 0; k < k_size; k++) store(out + n / STRIP * STRIP * k_size + k * STRIP + n % STRIP, load(w + k * row + n));
}

// Packs B[k, n] = w[n * row + k], the transpose of w, into strips.
static void pack_transposed(const float *w, i64 row, i64 k_size, i64 n_size, float *out) {
    for (i64 n = 0; n < n_size; n += V)
        transpose(w + n * row, row, V, k_size, out + n / STRIP * STRIP * k_size + n % STRIP, STRIP);
}

static void pack_forward(const float *weight, i64 out, i64 in, float *packed_weight, float *scratch) {
    (void)scratch;
    pack_transposed(weight, in, in, out, packed_weight);
}

static void pack_backward(const float *weight, i64 out, i64 in, float *packed_weight) {
    pack(weight, in, out, in, packed_weight);
}

static void linear(const float *x, i64 x_row, i64 R, i64 out, i64 in, const float *packed_weight, const float *bias, float *y,
                   i64 y_row, float *scratch) {
    (void)scratch;
    product(R, out, in, rows(x, x_row), packed(packed_weight, in), y, y_row, SET, bias);
}

// Stores dx (SET), or adds to it (ADD).
static void input_gradient(const float *dy, i64 dy_row, i64 R, i64 out, i64 in, const float *packed_weight, float *dx, i64 dx_row,
                           Mode mode, float *scratch) {
    (void)scratch;
    product(R, in, out, rows(dy, dy_row), packed(packed_weight, out), dx, dx_row, mode, 0);
}

static void add_weight_gradient(const float *dy, i64 dy_row, i64 R, i64 out, const float *x, i64 x_row, i64 in, float *dw,
                                float *scratch) {
    (void)scratch;
    product(out, in, R, columns(dy, dy_row), plain(x, x_row), dw, in, ADD, 0);
}

INLINE int prepare_tiles(void) { return 0; }
INLINE void release_tiles(void) {}
