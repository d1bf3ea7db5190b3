"""From a user's own module or ONNX file to a network."""
