// How the attention kernels lay out matrices in memory: what attention_forward.h and
// attention_backward.h share. attention.cpp has the formulas and the legend of dimensions.
//
// A product of bfloat16 (`product` in vector.h) reads its left matrix row by row, and its right matrix
// as pairs: a 32-bit word holds two neighbours along the dimension that is summed over. So most matrices
// exist as plain rows and once or twice as pairs, made by `pair_rows` (to sum over rows) or by a
// transposition of words (to sum over columns: two neighbours in a row are a word already).
#pragma once

#include <algorithm>
#include <vector>

#include "vector.h"

namespace {

constexpr int QUERIES = 128;  // their scores of 512 keys, 256 KB, stay in a core's L2 cache
constexpr int STEP = 32;      // lengths are rounded up to it: two vectors, and whole pairs of tiles
constexpr int TILE = 16;      // queries, or keys, whose diagonals are read together: a vector's lanes
constexpr int TASK_LENGTHS = 8;  // a task has about as many tokens as so many of the longest sequences
constexpr float FORBIDDEN = -1e30f;  // not -infinity: a row of nothing else must not become NaN

int round_up(int length) { return (length + STEP - 1) / STEP * STEP; }

template <class T>
struct Matrix : std::vector<T> {  // grows only: its memory is used again for the next sequence
    T* sized(size_t count) {
        if (this->size() < count) this->resize(count);
        return this->data();
    }
};

// [length][D], rows `stride` apart -> [rows][D] without gaps, zero from row `length` on: whatever
// multiplies the rows that fill a sequence up gets 0 from them.
void copy_rows(const bf16* from, ptrdiff_t stride, int length, int rows, int size, bf16* to) {
    for (int row = 0; row < rows; ++row, to += size)
        if (row < length) std::memcpy(to, from + row * stride, size * sizeof(bf16));
        else std::memset(to, 0, size * sizeof(bf16));
}

// [rows][columns] -> [rows / 2][columns] words: rows 2r and 2r + 1 in the halves of word row r.
void pair_rows(const bf16* from, ptrdiff_t stride, int rows, int columns, uint32_t* to) {
    for (int row = 0; row < rows; row += 2, to += columns)
        for (int column = 0; column < columns; column += LANES) {
            const auto half = [&](int at) {
                return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + at * stride + column));
            };
            _mm512_storeu_si512(to + column, paired(half(row), half(row + 1)));
        }
}

// [rows][columns] words -> [columns][rows]; both multiples of 16. Of bfloat16, [rows][2 columns], it
// makes [columns][rows] pairs; of pairs made by `pair_rows`, a plain transposition of the bfloat16.
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

// [16][columns] -> [16][columns + 16]: row i begins at column 15 - i, zeros around it. What was a
// diagonal (entries of the same k - q) is now a column, as in the table's window. With 3 in place of 16:
//
//     a b c d        0 0 a b c d 0
//     e f g h   ->   0 e f g h 0 0
//     i j k l        i j k l 0 0 0
void shift_rows(const bf16* from, ptrdiff_t stride, int columns, bf16* band) {
    const size_t width = columns + TILE;
    std::memset(band, 0, TILE * width * sizeof(bf16));
    for (int i = 0; i < TILE; ++i)
        std::memcpy(band + i * width + TILE - 1 - i, from + i * stride, columns * sizeof(bf16));
}

struct Shape {
    const int64_t* bounds;  // [sequences][2]: the first token, and one past the last
    int64_t tokens;
    int sequences, max_length, heads, size;

    int length(int sequence) const { return int(bounds[2 * sequence + 1] - bounds[2 * sequence]); }
    int padded() const { return round_up(max_length); }
    int offsets() const { return 2 * padded(); }  // R: rows of a padded table; one more than it needs
    int64_t token(int sequence) const { return bounds[2 * sequence]; }
    ptrdiff_t row(int sequence, int head) const { return (token(sequence) * heads + head) * size; }
    ptrdiff_t stride() const { return ptrdiff_t(heads) * size; }
};

// The first sequence of each group, and one past the last. Groups depend on the sequences alone, never
// on the number of threads, and with them the order of all sums.
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

// Where the weights of a sequence and head begin: [H] times, for each sequence, [n][n].
struct WeightStarts {
    std::vector<int64_t> first{0};

    explicit WeightStarts(const Shape& shape) {
        for (int sequence = 0; sequence < shape.sequences; ++sequence) {
            const int64_t n = round_up(shape.length(sequence));
            first.push_back(first.back() + n * n);
        }
    }
    int64_t operator()(int sequence, int head) const { return head * first.back() + first[sequence]; }
};

// A table of one head, [2 max_length - 1][D], filled up with rows of zeros on both sides to [R][D], in
// the two forms that products want. Row r is that of offset r - (R / 2 - 1), so that the row of offset
// 0 does not depend on a sequence's own length.
struct Table {
    Matrix<bf16> rows;
    Matrix<uint32_t> by_size, by_offset;  // [D / 2][R] to sum over D, [R / 2][D] to sum over offsets

    void fill(const bf16* table, const Shape& shape) {
        const int offsets = shape.offsets(), size = shape.size;
        const int true_offsets = 2 * shape.max_length - 1, first = shape.padded() - shape.max_length;
        bf16* to = rows.sized(size_t(offsets) * size);
        copy_rows(nullptr, 0, 0, first, size, to);
        copy_rows(table, size, true_offsets, offsets - first, size, to + size_t(first) * size);
        transpose(words(to), size / 2, offsets, size / 2, by_size.sized(size_t(size) / 2 * offsets), offsets);
        pair_rows(to, size, offsets, size, by_offset.sized(size_t(offsets) / 2 * size));
    }
    // The rows from `start` on; `start` is even for the second.
    const uint32_t* window(int start) const { return by_size.data() + start; }
    const uint32_t* window_rows(int start, int size) const { return by_offset.data() + ptrdiff_t(start) / 2 * size; }
};

struct Dropout {
    const uint32_t* keys;  // [tokens]: those of the site, to which heads are added; null: no dropout
    float factor;          // of the weights that are kept
    int32_t drop_below;

    uint32_t row(int64_t token, int head) const { return mixed(keys[token] + head); }
};

}  // namespace
