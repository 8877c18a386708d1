"""NPU cores as resources of Kubernetes: a device plugin over the broker, which keeps all of its state."""
