"""Is this a copy of what was signed? Fingerprints of picture and sound, alignment in time and frame, differences."""
