"""Real S3 clients doing what people use them for, against real processes. gateway/s3/CLIENTS.md is their matrix."""
