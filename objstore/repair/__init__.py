"""Repair: whoever leads it watches the cluster, moves metadata and data to where they belong, and says so.

service     one elected process; the loops below, all resumable by the next leader from the cluster itself
controller  which nodes count as out, and what to do about the map next                              pure
transition  from one view to the next: fence, sync, switch                            (INV-6, metadata)
surveyor    what nodes hold and registers refer to, read incrementally
inventory   ... kept, joined and judged; redundancy: the counting                                    pure
tally       flaws and verdicts, counted; what is left to do                                          pure
planner     what to rebuild, move or trim, most endangered first                                     pure
dispatcher  which segments when, retries, moves last (the work itself: objstore/engine/rebuilding.py)
pace        operations in flight and bytes per second; throttle: by the delay of calls, and clients  pure
orders      what operators asked for
report      its state in a word, episodes, receipts; progress: the time left                         pure
account     ... gathered and written as the survey; damage: what is hurt, in words
antientropy metadata replicas that fell behind
garbage     what nothing needs any more, deleted on positive proof (INV-7)
endings     ... of uploads and buckets that are over; deletion: on all nodes, and not too much of it
"""
