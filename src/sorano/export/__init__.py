"""Models like the embedded one outside PyTorch: ONNX graphs, ExecuTorch programs, their runner, a web page."""
