"""Models like the embedded one outside PyTorch: ONNX graphs, their runner, and a page for a browser tab."""
