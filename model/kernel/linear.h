// The products of linear layers: y = x W^T + bias, dx = dy W and dW += dy^T x. In float32 here; bf16.h has them with bf16 factors.
//
//     x, dx [R, in]     y, dy [R, out]     W, dW [out, in]

// Floats of a packed weight.
INLINE i64 forward_size(i64 out, i64 in) { return in * round_up(out, STRIP); }
INLINE i64 backward_size(i64 out, i64 in) { return out * round_up(in, STRIP); }

// Floats of workspace that these functions need for R rows of up to `widest` numbers.
INLINE i64 linear_scratch_size(i64 R, i64 widest) {
    (void)R, (void)widest;
    return 0;
}

// B[k, n] = weight[n, k] in strips.
static void pack_forward(const float *weight, i64 out, i64 in, float *packed_weight, float *scratch) {
    (void)scratch;
    for (i64 n = 0; n < out; n += V)
        transpose(weight + n * in, in, V, in, packed_weight + n / STRIP * STRIP * in + n % STRIP, STRIP);
}

// B[k, n] = weight[k, n] in strips.
static void pack_backward(const float *weight, i64 out, i64 in, float *packed_weight) {
    for (i64 n = 0; n < in; n += V)
        for (i64 k = 0; k < out; k++)
            store(packed_weight + n / STRIP * STRIP * out + k * STRIP + n % STRIP, load(weight + k * in + n));
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
