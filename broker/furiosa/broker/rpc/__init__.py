"""The public API on its two transports: gRPC, and the handoff socket. One set of handlers."""
