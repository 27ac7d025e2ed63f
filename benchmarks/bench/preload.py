"""What every process of a run imports, imported once by the server that they are forked from."""

import torch._inductor.compile_fx  # noqa: F401  # the compiler, seconds of it

import bench.worker  # noqa: F401
