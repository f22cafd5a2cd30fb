"""Files for the programs that a cluster is run with, from its own configuration. Pure: configuration in, text out."""
