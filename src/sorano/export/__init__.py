"""The embedded kind of model outside PyTorch: ONNX graphs, a runner of them, and a folder that runs in a browser tab."""
