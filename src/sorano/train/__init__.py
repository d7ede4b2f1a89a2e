"""Training from scratch: one loop for the autoencoder and the flow model."""
