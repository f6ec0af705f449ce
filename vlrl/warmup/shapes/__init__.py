"""Training of the embedded voxel models: the VQ-VAE and the language model that writes codes."""
