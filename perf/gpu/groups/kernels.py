#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.


"""The CUDA kernels of this benchmark, compiled by NVRTC when they are used."""

# Rows and columns of a tile in shared memory, and threads of a block.
TILE = 32

SOURCE = '''
extern "C" __global__ void nothing(int) {}

// c = a b for square matrices of n rows, n a multiple of the tile. Each block
// makes one tile of c and walks along the tiles of a and b that it needs.
extern "C" __global__ void __launch_bounds__(1024)
matmul(const float* __restrict__ a, const float* __restrict__ b,
       float* __restrict__ c, int n)
{
    __shared__ float tile_a[32][32];
    __shared__ float tile_b[32][32];
    const int x = threadIdx.x, y = threadIdx.y;
    const size_t row = blockIdx.y * 32 + y, column = blockIdx.x * 32 + x;
    float sum = 0.0f;
    for (int start = 0; start < n; start += 32) {
        tile_a[y][x] = a[row * n + start + x];
        tile_b[y][x] = b[(size_t)(start + y) * n + column];
        __syncthreads();
#pragma unroll
        for (int k = 0; k < 32; ++k)
            sum += tile_a[y][k] * tile_b[k][x];
        __syncthreads();
    }
    c[row * n + column] = sum;
}
'''


def load(cupy, name):
    """A kernel for the current device, ready to be launched."""
    module = cupy.RawModule(code=SOURCE, backend='nvrtc')
    module.compile()
    return module.get_function(name)
