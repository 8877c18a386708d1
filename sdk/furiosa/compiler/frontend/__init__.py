"""From foreign model formats to dfg. The only place in the compiler that imports onnx."""
