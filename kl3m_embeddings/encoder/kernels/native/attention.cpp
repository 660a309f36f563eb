// Attention in bfloat16, forward and backward, with DeBERTa's position terms or without.
//
//     S[q, k] = scale (Q[q] . K[k]  +  Q[q] . PK[q - k]  +  K[k] . PQ[q - k])  +  bias[k]
//     P = softmax(S)    W = dropout(P)    O = W V
//
//     dV = W' dO    dP = dropout(dO V')    dS = P * (dP - rowsum(dO * O))
//     dQ = scale (dS K + dS PK)    dK = scale (dS' Q + dS' PQ)    dPK, dPQ: dS summed along diagonals
//
// PK and PQ are tables with a row for each offset, stored by k - q and by q - k ascending; a score takes
// one row of each, which depends on the offset alone. A gather would read a row of D numbers for each
// score. Here 16 queries are multiplied with the window of all rows that they meet, and the product is
// read along its diagonals: 16 more columns than there are keys, and every read is of consecutive numbers.
//
// That rowsum(P * dP) = rowsum(dO * O), and so needs no scores, is FlashAttention's observation.
//
// Dimensions: H heads, D size of a head, n a sequence's length rounded up to STEP, R offsets of a table
// (2 max_length rounded up), QUERIES. [a][b] is a matrix without gaps. Query, key, value and output are
// [tokens][H][D]; a sequence is any stretch of the tokens. Rows and offsets beyond the true ones are zero.
//
// A task is one head of a group of neighbouring sequences:
//
// 1. K PQ' is multiplied for 16 keys and the window of offsets that the queries reach; read along its
//    diagonals and transposed it is the position-to-content score. Q K' is added onto it.
// 2. Q PK' for 16 queries, read along its diagonals, is the content-to-position score; the sum is
//    scaled, turned into weights and multiplied with V while it lies in the cache (attention_forward.h).
// 3. Backward, the gradient of the scores goes through the same windows: a tile of it with shifted rows
//    ("band") multiplies the tables, and is multiplied by Q and K for the gradients of the tables
//    (attention_backward.h). Those are summed for each task apart and then over the tasks in order:
//    nothing depends on threads.
//
// DeBERTa: https://arxiv.org/abs/2006.03654; FlashAttention-2: https://arxiv.org/abs/2307.08691
#include "attention_forward.h"
#include "attention_backward.h"

namespace {

// For each head and group of sequences, on some thread: call `run(head, group, pos_key, pos_query)`.
// A table that is null stays null. Tasks differ in size, so threads take the next one when they are done.
template <class Run>
void for_each_task(const Shape& shape, int num_groups, const bf16* pos_key, const bf16* pos_query, Run run) {
    const size_t table_size = size_t(2 * shape.max_length - 1) * shape.size;
#pragma omp parallel for schedule(dynamic)
    for (int task = 0; task < shape.heads * num_groups; ++task) {
        const int head = task / num_groups;
        Table keys, queries;
        if (pos_key) keys.fill(pos_key + head * table_size, shape);
        if (pos_query) queries.fill(pos_query + head * table_size, shape);
        run(head, task % num_groups, pos_key ? &keys : nullptr, pos_query ? &queries : nullptr);
    }
}

// [groups][D][R] of one head -> [2 max_length - 1][D], summed in the order of the groups.
void sum_tables(const float* partial, const Shape& shape, int num_groups, float* table) {
    const int first = shape.padded() - shape.max_length, offsets = shape.offsets();
    for (int offset = 0; offset < 2 * shape.max_length - 1; ++offset)
        for (int column = 0; column < shape.size; ++column) {
            float sum = 0;
            for (int group = 0; group < num_groups; ++group)
                sum += partial[(size_t(group) * shape.size + column) * offsets + first + offset];
            table[size_t(offset) * shape.size + column] = sum;
        }
}

}  // namespace

extern "C" {

// pos_key, pos_query: [H][2 max_length - 1][D] by k - q and by q - k ascending, or null. key_bias: [tokens] or
// null. dropout_keys: [tokens], or null where there is no dropout. weights: as WeightStarts says, or null; a
// dropped one has its sign set.
void attention_forward(const bf16* query, const bf16* key, const bf16* value, const bf16* pos_key,
                       const bf16* pos_query, const float* key_bias, const int64_t* bounds,
                       const uint32_t* dropout_keys, bf16* output, bf16* weights, int64_t tokens, int sequences,
                       int max_length, int heads, int size, float scale, float factor, int32_t drop_below) {
    const Shape shape{bounds, tokens, sequences, max_length, heads, size};
    const WeightStarts weight_starts(shape);
    const std::vector<int> starts = group_starts(shape);
    const std::vector<uint32_t> columns = mixed_columns(shape.padded());
    for_each_task(shape, int(starts.size()) - 1, pos_key, pos_query, [&](int head, int group, const Table* keys, const Table* queries) {
        Forward task{shape, query, key, value, keys, queries, key_bias, scale, {dropout_keys, factor, drop_below}, columns,
                     weight_starts, output, weights, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}};
        task.run_all(head, starts[group], starts[group + 1]);
    });
}

// Keys are not asked for: the signs of `weights` say what was dropped. grad_pos_*: like pos_*, in float32.
void attention_backward(const bf16* query, const bf16* key, const bf16* value, const bf16* pos_key,
                        const bf16* pos_query, const int64_t* bounds, const bf16* output, const bf16* weights,
                        const bf16* grad_output, bf16* grad_query, bf16* grad_key, bf16* grad_value,
                        float* grad_pos_key, float* grad_pos_query, int64_t tokens, int sequences, int max_length,
                        int heads, int size, float scale, float factor) {
    const Shape shape{bounds, tokens, sequences, max_length, heads, size};
    const WeightStarts weight_starts(shape);
    const std::vector<int> starts = group_starts(shape);
    const int num_groups = int(starts.size()) - 1;
    const size_t partial_size = size_t(size) * shape.offsets(), table_size = size_t(2 * max_length - 1) * size;
    const size_t num_partial = size_t(heads) * num_groups * partial_size;
    std::vector<float> keys(pos_key ? num_partial : 0), queries(pos_query ? num_partial : 0);
    for_each_task(shape, num_groups, pos_key, pos_query, [&](int head, int group, const Table* key_table, const Table* query_table) {
        const size_t at = (size_t(head) * num_groups + group) * partial_size;
        float *grad_keys = pos_key ? keys.data() + at : nullptr, *grad_queries = pos_query ? queries.data() + at : nullptr;
        Backward task{shape, query, key, value, output, weights, grad_output, key_table, query_table, scale,
                      factor, weight_starts, grad_query, grad_key, grad_value, grad_keys, grad_queries,
                      {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}};
        task.run_all(head, starts[group], starts[group + 1]);
    });
#pragma omp parallel for schedule(static)
    for (int head = 0; head < heads; ++head) {
        const size_t at = size_t(head) * num_groups * partial_size;
        if (pos_key) sum_tables(keys.data() + at, shape, num_groups, grad_pos_key + head * table_size);
        if (pos_query) sum_tables(queries.data() + at, shape, num_groups, grad_pos_query + head * table_size);
    }
}

}  // extern "C"
