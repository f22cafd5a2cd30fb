"""Event notifications on their way from registers to webhooks.

    messages   what a target is sent: the JSON of S3, and its signature
    sender     HTTP, and what is known of each target: whether it answers, since when not, when to try again
    outbox     one register: its pending events sent in order, those that were answered taken away
    courier    of a gateway: registers that it has just written, at once, bounded in width and memory
    sweeper    of the leading repairer: all registers with pending events, wherever they came from

An event is pending as long as it is in its register (`KeyState.events`), so nothing else has to be remembered: the
courier may die or drop what it has, the sweeper finds every pending event in what the survey reads of all registers
anyway (of hidden keys too, which no listing shows). Both may send the same event: at least once, never not at all, but
for the two bounds of `model.limits`: EVENTS_PER_KEY_MAX and EVENT_KEPT_MS. What falls to them is counted and shown.
"""
