"""What a study's trials say. Pure functions over trials and plain values: nothing is opened, printed or stored."""
