"""Pure functions on tensors: patches, positions, masking, diffusion, gathering over ranks."""
