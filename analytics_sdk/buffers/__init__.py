"""Where accepted events wait until the coordinator takes them."""
