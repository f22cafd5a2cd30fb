"""Who owns what: the partition table, how it changes with the fewest moves, and the owners under a map. Pure."""
