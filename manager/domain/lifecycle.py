"""The lifecycle of a sandbox as a table: which operation is legal in which state, and which state it shows meanwhile.

How an operation ends is for the runtime to say: what it reports replaces the state without asking this table. The table
governs what *we* start: an operation that is not in it for the present state is refused with that state's name.

    Running ─PAUSE→ Pausing        Paused ─RESUME→ Resuming
    Running ─SNAPSHOT→ Running     any state ─DELETE→ Stopping
"""

from __future__ import annotations

import enum

from manager.domain.sandbox import SandboxState as State


class Event(enum.Enum):
    """An operation on a sandbox begins."""

    PAUSE = "pause"
    RESUME = "resume"
    SNAPSHOT = "snapshot"
    DELETE = "delete"


class IllegalMove(Exception):
    """Raised when an event does not belong to the state; names both."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"{event.value} is not possible while the sandbox is {state.value}")
        self.state = state
        self.event = event


MOVES: dict[tuple[State, Event], State] = {
    (State.RUNNING, Event.PAUSE): State.PAUSING,
    (State.PAUSED, Event.RESUME): State.RESUMING,
    (State.RUNNING, Event.SNAPSHOT): State.RUNNING,
    **{(state, Event.DELETE): State.STOPPING for state in State},
}
"""Every legal move; what is not here raises."""


def move(state: State, event: Event) -> State:
    """The state after `event`; raises IllegalMove when the table has no such move."""
    try:
        return MOVES[state, event]
    except KeyError:
        raise IllegalMove(state, event) from None
