"""NPU cores by dynamic resource allocation: the scheduler chooses them, the broker keeps them for the claim."""
