"""What repair asks of the registers, beyond reading them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from objstore.model.records import RegisterKey

Settle = Callable[[RegisterKey], Awaitable[None]]
"""Run one full round on a register without changing it: afterwards its value is chosen under the newest layout,
and no lower ballot can be. Raises Unavailable when no quorum answers."""

Rewrite = Callable[[RegisterKey, bytes, bytes], Awaitable[None]]
"""(key, state, listing): write the register's body anew under a higher ballot, unless it is another by now."""
