"""The networks: one architecture family, weight-compatible with diffusers' Wan."""
