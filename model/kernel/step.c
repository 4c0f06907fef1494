// One training step of the Transformer in model/transformer.py: loss, logits and gradients of a batch. One thread, float32.
//
// The batch is processed in panels of whole clips, each panel forward and backward while it lies in the cache. Only real frames
// are given, one after the other: a masked frame has no weight as a key and no part in the mean, so it changes no number.
//
// Legend of shapes
//     B clips of the batch    M its real frames       R frames of a panel    L frames of a clip    I numbers of a frame
//     D width                 H heads, E = D / H      F width of the feed-forward block            K words
// Rows of activations have PAD numbers at their end that nothing reads, so that rows do not share a cache set.

#include "lanes.h"
#include "random.h"
#include "products.h"
#if defined(__AMX_BF16__)
#include "bf16.h"
#else
#include "linear.h"
#endif

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

enum { PANEL = 128, PAD = LANES, MOST_LAYERS = 32 };

typedef struct {
    int64_t width, heads, layers, ffn_width, inputs, words;  // width and ffn_width are multiples of LANES
    int64_t norm_first, activation;
    int64_t drop_threshold;  // dropout probability * 65536
} Model;

typedef struct {
    int64_t clips;
    const float *frames;  // [any, I]
    const int64_t *row_M, *position_M;  // row of `frames`, and frame number within the clip
    const int64_t *first_B1;  // [B + 1]: first of a clip's real frames, and M
    const float *position_table;  // [any, D]
    const int64_t *label_B;
    const double *target_KK;  // row y: the probabilities that the loss wants for a clip of word y
    uint64_t seed;  // of the dropout masks
} Batch;

// ---- weights ----

typedef struct {
    float *weight, *bias;  // of a linear layer or a norm; bias: 0 if there is none
} Affine;

typedef struct {
    Affine qkv, out, expand, contract, norm_attention, norm_ffn;
} LayerWeights;

typedef struct {
    Affine embed, norm_tail, head;  // norm_tail.weight: 0 if there is none
    LayerWeights layer[MOST_LAYERS];
} Weights;

static Affine next_affine(float *values, const int64_t **offset) {
    float *weight = **offset < 0 ? 0 : values + **offset;
    ++*offset;
    float *bias = **offset < 0 ? 0 : values + **offset;
    ++*offset;
    return (Affine){weight, bias};
}

// `offset`: of each weight and bias in the order of model/kernel/binding.py; -1 where there is none.
static Weights weights_at(const Model *model, float *values, const int64_t *offset) {
    Weights weights;
    weights.embed = next_affine(values, &offset);
    for (int l = 0; l < model->layers; l++) {
        LayerWeights *layer = &weights.layer[l];
        Affine *each[] = {&layer->qkv, &layer->out, &layer->expand, &layer->contract, &layer->norm_attention, &layer->norm_ffn};
        for (int i = 0; i < 6; i++) *each[i] = next_affine(values, &offset);
    }
    weights.norm_tail = next_affine(values, &offset);
    weights.head = next_affine(values, &offset);
    return weights;
}

// ---- memory ----

typedef struct {
    char *base;  // 0: only count
    size_t used;
} Arena;

static float *take(Arena *arena, i64 count) {
    float *at = arena->base ? (float *)(arena->base + arena->used) : 0;
    arena->used += (size_t)round_up(4 * count, 64) + 64;  // 64 more, so that arrays do not share a cache set
    return at;
}

typedef struct {
    Packed embed, qkv[MOST_LAYERS], out[MOST_LAYERS], expand[MOST_LAYERS], contract[MOST_LAYERS];
    float *embed_gradient;  // [D, I rounded up]
    float *scratch;  // of the products of linear layers
} Packs;

typedef struct {
    float *attention_input, *qkv, *share, *mixed, *attention_keep;  // share: [cells]; see `attend`
    float *ffn_input, *hidden, *hidden_slope, *ffn_keep;
    float *attention_normal, *attention_inverse_sd, *ffn_normal, *ffn_inverse_sd;  // what the norms standardized; 1 / sd of rows
} LayerState;

typedef struct {
    i64 width_row, ffn_row, qkv_row, input_row;  // numbers between the starts of two rows
    float *input, *x, *embed_slope, *branch, *normal_gradient, *x_gradient, *keep_rows, *hidden_gradient, *qkv_gradient;
    float *tail_output, *tail_normal, *tail_inverse_sd;
    float *transposed, *keep, *inner, *head_v, *head_out;  // of one head
    float *mean, *mean_gradient;
    double *logit, *logit_gradient;
    LayerState layer[MOST_LAYERS];
} Panel;

static Packed take_packed(Arena *arena, int train, i64 out, i64 in) {
    float *forward = take(arena, forward_size(out, in));
    return (Packed){forward, train ? take(arena, backward_size(out, in)) : 0};
}

// For R frames in a panel.
static void lay_out_packs(Arena *arena, const Model *model, int train, i64 R, Packs *packs) {
    const i64 D = model->width, F = model->ffn_width, Ip = round_up(model->inputs, LANES), wider = F > 3 * D ? F : 3 * D;
    packs->embed = take_packed(arena, 0, D, model->inputs);
    for (int l = 0; l < model->layers; l++) {
        packs->qkv[l] = take_packed(arena, train, 3 * D, D);
        packs->out[l] = take_packed(arena, train, D, D);
        packs->expand[l] = take_packed(arena, train, F, D);
        packs->contract[l] = take_packed(arena, train, D, F);
    }
    packs->embed_gradient = train ? take(arena, D * Ip) : 0;
    packs->scratch = take(arena, linear_scratch_size(R, wider > Ip ? wider : Ip));
}

static void lay_out_layer(Arena *arena, const Model *model, int train, i64 R, i64 cells, const Panel *panel, LayerState *layer) {
    layer->attention_input = take(arena, R * panel->width_row);
    layer->qkv = take(arena, R * panel->qkv_row);
    layer->share = take(arena, cells * model->heads);
    layer->mixed = take(arena, R * panel->width_row);
    layer->ffn_input = take(arena, R * panel->width_row);
    layer->hidden = take(arena, R * panel->ffn_row);
    layer->hidden_slope = train && model->activation != RELU ? take(arena, R * panel->ffn_row) : 0;
    layer->attention_keep = take(arena, R * model->width);
    layer->ffn_keep = take(arena, R * model->width);
    layer->attention_normal = take(arena, R * panel->width_row);
    layer->ffn_normal = take(arena, R * panel->width_row);
    layer->attention_inverse_sd = take(arena, R);
    layer->ffn_inverse_sd = take(arena, R);
}

// For R frames in a panel, the longest clip of L frames, and `cells` pairs of frames, the second rounded up to LANES.
static void lay_out_panel(Arena *arena, const Model *model, int train, i64 R, i64 L, i64 cells, Panel *panel) {
    const i64 D = model->width, F = model->ffn_width, Lp = round_up(L, LANES), E = round_up(D / model->heads, LANES);
    panel->width_row = D + PAD;
    panel->ffn_row = F + PAD;
    panel->qkv_row = 3 * D + PAD;
    panel->input_row = round_up(model->inputs, LANES) + PAD;
    panel->input = take(arena, R * panel->input_row);
    panel->x = take(arena, R * panel->width_row);
    panel->embed_slope = take(arena, R * panel->width_row);
    panel->branch = take(arena, R * panel->width_row);
    panel->keep_rows = take(arena, R * (F > D ? F : D));
    panel->tail_output = take(arena, R * panel->width_row);
    panel->tail_normal = take(arena, R * panel->width_row);
    panel->tail_inverse_sd = take(arena, R);
    panel->transposed = take(arena, E * Lp);
    panel->keep = take(arena, L * Lp);
    panel->inner = train ? take(arena, L * Lp) : 0;
    panel->head_v = take(arena, L * E);
    panel->head_out = take(arena, L * E);
    panel->mean = take(arena, D);
    panel->mean_gradient = take(arena, D);
    panel->logit = (double *)take(arena, 2 * model->words);
    panel->logit_gradient = (double *)take(arena, 2 * model->words);
    if (train) {
        panel->normal_gradient = take(arena, R * panel->width_row);
        panel->x_gradient = take(arena, R * panel->width_row);
        panel->hidden_gradient = take(arena, R * panel->ffn_row);
        panel->qkv_gradient = take(arena, R * panel->qkv_row);
    }
    for (int l = 0; l < model->layers; l++) {
        if (train || l == 0)
            lay_out_layer(arena, model, train, R, cells, panel, &panel->layer[l]);
        else
            panel->layer[l] = panel->layer[0];  // nothing is read again
    }
}

// ---- parts of the network ----

static void pack_weights(const Model *model, const Weights *weights, int train, Packs *packs) {
    const i64 D = model->width, F = model->ffn_width;
    float *scratch = packs->scratch;
    pack_forward(weights->embed.weight, D, model->inputs, packs->embed.forward, scratch);
    for (int l = 0; l < model->layers; l++) {
        const LayerWeights *layer = &weights->layer[l];
        pack_forward(layer->qkv.weight, 3 * D, D, packs->qkv[l].forward, scratch);
        pack_forward(layer->out.weight, D, D, packs->out[l].forward, scratch);
        pack_forward(layer->expand.weight, F, D, packs->expand[l].forward, scratch);
        pack_forward(layer->contract.weight, D, F, packs->contract[l].forward, scratch);
        if (!train) continue;
        pack_backward(layer->qkv.weight, 3 * D, D, packs->qkv[l].backward);
        pack_backward(layer->out.weight, D, D, packs->out[l].backward);
        pack_backward(layer->expand.weight, F, D, packs->expand[l].backward);
        pack_backward(layer->contract.weight, D, F, packs->contract[l].backward);
    }
}

// Adds the column sums of x [R, n] to `sums`.
static void add_column_sums(const float *x, i64 row, i64 R, i64 n, float *sums) {
    if (!sums) return;
    for (i64 j = 0; j < n; j += V) {
        v sum = {};
        for (i64 r = 0; r < R; r++) sum += load(x + r * row + j);
        store(sums + j, load(sums + j) + sum);
    }
}

// y = (x - mean) / sd * weight + bias over each row of D numbers, with 1e-5 added to the variance. May work in place.
static void norm(const float *x, i64 row, i64 R, i64 D, Affine scale, float *y, float *normal, float *inverse_sd) {
    for (i64 r = 0; r < R; r++) {
        const float *a = x + r * row;
        v sum[LANES / V] = {}, squares[LANES / V] = {};
        for (i64 j = 0; j < D; j += LANES)
            UNROLL for (int p = 0; p < LANES / V; p++) sum[p] += load(a + j + p * V);
        const float mean = sum_lanes(sum) / (float)D;
        for (i64 j = 0; j < D; j += LANES)
            UNROLL for (int p = 0; p < LANES / V; p++) {
                v d = load(a + j + p * V) - mean;
                squares[p] += d * d;
            }
        const float inverse = 1.0f / sqrtf(sum_lanes(squares) / (float)D + 1e-5f);
        inverse_sd[r] = inverse;
        for (i64 j = 0; j < D; j += V) {
            v n = (load(a + j) - mean) * inverse;
            store(normal + r * row + j, n);
            n *= load(scale.weight + j);
            store(y + r * row + j, scale.bias ? n + load(scale.bias + j) : n);
        }
    }
}

// From the gradient of y: the gradients of weight and bias, and that of x, which is stored (SET) or added (ADD) to dx.
static void norm_backward(const float *dy, const float *normal, const float *inverse_sd, i64 row, i64 R, i64 D, Affine scale,
                          Affine gradient, float *dx, Mode mode) {
    add_column_sums(dy, row, R, D, gradient.bias);
    for (i64 r = 0; r < R; r++) {
        const float *g = dy + r * row, *n = normal + r * row;
        float *out = dx + r * row;
        v sum[LANES / V] = {}, products[LANES / V] = {};
        for (i64 j = 0; j < D; j += LANES)
            UNROLL for (int p = 0; p < LANES / V; p++) {
                const i64 i = j + p * V;
                v gradient_ij = load(g + i), normal_ij = load(n + i);
                store(gradient.weight + i, load(gradient.weight + i) + gradient_ij * normal_ij);
                v scaled = gradient_ij * load(scale.weight + i);
                sum[p] += scaled;
                products[p] += scaled * normal_ij;
            }
        const float mean = sum_lanes(sum) / (float)D, slope = sum_lanes(products) / (float)D, inverse = inverse_sd[r];
        for (i64 j = 0; j < D; j += V) {
            v d = (load(g + j) * load(scale.weight + j) - mean - load(n + j) * slope) * inverse;
            store(out + j, mode == ADD ? load(out + j) + d : d);
        }
    }
}

static void copy_rows(const float *from, i64 row, i64 R, i64 n, float *to) {
    for (i64 r = 0; r < R; r++) memcpy(to + r * row, from + r * row, sizeof(float) * n);
}

// x += branch, with dropout on the branch. Records what was kept.
static void add_branch(float *x, const float *branch, i64 row, i64 R, i64 D, Random *random, float *keep) {
    if (random->threshold) draw_keep(random, keep, R * D);
    for (i64 r = 0; r < R; r++)
        for (i64 j = 0; j < D; j += V) {
            v b = load(branch + r * row + j);
            if (random->threshold) b *= load(keep + r * D + j);
            store(x + r * row + j, load(x + r * row + j) + b);
        }
}

// The gradient of a branch from that of x.
static void branch_backward(const float *dx, i64 row, i64 R, i64 D, const Random *random, const float *keep, float *branch) {
    for (i64 r = 0; r < R; r++)
        for (i64 j = 0; j < D; j += V) {
            v d = load(dx + r * row + j);
            store(branch + r * row + j, random->threshold ? d * load(keep + r * D + j) : d);
        }
}

// x = dropout(activation(x)). `keep`: what dropout multiplies by, 0 without it. The derivative goes to `slope`, unless that is 0.
INLINE void activate_rows(const int kind, float *x, i64 row, i64 R, i64 n, const float *keep, float *slope) {
    for (i64 r = 0; r < R; r++)
        for (i64 j = 0; j < n; j += V) {
            const i64 i = r * row + j;
            v derivative, y = activate(kind, load(x + i), &derivative);
            if (keep) {
                v k = load(keep + r * n + j);
                y *= k;
                derivative *= k;
            }
            store(x + i, y);
            if (slope) store(slope + i, derivative);
        }
}

static void activate_hidden(const Model *model, float *x, i64 row, i64 R, i64 n, Random *random, float *keep, float *slope) {
    if (random->threshold)
        draw_keep(random, keep, R * n);
    else
        keep = 0;
    if (model->activation == RELU) activate_rows(RELU, x, row, R, n, keep, slope);
    if (model->activation == GELU) activate_rows(GELU, x, row, R, n, keep, slope);
    if (model->activation == SILU) activate_rows(SILU, x, row, R, n, keep, slope);
}

// The gradient of the hidden numbers before activation and dropout, from that after them.
static void hidden_backward(float *gradient, const LayerState *layer, i64 row, i64 R, i64 F, const Random *random) {
    const v kept = all(random->threshold ? random->scale : 1.0f);
    for (i64 r = 0; r < R; r++)
        for (i64 j = 0; j < F; j += V) {
            const i64 i = r * row + j;  // with RELU, what is above 0 was neither negative nor dropped
            v slope = layer->hidden_slope ? load(layer->hidden_slope + i) : or_zero(load(layer->hidden + i) > 0.0f, kept);
            store(gradient + i, load(gradient + i) * slope);
        }
}

static void embed_frames(const Model *model, const Weights *weights, const Batch *batch, i64 first, i64 R, const Packs *packs,
                         Random *random, Panel *panel) {
    const i64 D = model->width, I = model->inputs, row = panel->width_row;
    for (i64 r = 0; r < R; r++) {
        float *input = panel->input + r * panel->input_row;
        memcpy(input, batch->frames + batch->row_M[first + r] * I, sizeof(float) * I);
        memset(input + I, 0, sizeof(float) * (round_up(I, LANES) - I));
    }
    linear(panel->input, panel->input_row, R, D, I, packs->embed.forward, weights->embed.bias, panel->x, row, packs->scratch);
    Random none = {.threshold = 0};
    activate_hidden(model, panel->x, row, R, D, &none, 0, panel->embed_slope);
    if (random->threshold) draw_keep(random, panel->keep_rows, R * D);
    for (i64 r = 0; r < R; r++) {
        const float *position = batch->position_table + batch->position_M[first + r] * D;
        for (i64 j = 0; j < D; j += V) {
            const i64 i = r * row + j;
            v x = load(panel->x + i) + load(position + j);
            if (random->threshold) {
                v k = load(panel->keep_rows + r * D + j);
                x *= k;
                store(panel->embed_slope + i, load(panel->embed_slope + i) * k);
            }
            store(panel->x + i, x);
        }
    }
}

// A head's rows of E numbers, as they are or, if E is no multiple of LANES, copied and filled up with zeros.
static const float *whole_lanes(const float *head, i64 *row, i64 L, i64 E, float *copy) {
    const i64 Ep = round_up(E, LANES);
    if (E == Ep) return head;
    for (i64 l = 0; l < L; l++) {
        memcpy(copy + l * Ep, head + l * *row, sizeof(float) * E);
        memset(copy + l * Ep + E, 0, sizeof(float) * (Ep - E));
    }
    *row = Ep;
    return copy;
}

// out[m, e] = sum_k a[m, k] head[k, e] for a head of L rows.
static void product_with_head(i64 L, i64 E, Left a, const float *head, i64 head_row, Panel *panel, float *out, i64 out_row) {
    const i64 Ep = round_up(E, LANES);
    const float *whole = whole_lanes(head, &head_row, L, E, panel->head_v);
    if (E == Ep) {
        product(L, E, L, a, plain(whole, head_row), out, out_row, SET, 0);
        return;
    }
    product(L, Ep, L, a, plain(whole, head_row), panel->head_out, Ep, SET, 0);
    for (i64 l = 0; l < L; l++) memcpy(out + l * out_row, panel->head_out + l * Ep, sizeof(float) * E);
}

// Softmax over the keys of share [key, query], whose scores are scaled by `scale`; then dropout into `used`, which holds what to
// keep. The sign of a share tells whether it was dropped.
static void softmax_dropout(float *share, float *used, i64 L, i64 Lp, float scale, int drops) {
    for (i64 j = 0; j < Lp; j += V) {  // queries lie side by side, so that no sum runs over lanes
        v most = load(share + j), sum = {};
        for (i64 k = 1; k < L; k++) most = larger(most, load(share + k * Lp + j));
        for (i64 k = 0; k < L; k++) {
            v e = exp_negative((load(share + k * Lp + j) - most) * scale);
            store(share + k * Lp + j, e);
            sum += e;
        }
        const v inverse = 1.0f / sum;
        for (i64 k = 0; k < L; k++) {
            v s = load(share + k * Lp + j) * inverse;
            if (drops) {
                v keep = load(used + k * Lp + j);
                store(used + k * Lp + j, s * keep);
                s = (v)((vi)s | ((vi)(keep == 0.0f) & (vi)all(-0.0f)));
            }
            store(share + k * Lp + j, s);
        }
    }
}

static void attend(const Model *model, const int64_t *first_B1, i64 clips, Random *random, Panel *panel, LayerState *layer) {
    const i64 D = model->width, H = model->heads, E = D / H, row = panel->qkv_row;
    const float scale = 1.0f / sqrtf((float)E);
    const int drops = random->threshold > 0;
    float *share = layer->share;
    for (i64 clip = 0, start = 0; clip < clips; clip++) {
        const i64 L = first_B1[clip + 1] - first_B1[clip], Lp = round_up(L, LANES);
        for (i64 h = 0; h < H && L > 0; h++) {
            const float *q = layer->qkv + start * row + h * E, *k = q + D, *value = k + D;
            transpose(q, row, L, E, panel->transposed, Lp);
            product(L, Lp, E, rows(k, row), plain(panel->transposed, Lp), share, Lp, SET, 0);
            if (drops) draw_keep(random, panel->keep, L * Lp);
            softmax_dropout(share, panel->keep, L, Lp, scale, drops);
            product_with_head(L, E, columns(drops ? panel->keep : share, Lp), value, row, panel,
                              layer->mixed + start * panel->width_row + h * E, panel->width_row);
            share += L * Lp;
        }
        start += L;
    }
}

// From d = the gradient of the shares after dropout: that of the scores, in d; and the shares after dropout, in `used`.
static void softmax_backward(const float *share, float *d, float *used, i64 L, i64 Lp, float scale, float kept) {
    for (i64 j = 0; j < Lp; j += V) {
        v inner = {};
        for (i64 k = 0; k < L; k++) {
            v s = load(share + k * Lp + j);
            vi lives = ~((vi)s >> 31);
            v kept_here = or_zero(lives, all(kept)), gradient = load(d + k * Lp + j) * kept_here;
            s = absolute(s);
            store(used + k * Lp + j, s * kept_here);
            store(d + k * Lp + j, gradient);
            inner += gradient * s;
        }
        for (i64 k = 0; k < L; k++) {
            v s = absolute(load(share + k * Lp + j));
            store(d + k * Lp + j, s * (load(d + k * Lp + j) - inner) * scale);
        }
    }
}

// From the gradient of what was mixed [R, D]: that of queries, keys and values.
static void attend_backward(const Model *model, const int64_t *first_B1, i64 clips, const Random *random, Panel *panel,
                            const LayerState *layer, const float *mixed_gradient) {
    const i64 D = model->width, H = model->heads, E = D / H, row = panel->qkv_row;
    const float scale = 1.0f / sqrtf((float)E), kept = random->threshold ? random->scale : 1.0f;
    const float *share = layer->share;
    for (i64 clip = 0, start = 0; clip < clips; clip++) {
        const i64 L = first_B1[clip + 1] - first_B1[clip], Lp = round_up(L, LANES);
        for (i64 h = 0; h < H && L > 0; h++) {
            const float *q = layer->qkv + start * row + h * E, *k = q + D, *value = k + D;
            const float *mixed = mixed_gradient + start * panel->width_row + h * E;
            float *dq = panel->qkv_gradient + start * row + h * E, *dk = dq + D, *dvalue = dk + D;
            transpose(mixed, panel->width_row, L, E, panel->transposed, Lp);
            product(L, Lp, E, rows(value, row), plain(panel->transposed, Lp), panel->inner, Lp, SET, 0);
            softmax_backward(share, panel->inner, panel->keep, L, Lp, scale, kept);
            product_with_head(L, E, columns(panel->inner, Lp), k, row, panel, dq, row);
            product_with_head(L, E, rows(panel->inner, Lp), q, row, panel, dk, row);
            product_with_head(L, E, rows(panel->keep, Lp), mixed, panel->width_row, panel, dvalue, row);
            share += L * Lp;
        }
        start += L;
    }
}

// Forward through layer l; x is its input and its output.
static void layer_forward(const Model *model, const LayerWeights *weights, const Packs *packs, int l, const int64_t *first_B1,
                          i64 clips, i64 R, Random *random, Panel *panel) {
    const i64 D = model->width, F = model->ffn_width, row = panel->width_row;
    LayerState *layer = &panel->layer[l];
    float *x = panel->x;
    if (model->norm_first)
        norm(x, row, R, D, weights->norm_attention, layer->attention_input, layer->attention_normal, layer->attention_inverse_sd);
    else
        copy_rows(x, row, R, D, layer->attention_input);
    linear(layer->attention_input, row, R, 3 * D, D, packs->qkv[l].forward, weights->qkv.bias, layer->qkv, panel->qkv_row,
           packs->scratch);
    attend(model, first_B1, clips, random, panel, layer);
    linear(layer->mixed, row, R, D, D, packs->out[l].forward, weights->out.bias, panel->branch, row, packs->scratch);
    add_branch(x, panel->branch, row, R, D, random, layer->attention_keep);

    if (model->norm_first) {
        norm(x, row, R, D, weights->norm_ffn, layer->ffn_input, layer->ffn_normal, layer->ffn_inverse_sd);
    } else {
        norm(x, row, R, D, weights->norm_attention, layer->ffn_input, layer->attention_normal, layer->attention_inverse_sd);
        copy_rows(layer->ffn_input, row, R, D, x);
    }
    linear(layer->ffn_input, row, R, F, D, packs->expand[l].forward, weights->expand.bias, layer->hidden, panel->ffn_row,
           packs->scratch);
    activate_hidden(model, layer->hidden, panel->ffn_row, R, F, random, panel->keep_rows, layer->hidden_slope);
    linear(layer->hidden, panel->ffn_row, R, D, F, packs->contract[l].forward, weights->contract.bias, panel->branch, row,
           packs->scratch);
    add_branch(x, panel->branch, row, R, D, random, layer->ffn_keep);
    if (!model->norm_first) norm(x, row, R, D, weights->norm_ffn, x, layer->ffn_normal, layer->ffn_inverse_sd);
}

// The gradients of a linear layer's weight and bias from those of its output [R, out] and its input [R, in].
static void linear_backward(const float *output_gradient, i64 output_row, i64 out, const float *input, i64 input_row, i64 in,
                            i64 R, Affine gradient, float *scratch) {
    add_column_sums(output_gradient, output_row, R, out, gradient.bias);
    add_weight_gradient(output_gradient, output_row, R, out, input, input_row, in, gradient.weight, scratch);
}

// Backward through layer l; panel->x_gradient is the gradient of its output, then of its input.
static void layer_backward(const Model *model, const LayerWeights *weights, const LayerWeights *gradients, const Packs *packs,
                           int l, const int64_t *first_B1, i64 clips, i64 R, const Random *random, Panel *panel) {
    const i64 D = model->width, F = model->ffn_width, row = panel->width_row;
    LayerState *layer = &panel->layer[l];
    float *dx = panel->x_gradient, *branch = panel->branch, *dy = panel->normal_gradient, *hidden = panel->hidden_gradient;
    if (!model->norm_first)
        norm_backward(dx, layer->ffn_normal, layer->ffn_inverse_sd, row, R, D, weights->norm_ffn, gradients->norm_ffn, dx, SET);
    branch_backward(dx, row, R, D, random, layer->ffn_keep, branch);
    linear_backward(branch, row, D, layer->hidden, panel->ffn_row, F, R, gradients->contract, packs->scratch);
    input_gradient(branch, row, R, D, F, packs->contract[l].backward, hidden, panel->ffn_row, SET, packs->scratch);
    hidden_backward(hidden, layer, panel->ffn_row, R, F, random);
    linear_backward(hidden, panel->ffn_row, F, layer->ffn_input, row, D, R, gradients->expand, packs->scratch);
    if (model->norm_first) {
        input_gradient(hidden, panel->ffn_row, R, F, D, packs->expand[l].backward, dy, row, SET, packs->scratch);
        norm_backward(dy, layer->ffn_normal, layer->ffn_inverse_sd, row, R, D, weights->norm_ffn, gradients->norm_ffn, dx, ADD);
    } else {
        input_gradient(hidden, panel->ffn_row, R, F, D, packs->expand[l].backward, dx, row, ADD, packs->scratch);
        norm_backward(dx, layer->attention_normal, layer->attention_inverse_sd, row, R, D, weights->norm_attention,
                      gradients->norm_attention, dx, SET);
    }

    branch_backward(dx, row, R, D, random, layer->attention_keep, branch);
    linear_backward(branch, row, D, layer->mixed, row, D, R, gradients->out, packs->scratch);
    input_gradient(branch, row, R, D, D, packs->out[l].backward, dy, row, SET, packs->scratch);
    attend_backward(model, first_B1, clips, random, panel, layer, dy);
    linear_backward(panel->qkv_gradient, panel->qkv_row, 3 * D, layer->attention_input, row, D, R, gradients->qkv, packs->scratch);
    if (model->norm_first) {
        input_gradient(panel->qkv_gradient, panel->qkv_row, R, 3 * D, D, packs->qkv[l].backward, dy, row, SET, packs->scratch);
        norm_backward(dy, layer->attention_normal, layer->attention_inverse_sd, row, R, D, weights->norm_attention,
                      gradients->norm_attention, dx, ADD);
    } else {
        input_gradient(panel->qkv_gradient, panel->qkv_row, R, 3 * D, D, packs->qkv[l].backward, dx, row, ADD, packs->scratch);
    }
}

// -sum_k target_k ln softmax(logit)_k, and its derivatives softmax(logit)_k - target_k if `gradient` is not 0.
EXPORT double soft_cross_entropy(int64_t words, const double *logit, const double *target, double *gradient) {
    double most = logit[0], sum = 0, loss = 0;
    for (int64_t k = 1; k < words; k++) most = logit[k] > most ? logit[k] : most;
    for (int64_t k = 0; k < words; k++) sum += exp(logit[k] - most);
    const double log_sum = log(sum);
    for (int64_t k = 0; k < words; k++) {
        loss += target[k] * (log_sum - (logit[k] - most));
        if (gradient) gradient[k] = exp(logit[k] - most) / sum - target[k];
    }
    return loss;
}

// Mean over the frames of a clip, and its logits.
static void classify_clip(const Model *model, const Weights *weights, const float *y, i64 row, i64 L, Panel *panel) {
    const i64 D = model->width;
    const float share = L > 0 ? 1.0f / (float)L : 0.0f;
    for (i64 j = 0; j < D; j += V) {
        v sum = {};
        for (i64 l = 0; l < L; l++) sum += load(y + l * row + j);
        store(panel->mean + j, sum * share);
    }
    for (i64 k = 0; k < model->words; k++) {
        const float *w = weights->head.weight + k * D;
        v sum[LANES / V] = {};
        for (i64 j = 0; j < D; j += LANES)
            UNROLL for (int p = 0; p < LANES / V; p++) sum[p] += load(w + j + p * V) * load(panel->mean + j + p * V);
        panel->logit[k] = sum_lanes(sum) + weights->head.bias[k];
    }
}

// Adds the gradients of the head; the gradient of each frame of the clip goes to dy.
static void classify_backward(const Model *model, const Weights *weights, const Weights *gradients, double share_of_batch, i64 L,
                              Panel *panel, float *dy, i64 row) {
    const i64 D = model->width;
    for (i64 j = 0; j < D; j += V) store(panel->mean_gradient + j, (v){});
    for (i64 k = 0; k < model->words; k++) {
        const float d = (float)(panel->logit_gradient[k] * share_of_batch);
        const float *w = weights->head.weight + k * D;
        float *dw = gradients->head.weight + k * D;
        gradients->head.bias[k] += d;
        for (i64 j = 0; j < D; j += V) {
            store(dw + j, load(dw + j) + d * load(panel->mean + j));
            store(panel->mean_gradient + j, load(panel->mean_gradient + j) + d * load(w + j));
        }
    }
    for (i64 l = 0; l < L; l++)
        for (i64 j = 0; j < D; j += V) store(dy + l * row + j, load(panel->mean_gradient + j) * (1.0f / (float)L));
}

// Forward, and with gradients backward, through a panel: the clips from first_B1[0] on. Returns the sum of their losses.
static double run_panel(const Model *model, const Weights *weights, const Weights *gradients, const Batch *batch, i64 clip0,
                        i64 clips, const Packs *packs, Random *random, Panel *panel, float *logit_BK) {
    const i64 D = model->width, K = model->words, row = panel->width_row;
    const int64_t *first_B1 = batch->first_B1 + clip0;
    const i64 first = first_B1[0], R = first_B1[clips] - first;
    embed_frames(model, weights, batch, first, R, packs, random, panel);
    for (int l = 0; l < model->layers; l++)
        layer_forward(model, &weights->layer[l], packs, l, first_B1, clips, R, random, panel);
    const int has_tail = weights->norm_tail.weight != 0;
    const float *y = panel->x;
    if (has_tail) {
        norm(panel->x, row, R, D, weights->norm_tail, panel->tail_output, panel->tail_normal, panel->tail_inverse_sd);
        y = panel->tail_output;
    }
    double loss = 0;
    float *dy = has_tail ? panel->normal_gradient : panel->x_gradient;
    for (i64 clip = 0; clip < clips; clip++) {
        const i64 start = first_B1[clip] - first, L = first_B1[clip + 1] - first_B1[clip];
        classify_clip(model, weights, y + start * row, row, L, panel);
        if (!gradients) {
            for (i64 k = 0; k < K; k++) logit_BK[(clip0 + clip) * K + k] = (float)panel->logit[k];
            continue;
        }
        const double *target = batch->target_KK + batch->label_B[clip0 + clip] * K;
        loss += soft_cross_entropy(K, panel->logit, target, panel->logit_gradient);
        classify_backward(model, weights, gradients, 1.0 / (double)batch->clips, L, panel, dy + start * row, row);
    }
    if (!gradients) return 0;
    if (has_tail)
        norm_backward(dy, panel->tail_normal, panel->tail_inverse_sd, row, R, D, weights->norm_tail, gradients->norm_tail,
                      panel->x_gradient, SET);
    for (i64 l = model->layers - 1; l >= 0; l--)
        layer_backward(model, &weights->layer[l], &gradients->layer[l], packs, l, first_B1, clips, R, random, panel);
    float *dx = panel->x_gradient;
    for (i64 r = 0; r < R; r++)
        for (i64 j = 0; j < D; j += V) store(dx + r * row + j, load(dx + r * row + j) * load(panel->embed_slope + r * row + j));
    const i64 Ip = round_up(model->inputs, LANES);
    linear_backward(dx, row, D, panel->input, panel->input_row, Ip, R, (Affine){packs->embed_gradient, gradients->embed.bias},
                    packs->scratch);
    return loss;
}

// ---- what Python calls ----

EXPORT int64_t kernel_version(void) { return KERNEL_VERSION; }

// Whether the system lets this process use the matrix unit, where the kernel needs it. Call it once before all others.
EXPORT int64_t is_permitted(void) {
    const int permitted = prepare_tiles() == 0;
    if (permitted) release_tiles();
    return permitted;
}

// Bytes of workspace for batches whose longest clip has `longest` frames.
EXPORT int64_t workspace_bytes(const Model *model, int64_t longest, int64_t train) {
    const i64 R = longest > PANEL ? longest : PANEL;
    Arena arena = {0, 0};
    Packs packs = {0};
    Panel panel = {0};
    lay_out_packs(&arena, model, train != 0, R, &packs);
    lay_out_panel(&arena, model, train != 0, R, R, R * round_up(R, LANES), &panel);
    return (int64_t)arena.used;
}

// Frames of the longest panel that the batch may have.
static i64 most_rows(const Batch *batch) {
    i64 most = PANEL;
    for (i64 clip = 0; clip < batch->clips; clip++) {
        const i64 L = batch->first_B1[clip + 1] - batch->first_B1[clip];
        most = L > most ? L : most;
    }
    return most;
}

static double run(const Model *model, const int64_t *offset, const float *values, float *gradient_values, const Batch *batch,
                  void *workspace, float *logit_BK) {
    const int train = gradient_values != 0;
    // The weights are only read; the type serves for their gradients too.
    const Weights weights = weights_at(model, (float *)values, offset);
    const Weights gradients = train ? weights_at(model, gradient_values, offset) : weights;
    Random random = seeded(batch->seed, train ? model->drop_threshold : 0);
    prepare_tiles();
    Arena arena = {workspace, 0};
    Packs packs = {0};
    lay_out_packs(&arena, model, train, most_rows(batch), &packs);
    pack_weights(model, &weights, train, &packs);
    const i64 D = model->width, I = model->inputs, Ip = round_up(I, LANES);
    if (train) memset(packs.embed_gradient, 0, sizeof(float) * D * Ip);
    double loss = 0;
    for (i64 clip = 0; clip < batch->clips;) {
        i64 count = 0, R = 0, longest = 0, cells = 0;
        while (clip + count < batch->clips) {
            const i64 L = batch->first_B1[clip + count + 1] - batch->first_B1[clip + count];
            if (count > 0 && R + L > PANEL) break;
            R += L;
            cells += L * round_up(L, LANES);
            longest = L > longest ? L : longest;
            count++;
        }
        Arena rest = arena;
        Panel panel = {0};
        lay_out_panel(&rest, model, train, R, longest, cells, &panel);
        loss += run_panel(model, &weights, train ? &gradients : 0, batch, clip, count, &packs, &random, &panel, logit_BK);
        clip += count;
    }
    if (train)
        for (i64 n = 0; n < D; n++) memcpy(gradients.embed.weight + n * I, packs.embed_gradient + n * Ip, sizeof(float) * I);
    release_tiles();
    return loss / (double)batch->clips;
}

// The mean loss of a batch. Its gradients are added to `gradients`, which are laid out as `weights` are and start as zeros.
EXPORT double train_batch(const Model *model, const int64_t *offset, const float *weights, float *gradients, const Batch *batch,
                          void *workspace) {
    return run(model, offset, weights, gradients, batch, workspace, 0);
}

// The logits [B, K] of a batch, without dropout.
EXPORT void classify_batch(const Model *model, const int64_t *offset, const float *weights, const Batch *batch, void *workspace,
                           float *logit_BK) {
    run(model, offset, weights, 0, batch, workspace, logit_BK);
}
