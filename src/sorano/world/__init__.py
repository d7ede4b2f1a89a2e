"""The procedural world: scenes with known truth, rendered and captioned by us."""
