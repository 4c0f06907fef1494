// Dropout masks: the same on every CPU for the same seed.
//
// LANES generators xoshiro128++ side by side (Blackman and Vigna 2021), seeded by splitmix64. A word of 32 bits decides about two
// elements, by 16 bits each: an element is dropped if they lie below the threshold, that is, with probability threshold / 65536.

typedef struct {
    vu state[4][LANES / V];
    uint32_t threshold;
    float scale;  // of what is kept: 1 / (1 - probability)
} Random;

static uint64_t splitmix(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static Random seeded(uint64_t seed, int64_t threshold) {
    Random random = {.threshold = (uint32_t)threshold, .scale = 65536.0f / (float)(65536 - threshold)};
    uint32_t words[4][LANES];
    for (int i = 0; i < 4; i++)
        for (int lane = 0; lane < LANES; lane += 2) {
            uint64_t z = splitmix(&seed);
            words[i][lane] = (uint32_t)z;
            words[i][lane + 1] = (uint32_t)(z >> 32);
        }
    memcpy(random.state, words, sizeof words);
    return random;
}

INLINE vu rotate(vu x, int by) { return (x << by) | (x >> (32 - by)); }

// Fills `keep` with 0 (dropped) or the scale of what is kept. `count` is a multiple of LANES.
static void draw_keep(Random *random, float *keep, i64 count) {
    const v scale = all(random->scale);
    const uint32_t threshold = random->threshold;
    vu a[LANES / V], b[LANES / V], c[LANES / V], d[LANES / V];
    memcpy(a, random->state[0], sizeof a);
    memcpy(b, random->state[1], sizeof b);
    memcpy(c, random->state[2], sizeof c);
    memcpy(d, random->state[3], sizeof d);
    for (i64 at = 0; at < count; at += 2 * LANES)
        UNROLL for (int p = 0; p < LANES / V; p++) {
            vu word = rotate(a[p] + d[p], 7) + a[p], shifted = b[p] << 9;
            c[p] ^= a[p];
            d[p] ^= b[p];
            b[p] ^= c[p];
            a[p] ^= d[p];
            c[p] ^= shifted;
            d[p] = rotate(d[p], 11);
            store(keep + at + p * V, or_zero((vi)((word & 0xffffu) >= threshold), scale));
            if (at + LANES < count) store(keep + at + LANES + p * V, or_zero((vi)((word >> 16) >= threshold), scale));
        }
    memcpy(random->state[0], a, sizeof a);
    memcpy(random->state[1], b, sizeof b);
    memcpy(random->state[2], c, sizeof c);
    memcpy(random->state[3], d, sizeof d);
}
