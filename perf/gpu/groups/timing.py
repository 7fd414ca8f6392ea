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


"""The clocks: that of the host, and CUDA events."""

import time


def by_host(work, finish=None):
    """Seconds by the host's monotonic clock.

    :param work: what one loop does.
    :param finish: what waits, after the last loop, for work that was only
        queued.
    :returns: a function from a number of loops to the seconds they took.
    """
    def run(loops):
        start = time.perf_counter()
        for _ in range(loops):
            work()
        if finish is not None:
            finish()
        return time.perf_counter() - start
    return run


def by_events(cupy, stream, work):
    """Seconds by two CUDA events around the loops, as the device saw them.

    :param stream: the CuPy stream on which ``work`` queues.
    :param work: what one loop queues.
    :returns: a function from a number of loops to the seconds they took.
    """
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()

    def run(loops):
        begin.record(stream)
        for _ in range(loops):
            work()
        end.record(stream)
        end.synchronize()
        return cupy.cuda.get_elapsed_time(begin, end) / 1e3
    return run


def by_torch_events(torch, work):
    """The same on PyTorch's current stream."""
    begin = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)

    def run(loops):
        begin.record()
        for _ in range(loops):
            work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3
    return run
