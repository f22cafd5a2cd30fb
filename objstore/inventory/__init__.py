"""What a bucket holds, object by object, read from its ordered index: inventories, and what has changed since one."""
