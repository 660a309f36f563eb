// Attention in bfloat16, forward and backward, with DeBERTa's position terms or without; see
// native_attention.py for the formulas.
//
// A task is one head of a group of neighbouring sequences. Of a sequence, up to QUERIES queries and all keys at a time:
//
// 1. K PQ' is multiplied for 16 keys and the window of offsets that the queries reach; read along its
//    diagonals and transposed it is the position-to-content score. Q K' is added onto it.
// 2. Q PK' for 16 queries, read along its diagonals, is the content-to-position score; the sum is
//    scaled, turned into weights and multiplied with V while it lies in the cache.
// 3. Backward, the gradient of the scores goes through the same windows: a tile of it with shifted rows
//    ("band") multiplies the tables, and is multiplied by Q and K for the gradients of the tables. Those
//    are summed for each task apart and then over the tasks in order: nothing depends on threads.
//
// A sequence is any stretch of the tokens; matrices are [tokens, heads, size]. Lengths are rounded up to
// multiples of STEP; rows and offsets beyond the true ones are zero.
#include <algorithm>
#include <vector>

#include "vector.h"

namespace {

constexpr int QUERIES = 128;
constexpr int STEP = 32;
constexpr int TILE = 16;
constexpr int TASK_LENGTHS = 8;  // a task has about as many tokens as so many of the longest sequences
constexpr float FORBIDDEN = -1e30f;

int round_up(int length) { return (length + STEP - 1) / STEP * STEP; }

template <class T>
struct Matrix : std::vector<T> {  // grows only: its memory is used again for the next sequence
    T* sized(size_t count) {
        if (this->size() < count) this->resize(count);
        return this->data();
    }
};

// [length][size] rows, `stride` apart, to consecutive ones, zero from `length` on.
void copy_rows(const bf16* from, ptrdiff_t stride, int length, int rows, int size, bf16* to) {
    for (int row = 0; row < rows; ++row, to += size)
        if (row < length) std::memcpy(to, from + row * stride, size * sizeof(bf16));
        else std::memset(to, 0, size * sizeof(bf16));
}

// [rows][columns] -> [rows / 2][columns] pairs of rows.
void pair_rows(const bf16* from, ptrdiff_t stride, int rows, int columns, uint32_t* to) {
    for (int row = 0; row < rows; row += 2, to += columns)
        for (int column = 0; column < columns; column += LANES) {
            const auto half = [&](int at) {
                return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + at * stride + column));
            };
            _mm512_storeu_si512(to + column, paired(half(row), half(row + 1)));
        }
}

// [rows][columns] words -> [columns][rows]; both multiples of 16.
void transpose(const uint32_t* from, ptrdiff_t from_stride, int rows, int columns, uint32_t* to,
               ptrdiff_t to_stride) {
    __m512i block[LANES];
    for (int row = 0; row < rows; row += LANES)
        for (int column = 0; column < columns; column += LANES) {
            for (int i = 0; i < LANES; ++i)
                block[i] = _mm512_loadu_si512(from + (row + i) * from_stride + column);
            ::transpose(block);
            for (int i = 0; i < LANES; ++i)
                _mm512_storeu_si512(to + (column + i) * to_stride + row, block[i]);
        }
}

// Heads of one position lie side by side, so that the rows of one head are far apart: ask for them
// while the sequence before is worked on.
void prefetch_rows(const bf16* from, ptrdiff_t stride, int rows, int size) {
    for (int row = 0; row < rows; ++row)
        for (int column = 0; column < size; column += 2 * LANES) prefetch(from + row * stride + column);
}

uint32_t* words(bf16* rows) { return reinterpret_cast<uint32_t*>(rows); }

// [16][columns] -> [16][columns + 16]: row i begins at column 15 - i, zeros around it.
void shift_rows(const bf16* from, ptrdiff_t stride, int columns, bf16* band) {
    const size_t width = columns + TILE;
    std::memset(band, 0, TILE * width * sizeof(bf16));
    for (int i = 0; i < TILE; ++i)
        std::memcpy(band + i * width + TILE - 1 - i, from + i * stride, columns * sizeof(bf16));
}

struct Shape {
    const int64_t* bounds;  // [sequences, 2]: the first token, and one past the last
    int64_t tokens;
    int sequences, max_length, heads, size;

    int length(int sequence) const { return int(bounds[2 * sequence + 1] - bounds[2 * sequence]); }
    int padded() const { return round_up(max_length); }
    int offsets() const { return 2 * padded(); }  // of a table; one more than there are
    int64_t token(int sequence) const { return bounds[2 * sequence]; }
    ptrdiff_t row(int sequence, int head) const { return (token(sequence) * heads + head) * size; }
    ptrdiff_t stride() const { return ptrdiff_t(heads) * size; }
};

// The first sequence of each group, and one past the last.
std::vector<int> group_starts(const Shape& shape) {
    std::vector<int> starts{0};
    int64_t tokens = 0;
    for (int sequence = 0; sequence < shape.sequences; ++sequence) {
        tokens += shape.length(sequence);
        if (tokens < int64_t(TASK_LENGTHS) * shape.max_length && sequence + 1 < shape.sequences) continue;
        starts.push_back(sequence + 1);
        tokens = 0;
    }
    return starts;
}

// Where the weights of each sequence and head are: [heads][sequences][padded length squared].
struct WeightPlaces {
    std::vector<int64_t> first{0};

    explicit WeightPlaces(const Shape& shape) {
        for (int sequence = 0; sequence < shape.sequences; ++sequence) {
            const int64_t n = round_up(shape.length(sequence));
            first.push_back(first.back() + n * n);
        }
    }
    int64_t operator()(int sequence, int head) const { return head * first.back() + first[sequence]; }
};

// A table of one head, [2 length - 1][size], in the two forms that products want.
struct Table {
    Matrix<bf16> rows;
    Matrix<uint32_t> by_size, by_offset;  // [size / 2][offsets], [offsets / 2][size]

    void fill(const bf16* table, const Shape& shape) {
        const int offsets = shape.offsets(), size = shape.size;
        const int true_offsets = 2 * shape.max_length - 1, first = shape.padded() - shape.max_length;
        bf16* to = rows.sized(size_t(offsets) * size);
        copy_rows(nullptr, 0, 0, first, size, to);
        copy_rows(table, size, true_offsets, offsets - first, size, to + size_t(first) * size);
        transpose(words(to), size / 2, offsets, size / 2, by_size.sized(size_t(size) / 2 * offsets), offsets);
        pair_rows(to, size, offsets, size, by_offset.sized(size_t(offsets) / 2 * size));
    }
    const uint32_t* window(int start) const { return by_size.data() + start; }
    const uint32_t* window_rows(int start, int size) const { return by_offset.data() + ptrdiff_t(start) / 2 * size; }
};

struct Dropout {
    float probability;
    uint64_t seed;
    uint32_t threshold() const { return uint32_t(probability * 65536 + 0.5f); }
    float factor() const { return probability < 1 ? 1 / (1 - probability) : 0; }
};

struct Forward {
    Shape shape;
    const bf16 *query, *key, *value;
    const Table *pos_key, *pos_query;  // null: without this term
    const float* key_bias;             // [tokens] or null
    float scale;
    Dropout dropout;
    const WeightPlaces& places;
    bf16 *output, *weights;  // weights may be null

    Matrix<bf16> q, k, v, kept;
    Matrix<uint32_t> keys, values;
    Matrix<float> scores, window, context, bias;

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

    void attend(int sequence, int head, int first, int row, int length, int n) {
        const int size = shape.size, width = n + TILE, query_at = first + row;
        if (pos_key)
            product(q.data() + size_t(query_at) * size, size, pos_key->window(shape.padded() - TILE - query_at),
                    shape.offsets(), window.data(), width, TILE, width, size / 2, false);
        for (int i = 0; i < TILE; ++i)
            softmax(sequence, head, query_at + i, scores.data() + size_t(row + i) * n,
                    pos_key ? window.data() + i * width + TILE - 1 - i : nullptr, kept.data() + size_t(i) * n, n);
        product(kept.data(), n, values.data(), size, context.data(), size, TILE, size, n / 2, false);
        const Floats factor = all(dropout.factor());
        for (int i = 0; i < TILE && query_at + i < length; ++i)
            for (int column = 0; column < size; column += LANES)
                store(output + shape.row(sequence, head) + (query_at + i) * shape.stride() + column,
                      _mm512_mul_ps(load(context.data() + i * size + column), factor));
    }

    // A row of weights: to `weights` with the sign set where dropped, to `to` with zeros there.
    // `position`: what is added to the scores, or null.
    void softmax(int sequence, int head, int query_at, float* row, const float* position, bf16* to, int n) {
        Floats highest = all(FORBIDDEN);
        for (int key_at = 0; key_at < n; key_at += LANES) {
            Floats score = load(row + key_at);
            if (position) score = _mm512_add_ps(score, load(position + key_at));
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
        bf16* signed_to = weights ? weights + places(sequence, head) + ptrdiff_t(query_at) * n : nullptr;
        __m512i random[4];
        const int stretch = DRAWS * LANES;
        const int64_t index = head * shape.tokens + shape.token(sequence) + query_at;
        for (int key_at = 0; key_at < n; key_at += LANES) {
            const __m256i weight = rounded(_mm512_mul_ps(load(row + key_at), factor));
            __mmask16 drop = 0;
            if (dropout.probability > 0) {
                if (key_at % stretch == 0)
                    random_words(dropout.seed, index * ((shape.padded() + stretch - 1) / stretch) + key_at / stretch,
                                 random);
                drop = dropped(random, key_at / LANES % DRAWS, dropout.threshold());
            }
            const __m256i sign = _mm256_maskz_set1_epi16(drop, short(0x8000));
            if (signed_to)
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(signed_to + key_at), _mm256_or_si256(weight, sign));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + key_at), _mm256_maskz_mov_epi16(~drop, weight));
        }
    }
};

struct Backward {
    Shape shape;
    const bf16 *query, *key, *value, *output, *weights, *grad_output;
    const Table *pos_key, *pos_query;
    float scale;
    Dropout dropout;
    const WeightPlaces& places;
    bf16 *grad_query, *grad_key, *grad_value;
    float *grad_pos_key, *grad_pos_query;  // of this task: [size][offsets]

    Matrix<bf16> q, k, v, grad, grad_scores, band, queries_by_size, keys_by_size, scores_by_key, weights_by_key;
    Matrix<uint32_t> values, key_pairs, query_pairs, grad_pairs, score_pairs, weight_pairs, band_pairs;
    Matrix<float> grad_weights, row_sums, grad_q, grad_k, grad_v;

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
        write(grad_v.data(), grad_value + at, length, dropout.factor());
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
        row_sums.sized(n);
        for (int row = 0; row < n; ++row) {
            Floats sum = _mm512_setzero_ps();
            for (int column = 0; row < length && column < size; column += LANES)
                sum = _mm512_fmadd_ps(load(grad.data() + size_t(row) * size + column),
                                      load(output + at + row * stride + column), sum);
            row_sums[row] = _mm512_reduce_add_ps(sum);
        }
    }

    // Of the scores, times the scale, as rows, pairs of rows and columns; the kept weights likewise.
    void softmax_gradients(int sequence, int head, int first, int num_queries, int n) {
        const int size = shape.size;
        product(grad.data() + size_t(first) * size, size, values.data(), n, grad_weights.data(), n, num_queries, n,
                size / 2, false);
        const bf16* of_tile = weights + places(sequence, head) + ptrdiff_t(first) * n;
        const Floats factor = all(dropout.factor());
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

    void content_gradients(int first, int num_queries, int n) {
        const int size = shape.size, pairs = num_queries / 2;
        const size_t at = size_t(first) / 2 * size;
        product(weights_by_key.data(), num_queries, grad_pairs.data() + at, size, grad_v.data(), size, n, size, pairs, true);
        product(scores_by_key.data(), num_queries, query_pairs.data() + at, size, grad_k.data(), size, n, size, pairs, true);
        product(grad_scores.data(), n, key_pairs.data(), size, grad_q.data(), size, num_queries, size, n / 2, false);
    }

    void content_to_position(int first, int row, int n) {
        const int query_at = first + row;
        shift_rows(grad_scores.data() + size_t(row) * n, n, n, band.data());
        through_table(*pos_key, shape.padded() - TILE - query_at, n + TILE, grad_q.data() + size_t(row) * shape.size,
                      queries_by_size.data() + query_at, n, grad_pos_key);
    }

    void position_to_content(int first, int num_queries, int key_at, int n) {
        shift_rows(scores_by_key.data() + size_t(key_at) * num_queries, num_queries, num_queries, band.data());
        through_table(*pos_query, first - key_at + shape.padded() - TILE, num_queries + TILE,
                      grad_k.data() + size_t(key_at) * shape.size, keys_by_size.data() + key_at, n, grad_pos_query);
    }

    // The band's products with the table's window, added to `grad_states`, and with the 16 states,
    // added to the table's gradient.
    void through_table(const Table& table, int start, int width, float* grad_states, const bf16* states_by_size,
                       int n, float* grad_table) {
        const int size = shape.size;
        product(band.data(), width, table.window_rows(start, size), size, grad_states, size, TILE, size, width / 2, true);
        pair_rows(band.data(), width, TILE, width, band_pairs.data());
        product(states_by_size, n, band_pairs.data(), width, grad_table + start, shape.offsets(), size, width, TILE / 2, true);
    }

    void write(const float* from, bf16* to, int rows, float factor) {
        for (int row = 0; row < rows; ++row)
            for (int column = 0; column < shape.size; column += LANES)
                store(to + row * shape.stride() + column,
                      _mm512_mul_ps(load(from + size_t(row) * shape.size + column), all(factor)));
    }
};

// For each head and group of sequences, on some thread: call `run(head, group, pos_key, pos_query)`.
// A table that is null stays null.
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

// [groups][size][offsets] of one head -> [2 length - 1][size], summed in order.
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

void attention_forward(const bf16* query, const bf16* key, const bf16* value, const bf16* pos_key,
                       const bf16* pos_query, const float* key_bias, const int64_t* bounds, bf16* output,
                       bf16* weights, int64_t tokens, int sequences, int max_length, int heads, int size, float scale,
                       float dropout, uint64_t seed) {
    const Shape shape{bounds, tokens, sequences, max_length, heads, size};
    const WeightPlaces places(shape);
    const std::vector<int> starts = group_starts(shape);
    for_each_task(shape, int(starts.size()) - 1, pos_key, pos_query, [&](int head, int group, const Table* keys, const Table* queries) {
        Forward task{shape, query, key, value, keys, queries, key_bias, scale, {dropout, seed}, places,
                     output, weights, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}};
        task.run_all(head, starts[group], starts[group + 1]);
    });
}

void attention_backward(const bf16* query, const bf16* key, const bf16* value, const bf16* pos_key,
                        const bf16* pos_query, const int64_t* bounds, const bf16* output, const bf16* weights,
                        const bf16* grad_output, bf16* grad_query, bf16* grad_key, bf16* grad_value,
                        float* grad_pos_key, float* grad_pos_query, int64_t tokens, int sequences, int max_length,
                        int heads, int size, float scale, float dropout) {
    const Shape shape{bounds, tokens, sequences, max_length, heads, size};
    const WeightPlaces places(shape);
    const std::vector<int> starts = group_starts(shape);
    const int num_groups = int(starts.size()) - 1;
    const size_t partial_size = size_t(size) * shape.offsets(), table_size = size_t(2 * max_length - 1) * size;
    const size_t num_partial = size_t(heads) * num_groups * partial_size;
    std::vector<float> keys(pos_key ? num_partial : 0), queries(pos_query ? num_partial : 0);
    for_each_task(shape, num_groups, pos_key, pos_query, [&](int head, int group, const Table* key_table, const Table* query_table) {
        const size_t at = (size_t(head) * num_groups + group) * partial_size;
        float *grad_keys = pos_key ? keys.data() + at : nullptr, *grad_queries = pos_query ? queries.data() + at : nullptr;
        Backward task{shape, query, key, value, output, weights, grad_output, key_table, query_table, scale,
                      {dropout, 0}, places, grad_query, grad_key, grad_value, grad_keys, grad_queries,
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
