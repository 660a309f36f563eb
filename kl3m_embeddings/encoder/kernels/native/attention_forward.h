// The forward pass of attention: one head of one sequence at a time (`Forward::run`), QUERIES queries
// against all keys. attention.cpp has the formulas and the legend of dimensions.
//
// Nothing is rescaled as in FlashAttention: a tile of 16 queries has all its scores in the cache, so a
// row's maximum is known before its first exponential. FlashAttention needs the running maximum because
// a GPU's registers hold a few keys' scores only.
#pragma once

#include "attention_layout.h"

namespace {

struct Forward {
    Shape shape;
    const bf16 *query, *key, *value;
    const Table *pos_key, *pos_query;  // rows by k - q and by q - k, ascending; null: without this term
    const float* key_bias;             // [tokens], 0 or FORBIDDEN; null: no key is masked
    float scale;
    Dropout dropout;
    const std::vector<uint32_t>& columns;  // [padded max_length]: the mixed positions of keys
    const WeightStarts& weight_starts;
    bf16 *output, *weights;  // [tokens][H][D]; as WeightStarts says, or null where nothing goes backward

    Matrix<bf16> q, k, v;                  // [n][D]
    Matrix<bf16> kept;                     // [16][n]: weights after dropout, before its factor
    Matrix<uint32_t> keys, values;         // pairs: [D / 2][n] for Q K', [n / 2][D] for weights V
    Matrix<float> scores, window;          // [QUERIES][n], [16][columns of the window]
    Matrix<float> context, bias;           // [16][D], [n]

    void run_all(int head, int first, int last) {
        for (int sequence = first; sequence < last; ++sequence) {
            if (sequence + 1 < last)
                for (const bf16* states : {query, key, value})
                    prefetch_rows(states + shape.row(sequence + 1, head), shape.stride(),
                                  shape.length(sequence + 1), shape.size);
            run(sequence, head);
        }
    }

    void run(int sequence, int head) {
        const int length = shape.length(sequence), n = round_up(length), size = shape.size;
        const ptrdiff_t at = shape.row(sequence, head), stride = shape.stride();
        copy_rows(query + at, stride, length, n, size, q.sized(size_t(n) * size));
        copy_rows(key + at, stride, length, n, size, k.sized(size_t(n) * size));
        copy_rows(value + at, stride, length, n, size, v.sized(size_t(n) * size));
        transpose(words(k.data()), size / 2, n, size / 2, keys.sized(size_t(n) * size / 2), n);
        pair_rows(v.data(), size, n, size, values.sized(size_t(n) * size / 2));
        fill_bias(sequence, length, n);
        scores.sized(size_t(QUERIES) * n);
        window.sized(size_t(TILE) * (std::max(n, QUERIES) + TILE));
        kept.sized(size_t(TILE) * n);
        context.sized(size_t(TILE) * size);
        for (int first = 0; first < n; first += QUERIES) {
            const int num_queries = std::min(QUERIES, n - first);
            if (pos_query) position_to_content(first, num_queries, n);
            product(q.data() + size_t(first) * size, size, keys.data(), n, scores.data(), n, num_queries, n,
                    size / 2, pos_query != nullptr);
            for (int row = 0; row < num_queries; row += TILE) attend(sequence, head, first, row, length, n);
        }
    }

    void fill_bias(int sequence, int length, int n) {
        float* to = bias.sized(n);
        for (int key_at = 0; key_at < n; ++key_at)
            to[key_at] = key_at >= length ? FORBIDDEN : key_bias ? key_bias[shape.token(sequence) + key_at] : 0;
    }

    // K[k] . PQ[q - k] of all keys and these queries, to `scores`. The 16 keys from key_at on and the
    // queries from `first` on meet the offsets q - k from first - key_at - 15 on: column c of the window.
    // Key key_at + j and query first + a meet in column a + 15 - j. A row of the window is of one key, and
    // scores have rows of one query: hence the transposition, 16 x 16 at a time.
    void position_to_content(int first, int num_queries, int n) {
        const int width = num_queries + TILE;
        for (int key_at = 0; key_at < n; key_at += TILE) {
            product(k.data() + size_t(key_at) * shape.size, shape.size,
                    pos_query->window(first - key_at + shape.padded() - TILE), shape.offsets(), window.data(), width,
                    TILE, width, shape.size / 2, false);
            for (int row = 0; row < num_queries; row += TILE) {
                __m512i block[TILE];
                for (int j = 0; j < TILE; ++j)
                    block[j] = _mm512_loadu_si512(window.data() + j * width + TILE - 1 - j + row);
                ::transpose(block);
                for (int i = 0; i < TILE; ++i)
                    _mm512_storeu_si512(scores.data() + size_t(row + i) * n + key_at, block[i]);
            }
        }
    }

    // The outputs of 16 queries. Their window for Q[q] . PK[q - k] begins with offset k - q = -query_at - 15:
    // query query_at + i and key k meet in column k + 15 - i, so that row i begins at 15 - i.
    void attend(int sequence, int head, int first, int row, int length, int n) {
        const int size = shape.size, width = n + TILE, query_at = first + row;
        if (pos_key)
            product(q.data() + size_t(query_at) * size, size, pos_key->window(shape.padded() - TILE - query_at),
                    shape.offsets(), window.data(), width, TILE, width, size / 2, false);
        for (int i = 0; i < TILE; ++i)
            softmax(sequence, head, query_at + i, scores.data() + size_t(row + i) * n,
                    pos_key ? window.data() + i * width + TILE - 1 - i : nullptr, kept.data() + size_t(i) * n, n);
        product(kept.data(), n, values.data(), size, context.data(), size, TILE, size, n / 2, false);
        const Floats factor = all(dropout.factor);
        for (int i = 0; i < TILE && query_at + i < length; ++i)
            for (int column = 0; column < size; column += LANES)
                store(output + shape.row(sequence, head) + (query_at + i) * shape.stride() + column,
                      _mm512_mul_ps(load(context.data() + i * size + column), factor));
    }

    // A row of weights: to `weights` with the sign set where dropped, to `to` with zeros there. A weight is
    // never negative, so that its sign bit is free to say what dropout did to it.
    // `row`: [n], the scores; they are overwritten. `position`: what is added to them, or null.
    //
    // exp(s - max) is computed as 2^(s log2(e) - max), with log2(e) in the scale: the processor scales by
    // powers of two for nothing.
    void softmax(int sequence, int head, int query_at, float* row, const float* position, bf16* to, int n) {
        Floats highest = all(FORBIDDEN);
        for (int key_at = 0; key_at < n; key_at += LANES) {
            Floats score = load(row + key_at);
            if (position) score = _mm512_add_ps(score, load(position + key_at));
            // 1e30 swallows any score: a forbidden key's is FORBIDDEN exactly, and its weight 0.
            const Floats biased = _mm512_fmadd_ps(score, all(scale * LOG2_E), load(bias.data() + key_at));
            store(row + key_at, biased);
            highest = _mm512_max_ps(highest, biased);
        }
        const Floats most = all(_mm512_reduce_max_ps(highest));
        Floats total = _mm512_setzero_ps();
        for (int key_at = 0; key_at < n; key_at += LANES) {
            const Floats weight = power_of_two(_mm512_sub_ps(load(row + key_at), most));
            store(row + key_at, weight);
            total = _mm512_add_ps(total, weight);
        }
        const Floats factor = all(1 / _mm512_reduce_add_ps(total));
        bf16* signed_to = weights ? weights + weight_starts(sequence, head) + ptrdiff_t(query_at) * n : nullptr;
        const int query = std::min(query_at, shape.length(sequence) - 1);  // those beyond have no key, nor any use
        const uint32_t drawn = dropout.keys ? dropout.row(shape.token(sequence) + query, head) : 0;
        for (int key_at = 0; key_at < n; key_at += LANES) {
            const __m256i weight = rounded(_mm512_mul_ps(load(row + key_at), factor));
            const __mmask16 drop = dropout.keys ? dropped(drawn, columns.data() + key_at, dropout.drop_below) : 0;
            const __m256i sign = _mm256_maskz_set1_epi16(drop, short(0x8000));
            if (signed_to)
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(signed_to + key_at), _mm256_or_si256(weight, sign));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + key_at), _mm256_maskz_mov_epi16(~drop, weight));
        }
    }
};

}  // namespace
