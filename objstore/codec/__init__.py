"""Bytes to shards and back: erasure codes, stripe arithmetic and the envelope that a shard is stored in. Pure."""
