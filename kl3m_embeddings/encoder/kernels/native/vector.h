// Sixteen numbers at a time: bfloat16 in memory, float32 in registers (AVX-512 with its bfloat16
// product, which sums pairs into float32). A bfloat16 is the upper half of a float32, so that widening is
// a shift and narrowing a rounding.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <vector>

using bf16 = uint16_t;
using Floats = __m512;

constexpr int LANES = 16;

inline Floats load(const float* from) { return _mm512_loadu_ps(from); }
inline void store(float* to, Floats values) { _mm512_storeu_ps(to, values); }
inline Floats all(float value) { return _mm512_set1_ps(value); }

inline Floats load(const bf16* from) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

inline float bf16_to_float(bf16 value) {
    const uint32_t bits = uint32_t(value) << 16;
    float number;
    std::memcpy(&number, &bits, sizeof number);
    return number;
}

inline bf16 float_to_bf16(float number) {
    return bf16(_mm_extract_epi16(reinterpret_cast<__m128i>(_mm_cvtneps_pbh(_mm_set1_ps(number))), 0));
}

inline __m256i rounded(Floats values) {
    return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values));
}

inline void store(bf16* to, Floats values) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), rounded(values));
}

// Two rows as pairs: lane i holds `even`[i] in its lower and `odd`[i] in its upper half.
inline __m512i paired(__m256i even, __m256i odd) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(even),
                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}

constexpr float LOG2_E = 1.44269504f;

// 2^x to float32's last digits, for x <= 127; far below zero it is zero. x = n + r with n whole: 2^r is a
// polynomial, and scalef adds n to its exponent.
inline Floats power_of_two(Floats x) {
    const Floats n = _mm512_roundscale_ps(x, 0x08), r = _mm512_sub_ps(x, n);
    Floats sum = all(1.327647198e-3f);  // minimax on [-1/2, 1/2]: relative error 7.5e-8
    for (const float factor : {9.675541334e-3f, 5.550713274e-2f, 0.2402211972f, 0.6931469671f, 1.000000072f})
        sum = _mm512_fmadd_ps(sum, r, all(factor));
    return _mm512_scalef_ps(sum, n);
}

inline Floats exponential(Floats x) { return power_of_two(_mm512_mul_ps(x, all(LOG2_E))); }

// Rows and columns of a 16 x 16 block of 32-bit words are exchanged: neighbouring rows are interleaved by
// words of 32 bits, then of 64; quarters of 128 bits are then sorted into place.
inline void transpose(__m512i rows[LANES]) {
    __m512i t[LANES];
    for (int i = 0; i < LANES; i += 2) {
        t[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4)
        for (int j = 0; j < 2; ++j) {
            rows[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + 2 + j]);
            rows[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + 2 + j]);
        }
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 2; ++j) {
            const __m512i a = rows[8 * j + i], b = rows[8 * j + 4 + i];
            t[8 * j + i] = _mm512_shuffle_i32x4(a, b, 0x88);
            t[8 * j + 4 + i] = _mm512_shuffle_i32x4(a, b, 0xdd);
        }
    for (int i = 0; i < 8; ++i) {
        rows[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        rows[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
    }
}

// The masks of dropout.py, which has the formula: `mixed` is its bijection of 32 bits, `dropped` whether each
// of 16 columns is, by the bits of their row and the mixed numbers of the columns (`mixed_columns`).
inline uint32_t mixed(uint32_t bits) {
    bits = (bits ^ bits >> 16) * 0x7FEB352Du;
    bits = (bits ^ bits >> 15) * 0x846CA68Bu;
    return bits ^ bits >> 16;
}

inline std::vector<uint32_t> mixed_columns(int count) {
    std::vector<uint32_t> columns(count);
    for (int column = 0; column < count; ++column) columns[column] = mixed(column);
    return columns;
}

inline __mmask16 dropped(uint32_t row, const uint32_t* columns, int32_t drop_below) {
    __m512i bits = _mm512_xor_si512(_mm512_set1_epi32(row), _mm512_loadu_si512(columns));
    bits = _mm512_mullo_epi32(bits, _mm512_set1_epi32(0x7FEB352D));
    bits = _mm512_xor_si512(bits, _mm512_srli_epi32(bits, 15));
    bits = _mm512_mullo_epi32(bits, _mm512_set1_epi32(int32_t(0x846CA68Bu)));
    return _mm512_cmplt_epi32_mask(bits, _mm512_set1_epi32(drop_below));
}

inline void prefetch(const void* from) { _mm_prefetch(static_cast<const char*>(from), _MM_HINT_T0); }

// C (+)= A B for a block of ROWS x 16 VECTORS. A: [ROWS][2 num_pairs] bf16; B: [num_pairs][columns]
// pairs, as `paired` makes them; all strides in elements (of pairs for B). Sums stay in registers: 8 x 3
// of them with 3 vectors of B and one pair of A, which all lanes share, are 28 of the 32 there are.
template <int ROWS, int VECTORS>
inline void block_product(const bf16* a, ptrdiff_t a_stride, const uint32_t* b, ptrdiff_t b_stride,
                          float* c, ptrdiff_t c_stride, int num_pairs, bool add) {
    Floats sums[ROWS][VECTORS];
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < VECTORS; ++v)
            sums[r][v] = add ? load(c + r * c_stride + LANES * v) : _mm512_setzero_ps();
    for (int pair = 0; pair < num_pairs; ++pair) {
        __m512i columns[VECTORS];
        for (int v = 0; v < VECTORS; ++v)
            columns[v] = _mm512_loadu_si512(b + pair * b_stride + LANES * v);
        for (int r = 0; r < ROWS; ++r) {
            uint32_t row;
            std::memcpy(&row, a + r * a_stride + 2 * pair, sizeof row);
            const __m512i row_pair = _mm512_set1_epi32(row);
            for (int v = 0; v < VECTORS; ++v)
                sums[r][v] = _mm512_dpbf16_ps(sums[r][v], (__m512bh)row_pair, (__m512bh)columns[v]);
        }
    }
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < VECTORS; ++v) store(c + r * c_stride + LANES * v, sums[r][v]);
}

// The same for any number of columns and rows that are multiples of 16: three vectors of columns at a
// time, and two or one where less or four are left (four as two and two, rather than three and one).
inline void product(const bf16* a, ptrdiff_t a_stride, const uint32_t* b, ptrdiff_t b_stride, float* c,
                    ptrdiff_t c_stride, int rows, int columns, int num_pairs, bool add) {
    int column = 0;
    const auto run = [&]<int ROWS, int VECTORS>() {
        for (int row = 0; row < rows; row += ROWS)
            block_product<ROWS, VECTORS>(a + row * a_stride, a_stride, b + column, b_stride,
                                         c + row * c_stride + column, c_stride, num_pairs, add);
        column += VECTORS * LANES;
    };
    while (column < columns) {
        const int left = (columns - column) / LANES;
        if (left == 1) run.template operator()<16, 1>();
        else if (left == 2 || left == 4) run.template operator()<8, 2>();
        else run.template operator()<8, 3>();
    }
}
