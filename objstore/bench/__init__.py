"""Load for any S3 endpoint, and what it says of it: `objstore bench`. Knows nothing of how a server works."""
