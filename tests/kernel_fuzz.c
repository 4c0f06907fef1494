// Random models and batches through the kernel, in arrays of exactly the size that it may touch. Built with sanitizers by
// test_kernel_sanitizers.py, which also compares what the instruction sets print.
//
//     kernel_fuzz CASES [LONGEST]     one line a case: sizes, loss, norm of the gradient, sum of the logits

#include "../model/kernel/step.c"

#include <stdio.h>
#include <stdlib.h>

static uint64_t state = 1;
static i64 draw(i64 low, i64 high) { return low + (i64)(splitmix(&state) % (uint64_t)(high - low + 1)); }
static float uniform(void) { return (float)(splitmix(&state) >> 40) / (float)(1 << 24) * 2.0f - 1.0f; }

static void *make(size_t bytes) {
    void *at = malloc(bytes ? bytes : 1);
    if (!at) exit(2);
    return at;
}

static float *uniforms(i64 count, float scale) {
    float *values = make(sizeof(float) * (size_t)count);
    for (i64 i = 0; i < count; i++) values[i] = uniform() * scale;
    return values;
}

// Offsets of weights that follow one another, in the order of `weights_at`; returns their number.
static i64 lay_out(const Model *m, int biases, int tail, int64_t *offset) {
    const i64 D = m->width, F = m->ffn_width;
    i64 end = 0, n = 0;
#define PUT(count, exists) (offset[n++] = (exists) ? end : -1, end += (exists) ? (count) : 0)
    PUT(D * m->inputs, 1), PUT(D, 1);
    for (int l = 0; l < m->layers; l++) {
        PUT(3 * D * D, 1), PUT(3 * D, biases), PUT(D * D, 1), PUT(D, biases);
        PUT(F * D, 1), PUT(F, biases), PUT(D * F, 1), PUT(D, biases);
        PUT(D, 1), PUT(D, biases), PUT(D, 1), PUT(D, biases);
    }
    PUT(D, tail), PUT(D, tail && biases), PUT(m->words * D, 1), PUT(m->words, 1);
    return end;
}

static void run_case(i64 longest) {
    static const int heads[] = {1, 2, 4, 8};
    Model m = {.width = 16 * draw(1, longest > 1000 ? 1 : 8), .heads = heads[longest > 1000 ? 0 : draw(0, 3)],
               .layers = longest > 1000 ? 1 : draw(1, 3), .ffn_width = 16 * draw(1, longest > 1000 ? 2 : 16), .inputs = 260,
               .words = draw(1, 12), .norm_first = draw(0, 1), .activation = draw(0, 2),
               .drop_threshold = draw(0, 2) ? draw(0, 65535) : 0};
    const i64 B = longest > 1000 ? 2 : draw(0, 3) ? draw(1, 40) : draw(41, 256), table = longest + draw(0, 3);
    const int tail = m.norm_first && draw(0, 1), biases = (int)draw(0, 1);
    int64_t *first = make(sizeof(int64_t) * (size_t)(B + 1)), *label = make(sizeof(int64_t) * (size_t)B);
    first[0] = 0;
    for (i64 b = 0; b < B; b++) {
        i64 L = draw(0, 9) ? draw(1, B > 40 ? 9 : 60) : draw(0, 1) ? 0 : draw(1, longest > 1000 ? 60 : longest);
        if (longest > 1000 && b == 0) L = longest;
        first[b + 1] = first[b] + L;
        label[b] = draw(0, m.words - 1);
    }
    const i64 M = first[B], N = draw(1, M + 1);
    int64_t *row = make(sizeof(int64_t) * (size_t)M), *position = make(sizeof(int64_t) * (size_t)M);
    for (i64 b = 0; b < B; b++)
        for (i64 i = first[b]; i < first[b + 1]; i++) {
            row[i] = draw(0, N - 1);
            position[i] = i - first[b];
        }
    double *target = make(sizeof(double) * (size_t)(m.words * m.words));
    for (i64 i = 0; i < m.words * m.words; i++) target[i] = 1.0 / (double)m.words;
    int64_t offset[4 + 12 * MOST_LAYERS + 4];
    const i64 W = lay_out(&m, biases, tail, offset);
    float *weights = uniforms(W, 0.2f), *gradients = make(sizeof(float) * (size_t)W);
    float *logits = make(sizeof(float) * (size_t)(B * m.words));
    float *frames = uniforms(N * m.inputs, 1.0f), *positions = uniforms(table * m.width, 1.0f);
    memset(gradients, 0, sizeof(float) * (size_t)W);
    Batch batch = {B, frames, row, position, first, positions, label, target, splitmix(&state)};
    double loss = 0, norm = 0, sum = 0;
    for (int train = 1; train >= 0; train--) {
        const size_t bytes = (size_t)workspace_bytes(&m, longest, train);
        void *workspace = 0;
        if (posix_memalign(&workspace, 64, bytes)) exit(2);
        if (train)
            loss = train_batch(&m, offset, weights, gradients, &batch, workspace);
        else
            classify_batch(&m, offset, weights, &batch, workspace, logits);
        free(workspace);
    }
    for (i64 i = 0; i < W; i++) norm += (double)gradients[i] * gradients[i];
    for (i64 i = 0; i < B * m.words; i++) sum += logits[i];
    printf("%d clips %d frames width %d heads %d ffn %d: %.9e %.9e %.9e\n", (int)B, (int)M, (int)m.width, (int)m.heads,
           (int)m.ffn_width, loss, sqrt(norm), sum);
    if (!isfinite(loss) || !isfinite(norm) || !isfinite(sum)) exit(3);
    free(first), free(label), free(row), free(position), free(target), free(weights), free(gradients), free(logits);
    free(frames), free(positions);
}

int main(int count, char **words) {
    const i64 cases = count > 1 ? atol(words[1]) : 20, longest = count > 2 ? atol(words[2]) : 300;
    if (!is_permitted()) return 4;
    for (i64 i = 0; i < cases; i++) run_case(longest);
    return 0;
}
