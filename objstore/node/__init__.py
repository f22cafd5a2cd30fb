"""A node: fragments in volumes, registers and the index in a key-value store, one commit for all that waits.

service        one handler per message; open_node puts everything together
identity       which node this data folder is; rebuild: the fragment index from the volumes alone
registers      the acceptor side of the key registers; register_rows, register_pages: rows and pages of them
fragments      put, read, verify, delete; streams: the same in pieces; stored: checking where it lies
index          rows that say where a fragment is; claims: changes of one fragment follow each other
sealed         the key-value store, believed only after it verified; damage: one that did not is set aside
volumes        append-only files and their space; space: who may still use it; budget: bytes at work at once
commit         group commit: one sync per volume and of the journal per batch; rows of registers may follow later
pace           whether work is quick enough for the event loop, by how long it took before
journal        every accepted value in plain files too; journal_format: their bytes; compaction: old files go
lost           the journals of former lives of a node that lost its index, for recovery
"""
