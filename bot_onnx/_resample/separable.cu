// Two banded operators at once: y[o, i] = sum_k sum_l R[o, k] C[i, l] x[k, l] for every matrix of a stack.
//
// A block makes a tile of the result. First every thread takes some neighbouring columns of the source and makes ROWS
// rows of the result of them, straight from global memory: the source is read once, in whole lines, and the rows that
// two groups share come from the first-level cache. What this gives goes to shared memory. Then every thread takes COLS
// neighbouring columns of the result, its weights in registers, and goes down the rows.
//
// A band is given by groups of neighbouring outputs: the first index that a group reads (the last index is followed by
// the first), and which block of weights [taps, outputs of the group] it takes. So wavelets, boundary modes, odd sizes
// and both directions are tables, and none of them is told apart here.
//
// Given when compiled: SOURCE, WORK (types of the source, and of arithmetic and result), HALF (SOURCE holds the bits of
// a float16), VEC (columns that a thread reads at once), PAIRED (results are written COLS at once), ROW_TAPS, COL_TAPS,
// TILE_ROWS, ROWS, COLS, THREADS. Nothing is included: NVRTC has no headers.
// PHASE stands before what all threads do between two barriers; a compiler for the host makes a loop of it.
#ifndef PHASE
#define PHASE
#endif

// Columns lie in shared memory in LANES strands: as threads read every fourth, every second or every one, they meet
// different banks in each case (a strand's length is 8 more than a multiple of 32).
#define LANES 4

// Longer bands keep their weights in the first-level cache: registers would not hold them.
#define MOST_KEPT 24
const int UNROLLED = COL_TAPS <= MOST_KEPT ? COL_TAPS : 8;

struct alignas(VEC * sizeof(SOURCE)) Read { SOURCE at[VEC]; };
struct alignas(ROWS * sizeof(WORK)) Weights { WORK at[ROWS]; };
struct alignas(COLS * sizeof(WORK)) Written { WORK at[COLS]; };

#if HALF && defined(__CUDACC__)
__device__ __forceinline__ WORK widened(SOURCE bits)
{
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
#elif HALF
static inline WORK widened(SOURCE bits) { return half_of(bits); }
#else
__device__ __forceinline__ WORK widened(SOURCE value) { return value; }
#endif

extern "C" __global__ void __launch_bounds__(THREADS) separable(
    const SOURCE* __restrict__ x, WORK* __restrict__ y,
    const int* __restrict__ row_start, const int* __restrict__ row_block, const WORK* __restrict__ row_weights,
    const int* __restrict__ col_base, const int* __restrict__ col_extent, const int* __restrict__ col_offset,
    const int* __restrict__ col_block, const WORK* __restrict__ col_weights,
    int in_rows, int in_cols, int out_rows, int out_cols, int tile_groups, int strand, int inner,
    long long in_outer, long long in_inner, long long in_row, long long out_outer, long long out_inner, long long out_row)
{
    extern __shared__ double tile_memory[];
    WORK* const between = reinterpret_cast<WORK*>(tile_memory);
    const int pitch = LANES * strand;
    const int first_row = blockIdx.y * TILE_ROWS;
    const int rows = out_rows - first_row < TILE_ROWS ? out_rows - first_row : TILE_ROWS;
    const SOURCE* const from = x + (blockIdx.z / inner) * in_outer + (blockIdx.z % inner) * in_inner;
    WORK* const to = y + (blockIdx.z / inner) * out_outer + (blockIdx.z % inner) * out_inner;

    PHASE {
        const int vectors = (col_extent[blockIdx.x] + VEC - 1) / VEC;
        const int items = vectors * ((rows + ROWS - 1) / ROWS);
        for (int item = threadIdx.x; item < items; item += THREADS) {
            const int group = item / vectors, vector = item - group * vectors;
            const int place = first_row / ROWS + group;
            const SOURCE* const column = from + (col_base[blockIdx.x] + vector * VEC) % in_cols;
            const WORK* const weights = row_weights + (long long)row_block[place] * (ROW_TAPS * ROWS);
            int row = row_start[place];
            WORK total[ROWS][VEC] = {};
#pragma unroll 8
            for (int tap = 0; tap < ROW_TAPS; ++tap) {
                const Read read = *reinterpret_cast<const Read*>(column + row * in_row);
                const Weights weight = *reinterpret_cast<const Weights*>(weights + tap * ROWS);
                row = row + 1 == in_rows ? 0 : row + 1;
#pragma unroll
                for (int v = 0; v < VEC; ++v) {
                    const WORK value = widened(read.at[v]);
#pragma unroll
                    for (int r = 0; r < ROWS; ++r) total[r][v] += weight.at[r] * value;
                }
            }
#pragma unroll
            for (int v = 0; v < VEC; ++v) {
                const int at = vector * VEC + v;
                WORK* const stored = between + group * ROWS * pitch + (at % LANES) * strand + at / LANES;
#pragma unroll
                for (int r = 0; r < ROWS; ++r) stored[r * pitch] = total[r][v];
            }
        }
    }
    __syncthreads();
    PHASE {
        const int group = threadIdx.x % tile_groups, lane = threadIdx.x / tile_groups, lanes = THREADS / tile_groups;
        const int place = blockIdx.x * tile_groups + group, column = place * COLS;
        if (lane < lanes && column < out_cols) {
            const WORK* const weights = col_weights + (long long)col_block[place] * (COL_TAPS * COLS);
#if COL_TAPS <= MOST_KEPT
            WORK weight[COL_TAPS * COLS];
#pragma unroll
            for (int i = 0; i < COL_TAPS * COLS; ++i) weight[i] = weights[i];
#else
            const WORK* const weight = weights;
#endif
            int strands[LANES];
#pragma unroll
            for (int i = 0; i < LANES; ++i) {
                const int at = col_offset[place] + i;
                strands[i] = (at % LANES) * strand + at / LANES;
            }
            for (int row = lane; row < rows; row += lanes) {
                const WORK* const line = between + row * pitch;
                Written total = {};
#pragma unroll UNROLLED
                for (int tap = 0; tap < COL_TAPS; ++tap) {
                    const WORK value = line[strands[tap % LANES] + tap / LANES];
#pragma unroll
                    for (int c = 0; c < COLS; ++c) total.at[c] += weight[tap * COLS + c] * value;
                }
                WORK* const out = to + (first_row + row) * out_row + column;
#if PAIRED
                *reinterpret_cast<Written*>(out) = total;
#else
                for (int c = 0; c < COLS; ++c)
                    if (column + c < out_cols) out[c] = total.at[c];
#endif
            }
        }
    }
}
