"""Sorano: text and images in, video out."""

__version__ = "0.1.0"
