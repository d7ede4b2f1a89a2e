"""What several tests and benchmarks share: the corpus of clips, and honest copies of them."""
