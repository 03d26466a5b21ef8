"""Files with integers for weights: what is asked, what ONNX Runtime makes of it, what it costs."""
