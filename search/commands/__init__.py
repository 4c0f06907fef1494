"""The commands of `islr-search`: each parses, calls, prints and returns an exit code; heavy imports wait inside them."""
