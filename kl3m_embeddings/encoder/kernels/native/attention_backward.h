// The backward pass of attention: one head of one sequence at a time (`Backward::run`), QUERIES queries
// against all keys. attention.cpp has the formulas and the legend of dimensions.
#pragma once

#include "attention_layout.h"

namespace {

struct Backward {
    Shape shape;
    const bf16 *query, *key, *value, *output, *weights, *grad_output;
    const Table *pos_key, *pos_query;
    float scale;
    float dropout_factor;  // of the weights that are kept
    const WeightStarts& weight_starts;
    bf16 *grad_query, *grad_key, *grad_value;
    float *grad_pos_key, *grad_pos_query;  // of this task: [D][R]

    // The sequence's: dO is `grad`.
    Matrix<bf16> q, k, v, grad;                              // [n][D]
    Matrix<bf16> queries_by_size, keys_by_size;              // [D][n]
    Matrix<uint32_t> key_pairs, query_pairs, grad_pairs;     // [n / 2][D], to sum over positions
    Matrix<uint32_t> values;                                 // [D / 2][n], to sum over D
    Matrix<float> row_sums, grad_q, grad_k, grad_v;          // [n], [QUERIES][D], [n][D], [n][D]
    // Those of QUERIES queries: dS is the gradient of scores before their scale, times the scale.
    Matrix<float> grad_weights;                              // dO V': [QUERIES][n]
    Matrix<bf16> grad_scores, scores_by_key, weights_by_key;  // dS [QUERIES][n], dS' and W' [n][QUERIES]
    Matrix<uint32_t> score_pairs, weight_pairs;              // [QUERIES / 2][n]
    // Those of 16 rows of dS or dS': see shift_rows.
    Matrix<bf16> band;                                       // [16][columns + 16]
    Matrix<uint32_t> band_pairs;                             // [8][columns + 16]

    void run_all(int head, int first, int last) {
        for (int sequence = first; sequence < last; ++sequence) {
            if (sequence + 1 < last)
                for (const bf16* states : {query, key, value, output, grad_output})
                    prefetch_rows(states + shape.row(sequence + 1, head), shape.stride(),
                                  shape.length(sequence + 1), shape.size);
            run(sequence, head);
        }
    }

    void run(int sequence, int head) {
        const int length = shape.length(sequence), n = round_up(length), size = shape.size;
        const ptrdiff_t at = shape.row(sequence, head);
        prepare(at, length, n);
        std::fill_n(grad_k.sized(size_t(n) * size), size_t(n) * size, 0.0f);
        std::fill_n(grad_v.sized(size_t(n) * size), size_t(n) * size, 0.0f);
        grad_q.sized(size_t(QUERIES) * size);
        grad_weights.sized(size_t(QUERIES) * n);
        const size_t count = size_t(QUERIES) * n;
        grad_scores.sized(count), scores_by_key.sized(count), weights_by_key.sized(count);
        score_pairs.sized(count / 2), weight_pairs.sized(count / 2);
        band.sized(size_t(TILE) * (std::max(n, QUERIES) + TILE));
        band_pairs.sized(size_t(TILE) / 2 * (std::max(n, QUERIES) + TILE));
        for (int first = 0; first < n; first += QUERIES) {
            const int num_queries = std::min(QUERIES, n - first);
            softmax_gradients(sequence, head, first, num_queries, n);
            content_gradients(first, num_queries, n);
            for (int row = 0; pos_key && row < num_queries; row += TILE) content_to_position(first, row, n);
            for (int key_at = 0; pos_query && key_at < n; key_at += TILE) position_to_content(first, num_queries, key_at, n);
            write(grad_q.data(), grad_query + at + first * shape.stride(), std::min(num_queries, length - first), 1);
        }
        write(grad_k.data(), grad_key + at, length, 1);
        write(grad_v.data(), grad_value + at, length, dropout_factor);
    }

    void prepare(ptrdiff_t at, int length, int n) {
        const int size = shape.size;
        const size_t count = size_t(n) * size;
        const ptrdiff_t stride = shape.stride();
        copy_rows(query + at, stride, length, n, size, q.sized(count));
        copy_rows(key + at, stride, length, n, size, k.sized(count));
        copy_rows(value + at, stride, length, n, size, v.sized(count));
        copy_rows(grad_output + at, stride, length, n, size, grad.sized(count));
        transpose(words(v.data()), size / 2, n, size / 2, values.sized(count / 2), n);
        pair_rows(q.data(), size, n, size, query_pairs.sized(count / 2));
        pair_rows(k.data(), size, n, size, key_pairs.sized(count / 2));
        pair_rows(grad.data(), size, n, size, grad_pairs.sized(count / 2));
        transpose(query_pairs.data(), size, n / 2, size, words(queries_by_size.sized(count)), n / 2);
        transpose(key_pairs.data(), size, n / 2, size, words(keys_by_size.sized(count)), n / 2);
        row_sums.sized(n);  // rowsum(dO * O), 0 beyond the sequence
        for (int row = 0; row < n; ++row) {
            Floats sum = _mm512_setzero_ps();
            for (int column = 0; row < length && column < size; column += LANES)
                sum = _mm512_fmadd_ps(load(grad.data() + size_t(row) * size + column),
                                      load(output + at + row * stride + column), sum);
            row_sums[row] = _mm512_reduce_add_ps(sum);
        }
    }

    // dS = P * (dP - rowsum(dO * O)) * scale, as rows, as pairs of rows and as columns; the weights after
    // dropout as pairs and columns. dP is dO V' over 1 - p where the weight was kept, else 0; what was kept
    // is read from the signs of the weights.
    void softmax_gradients(int sequence, int head, int first, int num_queries, int n) {
        const int size = shape.size;
        product(grad.data() + size_t(first) * size, size, values.data(), n, grad_weights.data(), n, num_queries, n,
                size / 2, false);
        const bf16* of_tile = weights + weight_starts(sequence, head) + ptrdiff_t(first) * n;
        const Floats factor = all(dropout_factor);
        for (int row = 0; row < num_queries; row += 2)
            for (int column = 0; column < n; column += LANES) {
                __m256i scores[2], kept[2];
                for (int i = 0; i < 2; ++i) {
                    const Floats weight = load(of_tile + ptrdiff_t(row + i) * n + column);
                    const __mmask16 keep = ~_mm512_movepi32_mask(_mm512_castps_si512(weight));
                    Floats gradient = load(grad_weights.data() + size_t(row + i) * n + column);
                    gradient = _mm512_maskz_mul_ps(keep, gradient, factor);
                    gradient = _mm512_sub_ps(gradient, all(row_sums[first + row + i]));
                    gradient = _mm512_mul_ps(gradient, _mm512_mul_ps(_mm512_abs_ps(weight), all(scale)));
                    scores[i] = rounded(gradient);
                    kept[i] = rounded(_mm512_maskz_mov_ps(keep, weight));
                    _mm256_storeu_si256(
                        reinterpret_cast<__m256i*>(grad_scores.data() + size_t(row + i) * n + column), scores[i]);
                }
                _mm512_storeu_si512(score_pairs.data() + size_t(row) / 2 * n + column, paired(scores[0], scores[1]));
                _mm512_storeu_si512(weight_pairs.data() + size_t(row) / 2 * n + column, paired(kept[0], kept[1]));
            }
        transpose(score_pairs.data(), n, num_queries / 2, n, words(scores_by_key.data()), num_queries / 2);
        transpose(weight_pairs.data(), n, num_queries / 2, n, words(weights_by_key.data()), num_queries / 2);
    }

    // dV += W' dO; dK += dS' Q; dQ = dS K. The factor 1 / (1 - p) of W comes when dV is written.
    void content_gradients(int first, int num_queries, int n) {
        const int size = shape.size, pairs = num_queries / 2;
        const size_t at = size_t(first) / 2 * size;
        product(weights_by_key.data(), num_queries, grad_pairs.data() + at, size, grad_v.data(), size, n, size, pairs, true);
        product(scores_by_key.data(), num_queries, query_pairs.data() + at, size, grad_k.data(), size, n, size, pairs, true);
        product(grad_scores.data(), n, key_pairs.data(), size, grad_q.data(), size, num_queries, size, n / 2, false);
    }

    // Of 16 queries: dQ += dS PK[q - k], dPK += dS' Q, along the same diagonals as forward.
    void content_to_position(int first, int row, int n) {
        const int query_at = first + row;
        shift_rows(grad_scores.data() + size_t(row) * n, n, n, band.data());
        through_table(*pos_key, shape.padded() - TILE - query_at, n + TILE, grad_q.data() + size_t(row) * shape.size,
                      queries_by_size.data() + query_at, n, grad_pos_key);
    }

    // Of 16 keys: dK += dS' PQ[q - k], dPQ += dS K.
    void position_to_content(int first, int num_queries, int key_at, int n) {
        shift_rows(scores_by_key.data() + size_t(key_at) * num_queries, num_queries, num_queries, band.data());
        through_table(*pos_query, first - key_at + shape.padded() - TILE, num_queries + TILE,
                      grad_k.data() + size_t(key_at) * shape.size, keys_by_size.data() + key_at, n, grad_pos_query);
    }

    // band [16][width] x window [width][D], added to `grad_states` [16][D]; and the 16 states, as
    // [D][16], x band [16][width], added to the window of `grad_table` [D][R]. A gather and a scatter
    // with an index for each score would do the same.
    void through_table(const Table& table, int start, int width, float* grad_states, const bf16* states_by_size,
                       int n, float* grad_table) {
        const int size = shape.size;
        product(band.data(), width, table.window_rows(start, size), size, grad_states, size, TILE, size, width / 2, true);
        pair_rows(band.data(), width, TILE, width, band_pairs.data());
        product(states_by_size, n, band_pairs.data(), width, grad_table + start, shape.offsets(), size, width, TILE / 2, true);
    }

    // [rows][D] times a factor, to rows of one head.
    void write(const float* from, bf16* to, int rows, float factor) {
        for (int row = 0; row < rows; ++row)
            for (int column = 0; column < shape.size; column += LANES)
                store(to + row * shape.stride() + column,
                      _mm512_mul_ps(load(from + size_t(row) * shape.size + column), all(factor)));
    }
};

}  // namespace
