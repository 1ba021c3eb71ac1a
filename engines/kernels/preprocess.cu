// Raw frames -> the network's input: flat-field, integers -> half or float, tiles with their halo, for all channels of
// all rows of a batch in one launch. `engines/preprocess.py` states the same in NumPy, and names every field here.

#ifndef THREADS
#define THREADS 128
#endif
#define PER_THREAD 8
#define SPECK 6.103515625e-05f  // 2^-14, see engines/gather.py

struct Row {
    const void *pixels;            // [C, height, width] of the panel; null where `ready` is given
    const float *gain;             // flat-field of the same shape; null: light is taken as it is
    const float *ready;            // [C, h, w], a row that is finished
    const unsigned *living;        // [C], what `living` found; null: no channel needs a speck
    int height, width, top, left;  // of the panel, and where the row begins in it
};

template <typename Out> struct As;

template <> struct As<float> {
    static __device__ __forceinline__ float from(float value) { return value; }
};

template <> struct As<unsigned short> {  // IEEE half, as its bits
    static __device__ __forceinline__ unsigned short from(float value) {
#ifdef __CUDA_ARCH__
        unsigned short bits;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
        return bits;
#else
        return _cvtss_sh(value, 0);  // a processor's own, for tests
#endif
    }
};

template <typename In>
__device__ __forceinline__ float corrected(In raw, const float *gain, long long at, float top) {
    return gain ? fminf(fmaxf(rintf(raw * gain[at]), 0.0f), top) : float(raw);
}

// A block takes THREADS * PER_THREAD columns of one line of one channel of one row; neighbours take neighbouring pixels.
template <typename In, typename Out>
__device__ void gathered(const Row *rows, Out *out, unsigned *seen, unsigned *done, int channels, int h, int w,
                         float top, float scale) {
    const int line = blockIdx.y, plane = blockIdx.z, channel = plane % channels;
    const Row row = rows[plane / channels];
    Out *target = out + ((long long)plane * h + line) * w;
    const int y = min(row.top + line, row.height - 1);
    const long long start = ((long long)channel * row.height + y) * row.width;
    const float *finished = row.ready ? row.ready + ((long long)channel * h + line) * w : nullptr;
    const In *pixels = static_cast<const In *>(row.pixels);
    bool any = false;
#pragma unroll
    for (int step = 0; step < PER_THREAD; ++step) {
        const int x = (blockIdx.x * PER_THREAD + step) * THREADS + threadIdx.x;
        if (x >= w) break;
        if (finished) {
            target[x] = As<Out>::from(finished[x]);
            continue;
        }
        const long long at = start + min(row.left + x, row.width - 1);
        const float value = corrected(pixels[at], row.gain, at, top);
        any |= value != 0.0f;
        target[x] = As<Out>::from(value * scale);
    }
    if (!row.living) return;
    // The last block of a plane knows whether anything in it shows, and leaves both counters as it found them.
    const int shown = __syncthreads_or(any);
    if (threadIdx.x) return;
    if (shown) atomicOr(&seen[plane], 1u);
    __threadfence();
    if (atomicAdd(&done[plane], 1u) + 1 < gridDim.x * gridDim.y) return;
    if (!atomicExch(&seen[plane], 0u) && row.living[channel])
        out[(long long)plane * h * w] = As<Out>::from(SPECK);
    done[plane] = 0;
}

// Which channels of one panel show anything at all; `found` [C] is 0 before.
template <typename In>
__device__ void shows(const In *pixels, const float *gain, unsigned *found, long long count, float top) {
    const long long first = (long long)blockIdx.y * count;
    bool any = false;
    for (long long at = blockIdx.x * blockDim.x + threadIdx.x; at < count; at += (long long)gridDim.x * blockDim.x)
        any |= corrected(pixels[first + at], gain, first + at, top) != 0.0f;
    if (__syncthreads_or(any) && !threadIdx.x) atomicOr(&found[blockIdx.y], 1u);
}

#define GATHER(NAME, IN, OUT)                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                           \
        NAME(const Row *rows, OUT *out, unsigned *seen, unsigned *done, int channels, int h, int w, float top,      \
             float scale) {                                                                                         \
        gathered<IN, OUT>(rows, out, seen, done, channels, h, w, top, scale);                                       \
    }

GATHER(gather_uint8_float32, unsigned char, float)
GATHER(gather_uint16_float32, unsigned short, float)
GATHER(gather_uint8_float16, unsigned char, unsigned short)
GATHER(gather_uint16_float16, unsigned short, unsigned short)

#define LIVING(NAME, IN)                                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                           \
        NAME(const IN *pixels, const float *gain, unsigned *found, long long count, float top) {                    \
        shows<IN>(pixels, gain, found, count, top);                                                                 \
    }

LIVING(living_uint8, unsigned char)
LIVING(living_uint16, unsigned short)
