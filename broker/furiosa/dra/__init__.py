"""NPU cores by dynamic resource allocation: the scheduler chooses, the broker keeps them for the claim."""
