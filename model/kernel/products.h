// Matrix products C = A B or C += A B of small and middling matrices in float32.
//
// A tile of C, TILE_ROWS x 2 vectors, stays in the registers while the product runs over the inner index.

#if defined(__AVX512F__)
enum { TILE_ROWS = 14 };
#elif defined(__AVX2__)
enum { TILE_ROWS = 6 };
#else
enum { TILE_ROWS = 12 };
#endif
enum { STRIP = 2 * V };  // columns of B that a tile works on

typedef struct {
    const float *values;
    i64 row, inner;
} Left;  // A[m, k] = values[m * row + k * inner]

typedef struct {
    const float *values;
    i64 strip, inner;
} Right;  // B[k, n] = values[n / STRIP * strip + k * inner + n % STRIP]

// Rows of a matrix, or of its transpose.
INLINE Left rows(const float *a, i64 row) { return (Left){a, row, 1}; }
INLINE Left columns(const float *a, i64 row) { return (Left){a, 1, row}; }
// A matrix as it lies in memory, or in strips one after the other.
INLINE Right plain(const float *b, i64 row) { return (Right){b, STRIP, row}; }
INLINE Right packed(const float *b, i64 inner_size) { return (Right){b, STRIP * inner_size, STRIP}; }

typedef enum { SET, ADD } Mode;

// C[m_count, n_count * V] for constant counts. Rows of A are reached from every fourth one, which takes few registers; HIDE keeps
// the compiler from undoing that.
#define HIDE(pointer) __asm__("" : "+r"(pointer))
INLINE void tile(const int m_count, const int n_count, i64 inner, const float *a, i64 a_row, i64 a_inner, const float *b,
                 i64 b_inner, float *c, i64 c_row, Mode mode, const float *bias) {
    v sum[TILE_ROWS][2];
    const float *fourth[(TILE_ROWS + 3) / 4];
    UNROLL for (int m = 0; m < m_count; m++) UNROLL for (int n = 0; n < n_count; n++) {
        sum[m][n] = mode == ADD ? load(c + m * c_row + n * V) : bias ? load(bias + n * V) : (v){};
    }
    UNROLL for (int m = 0; m < m_count; m += 4) fourth[m / 4] = a + m * a_row;
    KEEP_LOOP for (i64 k = 0; k < inner; k++) {
        v strip[2];
        UNROLL for (int n = 0; n < n_count; n++) strip[n] = load(b + n * V);
        UNROLL for (int m = 0; m < m_count; m++) {
            v factor = all(fourth[m / 4][m % 4 * a_row]);
            UNROLL for (int n = 0; n < n_count; n++) sum[m][n] += factor * strip[n];
        }
        UNROLL for (int m = 0; m < m_count; m += 4) {
            fourth[m / 4] += a_inner;
            HIDE(fourth[m / 4]);
        }
        b += b_inner;
    }
    UNROLL for (int m = 0; m < m_count; m++) UNROLL for (int n = 0; n < n_count; n++) {
        store(c + m * c_row + n * V, sum[m][n]);
    }
}

typedef void (*Tile)(i64, const float *, i64, i64, const float *, i64, float *, i64, Mode, const float *);
#define TILE(M, N)                                                                                                            \
    static __attribute__((noinline)) void tile_##M##_##N(i64 inner, const float *a, i64 a_row, i64 a_inner, const float *b, \
                                                         i64 b_inner, float *c, i64 c_row, Mode mode, const float *bias) {  \
        tile(M, N, inner, a, a_row, a_inner, b, b_inner, c, c_row, mode, bias);                                               \
    }
#define TILES(M) TILE(M, 1) TILE(M, 2)
#define ENTRIES(N) 0, tile_1_##N, tile_2_##N, tile_3_##N, tile_4_##N, tile_5_##N, tile_6_##N
TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6)
#if defined(__AVX512F__)
TILES(7) TILES(8) TILES(9) TILES(10) TILES(11) TILES(12) TILES(13) TILES(14)
#define MORE_ENTRIES(N) \
    , tile_7_##N, tile_8_##N, tile_9_##N, tile_10_##N, tile_11_##N, tile_12_##N, tile_13_##N, tile_14_##N
#elif !defined(__AVX2__)
TILES(7) TILES(8) TILES(9) TILES(10) TILES(11) TILES(12)
#define MORE_ENTRIES(N) , tile_7_##N, tile_8_##N, tile_9_##N, tile_10_##N, tile_11_##N, tile_12_##N
#else
#define MORE_ENTRIES(N)
#endif
static const Tile TILES_OF_1[] = {ENTRIES(1) MORE_ENTRIES(1)}, TILES_OF_2[] = {ENTRIES(2) MORE_ENTRIES(2)};

// C[M, N] = bias + A[M, K] B[K, N], or += without bias. N is a multiple of V.
static void product(i64 m_size, i64 n_size, i64 k_size, Left a, Right b, float *c, i64 c_row, Mode mode, const float *bias) {
    if (m_size == 0) return;
    const i64 parts = (m_size + TILE_ROWS - 1) / TILE_ROWS, count = m_size / parts, longer = m_size % parts;
    for (i64 n = 0; n < n_size; n += STRIP) {
        const Tile *tiles = n_size - n >= STRIP ? TILES_OF_2 : TILES_OF_1;
        const float *strip = b.values + n / STRIP * b.strip;
        for (i64 part = 0, m = 0; part < parts; part++) {  // even shares of the rows
            const i64 here = part < longer ? count + 1 : count;
            tiles[here](k_size, a.values + m * a.row, a.row, a.inner, strip, b.inner, c + m * c_row + n, c_row, mode,
                        bias ? bias + n : 0);
            m += here;
        }
    }
}

// Transposes a square of V x V numbers in place. Stage b swaps the squares of b x b beside the diagonal of each 2b x 2b.
#define STAGE(B, LOW, HIGH)                                        \
    UNROLL for (int i = 0; i < V; i++) if (!(i & B)) {             \
        v low = SHUFFLE(square[i], square[i + B], LOW);            \
        square[i + B] = SHUFFLE(square[i], square[i + B], HIGH);   \
        square[i] = low;                                           \
    }
#define LIST(...) __VA_ARGS__
INLINE void transpose_square(v square[V]) {
#if defined(__AVX512F__)
    STAGE(8, LIST(0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
          LIST(8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
    STAGE(4, LIST(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
          LIST(4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
    STAGE(2, LIST(0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
          LIST(2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
    STAGE(1, LIST(0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30),
          LIST(1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
#elif defined(__AVX2__)
    STAGE(4, LIST(0, 1, 2, 3, 8, 9, 10, 11),
          LIST(4, 5, 6, 7, 12, 13, 14, 15))
    STAGE(2, LIST(0, 1, 8, 9, 4, 5, 12, 13),
          LIST(2, 3, 10, 11, 6, 7, 14, 15))
    STAGE(1, LIST(0, 8, 2, 10, 4, 12, 6, 14),
          LIST(1, 9, 3, 11, 5, 13, 7, 15))
#else
    STAGE(2, LIST(0, 1, 4, 5),
          LIST(2, 3, 6, 7))
    STAGE(1, LIST(0, 4, 2, 6),
          LIST(1, 5, 3, 7))
#endif
}

// out[e * out_row + l] = a[l * row + e] for l < count and e < size, 0 for count <= l < round_up(count, V).
static void transpose(const float *a, i64 row, i64 count, i64 size, float *out, i64 out_row) {
    for (i64 l = 0; l < count; l += V) {
        const i64 here = count - l < V ? count - l : V;
        i64 e = 0;
        for (; e + V <= size; e += V) {
            v square[V];
            UNROLL for (int i = 0; i < V; i++) square[i] = i < here ? load(a + (l + i) * row + e) : (v){};
            transpose_square(square);
            UNROLL for (int i = 0; i < V; i++) store(out + (e + i) * out_row + l, square[i]);
        }
        for (; e < size; e++)
            for (i64 i = 0; i < V; i++) out[e * out_row + l + i] = i < here ? a[(l + i) * row + e] : 0.0f;
    }
}

typedef struct {
    float *forward, *backward;  // the weight of a linear layer, packed for its output and for the gradient of its input
} Packed;
