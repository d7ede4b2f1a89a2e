"""The procedural world: scenes with known truth, rendered, captioned and judged."""
