"""Talk to CUDA through PyCUDA: memory, streams, the kernel that converts frames."""
