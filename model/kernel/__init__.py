"""The training step of the network as one compiled function: its C sources, how they are built, found and called."""
