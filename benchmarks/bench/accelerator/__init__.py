"""Cost on an accelerator, counted on ``meta`` tensors: kernels, bytes moved, estimated time, peak memory."""
