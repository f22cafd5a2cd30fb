"""The lifecycle of objects: what rules of buckets end is ended here, by the leader of repair.

    rules     pure: the state of a key and rules -> what is due
    worker    walks the buckets that have rules, and does it; goes on where the leader before was

INV-23: the change that removes or hides a version decides for itself, on the state that it changes: what
was written, tagged or locked since the worker looked is judged as it is now, and a version that the worker has not seen
is never touched. The rules are read from a quorum after the worker saw something due and before it acts.
"""
