"""What both twins share: who reads the socket for all, and the socket itself."""
