"""The commands of `python -m search`: each parses, calls, prints and returns an exit code; heavy imports wait inside them."""
