// What stands between a layer's matrix products, each in one pass over memory: bfloat16 in and out,
// float32 in between. Rows are shared out in blocks of a fixed size, and what is summed over rows is
// summed block by block, so that nothing depends on the number of threads. Matrices are [rows][size]
// without gaps, size a multiple of 16.
#include <algorithm>
#include <vector>

#include "vector.h"

namespace {

constexpr int ROWS = 64;  // of a block

template <class Run>
void for_each_block(int64_t rows, Run run) {
    const int64_t num_blocks = (rows + ROWS - 1) / ROWS;
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < num_blocks; ++block)
        run(block, block * ROWS, std::min(rows, (block + 1) * ROWS));
}

// [blocks][count] -> [count], in the order of the blocks: float32 sums depend on their order.
void sum_blocks(const std::vector<float>& partial, int64_t count, float* total) {
    const int64_t num_blocks = partial.size() / count;
#pragma omp parallel for schedule(static)
    for (int64_t column = 0; column < count; column += LANES) {
        Floats sum = _mm512_setzero_ps();
        for (int64_t block = 0; block < num_blocks; ++block)
            sum = _mm512_add_ps(sum, load(partial.data() + block * count + column));
        store(total + column, sum);
    }
}

void add_to(float* total, Floats values) { store(total, _mm512_add_ps(load(total), values)); }

// erf(x) = 1 - (a polynomial of t = 1 / (1 + p |x|)) exp(-x^2), odd; absolute error below 2e-7, far below
// bfloat16's. `gaussian`: exp(-x^2), which GELU's slope needs, too. Abramowitz and Stegun, 7.1.26,
// https://personal.math.ubc.ca/~cbm/aands/page_299.htm.
inline Floats error_function(Floats x, Floats& gaussian) {
    const Floats t = _mm512_div_ps(all(1), _mm512_fmadd_ps(_mm512_abs_ps(x), all(0.3275911f), all(1)));
    Floats sum = all(1.061405429f);
    for (const float factor : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f})
        sum = _mm512_fmadd_ps(sum, t, all(factor));
    gaussian = exponential(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(x, x)));
    const Floats result = _mm512_fnmadd_ps(_mm512_mul_ps(sum, t), gaussian, all(1));
    const __mmask16 negative = _mm512_movepi32_mask(_mm512_castps_si512(x));
    return _mm512_mask_sub_ps(result, negative, _mm512_setzero_ps(), result);
}

// dropout(states + bias) + residual of one row, to `sums`. The mask is a function of (row, column): backward
// computes it again, and the sums, instead of reading what forward would have kept.
struct ResidualRows {
    const bf16* states;
    const float* bias;
    const bf16* residual;
    int size;
    const uint32_t* drawn;  // [rows]: the bits of each row's mask; null: no dropout
    float factor;           // of what is kept
    int32_t drop_below;
    std::vector<uint32_t> columns = mixed_columns(drawn ? size : 0);

    // Which of 16 columns are kept.
    __mmask16 kept(int64_t row, int column) const {
        return drawn ? ~dropped(drawn[row], columns.data() + column, drop_below) : 0xFFFF;
    }
    void add(int64_t row, float* sums) const {
        for (int column = 0; column < size; column += LANES) {
            const Floats state = _mm512_add_ps(load(states + row * size + column), load(bias + column));
            const Floats old = load(residual + row * size + column);
            store(sums + column, _mm512_mask3_fmadd_ps(state, all(factor), old, kept(row, column)));
        }
    }
};

}  // namespace

extern "C" {

// LayerNorm(dropout(states + states_bias) + residual), with LayerNorm(z) = (z - mean) / deviation * weight
// + bias. Kept are the two moments of each row: [rows]. Ba et al. 2016, https://arxiv.org/abs/1607.06450.
void add_norm_forward(const bf16* states, const float* states_bias, const bf16* residual, const float* weight, const float* bias,
                      const uint32_t* drawn, bf16* output, float* means, float* inverse_deviations, int64_t rows, int size,
                      float epsilon, float factor, int32_t drop_below) {
    const ResidualRows inputs{states, states_bias, residual, size, drawn, factor, drop_below};
    for_each_block(rows, [&](int64_t, int64_t first, int64_t last) {
        std::vector<float> sums(size);
        for (int64_t row = first; row < last; ++row) {
            inputs.add(row, sums.data());
            Floats total = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
            for (int column = 0; column < size; column += LANES) total = _mm512_add_ps(total, load(&sums[column]));
            const float mean = _mm512_reduce_add_ps(total) / size;
            for (int column = 0; column < size; column += LANES) {
                const Floats centred = _mm512_sub_ps(load(&sums[column]), all(mean));
                squares = _mm512_fmadd_ps(centred, centred, squares);
            }
            const float inverse = 1 / std::sqrt(_mm512_reduce_add_ps(squares) / size + epsilon);
            means[row] = mean, inverse_deviations[row] = inverse;
            for (int column = 0; column < size; column += LANES) {
                const Floats normal = _mm512_mul_ps(_mm512_sub_ps(load(&sums[column]), all(mean)), all(inverse));
                store(output + row * size + column, _mm512_fmadd_ps(normal, load(weight + column), load(bias + column)));
            }
        }
    });
}

// With y = (z - mean) / deviation, g the output's gradient and h = g * weight:
//
//     dz = (h - mean(h) - y mean(h y)) / deviation    dweight = sum of g y    dbias = sum of g
//
// dz goes to the residual as it is, and through the mask to the states. grad_totals: [3][size], the
// gradients of weight, bias and states_bias.
void add_norm_backward(const bf16* grad_output, const bf16* states, const float* states_bias, const bf16* residual,
                       const float* weight, const float* means, const float* inverse_deviations, const uint32_t* drawn, bf16* grad_states,
                       bf16* grad_residual, float* grad_totals, int64_t rows, int size, float factor, int32_t drop_below) {
    const ResidualRows inputs{states, states_bias, residual, size, drawn, factor, drop_below};
    std::vector<float> partial((rows + ROWS - 1) / ROWS * 3 * size);
    for_each_block(rows, [&](int64_t block, int64_t first, int64_t last) {
        float* totals = partial.data() + block * 3 * size;
        std::vector<float> normal(size), weighted(size);
        for (int64_t row = first; row < last; ++row) {
            inputs.add(row, normal.data());
            Floats sum = _mm512_setzero_ps(), along = _mm512_setzero_ps();
            for (int column = 0; column < size; column += LANES) {
                const Floats gradient = load(grad_output + row * size + column);
                const Floats y = _mm512_mul_ps(_mm512_sub_ps(load(&normal[column]), all(means[row])),
                                               all(inverse_deviations[row]));
                const Floats product = _mm512_mul_ps(gradient, load(weight + column));
                add_to(totals + column, _mm512_mul_ps(gradient, y));
                add_to(totals + size + column, gradient);
                sum = _mm512_add_ps(sum, product);
                along = _mm512_fmadd_ps(product, y, along);
                store(&normal[column], y);
                store(&weighted[column], product);
            }
            const Floats mean = all(_mm512_reduce_add_ps(sum) / size), slope = all(_mm512_reduce_add_ps(along) / size);
            for (int column = 0; column < size; column += LANES) {
                Floats gradient = _mm512_sub_ps(load(&weighted[column]), mean);
                gradient = _mm512_fnmadd_ps(load(&normal[column]), slope, gradient);
                gradient = _mm512_mul_ps(gradient, all(inverse_deviations[row]));
                store(grad_residual + row * size + column, gradient);
                gradient = _mm512_maskz_mul_ps(inputs.kept(row, column), gradient, all(factor));
                store(grad_states + row * size + column, gradient);
                add_to(totals + 2 * size + column, gradient);
            }
        }
    });
    sum_blocks(partial, 3 * size, grad_totals);
}

// GELU, x Phi(x) of x = input + bias, with Phi(x) = (1 + erf(x / sqrt(2))) / 2. Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415.
void gelu_forward(const bf16* input, const float* bias, bf16* output, int64_t rows, int size) {
    for_each_block(rows, [&](int64_t, int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row)
            for (int column = 0; column < size; column += LANES) {
                const int64_t at = row * size + column;
                const Floats x = _mm512_add_ps(load(input + at), load(bias + column));
                const Floats half = _mm512_mul_ps(x, all(0.5f));
                Floats gaussian;
                const Floats erf = error_function(_mm512_mul_ps(x, all(0.70710678f)), gaussian);
                store(output + at, _mm512_fmadd_ps(half, erf, half));
            }
    });
}

// The gradient of the input, g (Phi(x) + x phi(x)) with phi(x) = exp(-x^2 / 2) / sqrt(2 pi), takes the
// place of grad_output; grad_bias is its sum over rows.
void gelu_backward(const bf16* input, const float* bias, bf16* grad_output, float* grad_bias, int64_t rows, int size) {
    std::vector<float> partial((rows + ROWS - 1) / ROWS * size);
    for_each_block(rows, [&](int64_t block, int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row)
            for (int column = 0; column < size; column += LANES) {
                const int64_t at = row * size + column;
                const Floats x = _mm512_add_ps(load(input + at), load(bias + column));
                Floats gaussian;
                const Floats erf = error_function(_mm512_mul_ps(x, all(0.70710678f)), gaussian);
                Floats slope = _mm512_fmadd_ps(erf, all(0.5f), all(0.5f));
                slope = _mm512_fmadd_ps(_mm512_mul_ps(x, gaussian), all(0.39894228f), slope);
                const Floats gradient = _mm512_mul_ps(load(grad_output + at), slope);
                store(grad_output + at, gradient);
                add_to(partial.data() + block * size + column, gradient);
            }
    });
    sum_blocks(partial, size, grad_bias);
}

// Softmax cross-entropy of logits + bias, [rows][vocabulary]; its gradient, probability - onehot(label),
// takes the place of the logits, so that no second matrix of that size exists:
//
//     loss = max + log(sum of exp(logit - max)) - logit of the label
//
// A label below 0 costs nothing. Exponentials are computed for the sum and again for the gradient, so
// that nothing in float32 is stored. `vocabulary` is a multiple of 16.
void cross_entropy(bf16* logits, const float* bias, const int64_t* labels, float* losses, uint8_t* correct,
                   int64_t rows, int64_t vocabulary) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
        bf16* of_row = logits + row * vocabulary;
        const auto logit = [&](int64_t at) { return _mm512_add_ps(load(of_row + at), load(bias + at)); };
        const auto power = [&](int64_t at, Floats highest) { return exponential(_mm512_sub_ps(logit(at), highest)); };
        Floats most = all(-1e38f), sum = _mm512_setzero_ps();
        for (int64_t at = 0; at < vocabulary; at += LANES) most = _mm512_max_ps(most, logit(at));
        const float highest = _mm512_reduce_max_ps(most);
        for (int64_t at = 0; at < vocabulary; at += LANES) sum = _mm512_add_ps(sum, power(at, all(highest)));
        const float total = _mm512_reduce_add_ps(sum);
        const int64_t label = labels[row] < 0 ? 0 : labels[row];
        const float label_logit = bf16_to_float(of_row[label]) + bias[label];
        losses[row] = labels[row] < 0 ? 0 : highest + std::log(total) - label_logit;
        correct[row] = labels[row] >= 0 && label_logit == highest;
        for (int64_t at = 0; at < vocabulary; at += LANES)
            store(of_row + at, _mm512_mul_ps(power(at, all(highest)), all(1 / total)));
        // Not the stored probability less 1: that was rounded to bfloat16 before the subtraction.
        of_row[label] = float_to_bf16(std::exp(label_logit - highest) / total - 1);
    }
}

}  // extern "C"
