"""What the runtime decides, without I/O: no sockets, no event loop, no protobuf."""
