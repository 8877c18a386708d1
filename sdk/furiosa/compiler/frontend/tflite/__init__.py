"""TensorFlow Lite to dfg. The only place that imports the package tflite."""
