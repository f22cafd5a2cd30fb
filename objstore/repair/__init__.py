"""Repair: whoever leads it watches the cluster, moves metadata and data to where they belong, and says so.

service     one elected process; the loops below, all resumable by the next leader from the cluster itself
controller  which nodes count as out, and what to do about the map next                              pure
transition  from one view to the next: fence, sync, switch                            (INV-6, metadata)
surveyor    what nodes hold and registers refer to, read incrementally
inventory   ... kept, joined and judged; redundancy: the counting                                    pure
planner     what to rebuild, move or trim, most endangered first                                     pure
dispatcher  how many segments at once, retries, budget (the work itself: objstore/engine/rebuilding.py)
antientropy metadata replicas that fell behind
garbage     what nothing needs any more, deleted on positive proof (INV-7)
endings     ... of uploads and buckets that are over; deletion: on all nodes, and not too much of it
"""
