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

// Philox4x32-7: 64 random words, a pure function of (seed, counter), so that the backward pass draws a
// mask again where keeping it would cost memory. Each lane runs the cipher on its own 128 bits (counter,
// lane, 0) under the key `seed`; a round multiplies two of the four words and mixes the halves of the
// 64-bit products into the others. Seven rounds pass BigCrush: Salmon et al. 2011, table 2,
// https://doi.org/10.1145/2063384.2063405.
inline void random_words(uint64_t seed, uint64_t counter, __m512i words[4]) {
    const __m512i multiplier_0 = _mm512_set1_epi64(0xD2511F53), multiplier_1 = _mm512_set1_epi64(0xCD9E8D57);
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __mmask16 odd = 0xAAAA;
    __m512i c0 = _mm512_set1_epi32(uint32_t(counter)), c1 = _mm512_set1_epi32(uint32_t(counter >> 32));
    __m512i c2 = lane, c3 = _mm512_setzero_si512();
    uint32_t key_0 = uint32_t(seed), key_1 = uint32_t(seed >> 32);
    for (int round = 0; round < 7; ++round) {
        // There is a 32 x 32 -> 64 bit product of even lanes only: odd ones are shifted there and back.
        const __m512i even_0 = _mm512_mul_epu32(c0, multiplier_0);
        const __m512i odd_0 = _mm512_mul_epu32(_mm512_srli_epi64(c0, 32), multiplier_0);
        const __m512i even_1 = _mm512_mul_epu32(c2, multiplier_1);
        const __m512i odd_1 = _mm512_mul_epu32(_mm512_srli_epi64(c2, 32), multiplier_1);
        const __m512i high_0 = _mm512_mask_mov_epi32(_mm512_srli_epi64(even_0, 32), odd, odd_0);
        const __m512i low_0 = _mm512_mask_mov_epi32(even_0, odd, _mm512_slli_epi64(odd_0, 32));
        const __m512i high_1 = _mm512_mask_mov_epi32(_mm512_srli_epi64(even_1, 32), odd, odd_1);
        const __m512i low_1 = _mm512_mask_mov_epi32(even_1, odd, _mm512_slli_epi64(odd_1, 32));
        c0 = _mm512_xor_si512(_mm512_xor_si512(high_1, c1), _mm512_set1_epi32(key_0));
        c2 = _mm512_xor_si512(_mm512_xor_si512(high_0, c3), _mm512_set1_epi32(key_1));
        c1 = low_1;
        c3 = low_0;
        key_0 += 0x9E3779B9;  // the paper's round constants: golden ratio, and sqrt(3) - 1
        key_1 += 0xBB67AE85;
    }
    words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

constexpr int DRAWS = 8;  // masks of 16 lanes from one call of random_words, of 16 bits a lane

// For each lane, whether to drop it; `threshold` is the probability times 2^16.
inline __mmask16 dropped(const __m512i words[4], int draw, uint32_t threshold) {
    const __m512i word = words[draw / 2];
    const __m512i bits = draw % 2 ? _mm512_srli_epi32(word, 16) : _mm512_and_si512(word, _mm512_set1_epi32(0xFFFF));
    return _mm512_cmplt_epu32_mask(bits, _mm512_set1_epi32(threshold));
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
