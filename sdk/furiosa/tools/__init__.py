"""Tools around the SDK's parts that read files, the environment and the network for them."""
