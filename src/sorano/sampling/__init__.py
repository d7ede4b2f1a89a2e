"""Schedules, solvers, guidance and the denoising loop."""
