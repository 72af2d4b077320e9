"""The life of a sandbox as a table: which operation or outcome is legal in which state, and where it leads.

The runtime stays the source of truth: what it reports replaces the state here without asking this table. The table
governs what *we* start: an operation that is not in it for the present state is refused with that state's name.

    Pending ─STARTED→ Running ─PAUSE→ Pausing ─PAUSED→ Paused ─RESUME→ Resuming ─RESUMED→ Running
    any state but Stopping ─DELETE→ Stopping ─DELETED→ (gone)
"""

from __future__ import annotations

import enum

from manager.domain.sandbox import SandboxState as State


class Event(enum.Enum):
    """What happens to a sandbox: an operation begins, or it comes to its end."""

    STARTED = "started"
    START_FAILED = "start failed"
    PAUSE = "pause"
    PAUSED = "paused"
    PAUSE_FAILED = "pause failed"
    RESUME = "resume"
    RESUMED = "resumed"
    RESUME_FAILED = "resume failed"
    SNAPSHOT = "snapshot"
    DELETE = "delete"
    DELETED = "deleted"
    DELETE_FAILED = "delete failed"


class IllegalMove(Exception):
    """Raised when an event does not belong to the state; names both."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"{event.value} is not possible while the sandbox is {state.value}")
        self.state = state
        self.event = event


MOVES: dict[tuple[State, Event], State] = {
    (State.PENDING, Event.STARTED): State.RUNNING,
    (State.PENDING, Event.START_FAILED): State.FAILED,
    (State.RUNNING, Event.PAUSE): State.PAUSING,
    (State.PAUSING, Event.PAUSED): State.PAUSED,
    (State.PAUSING, Event.PAUSE_FAILED): State.RUNNING,
    (State.PAUSED, Event.RESUME): State.RESUMING,
    (State.RESUMING, Event.RESUMED): State.RUNNING,
    (State.RESUMING, Event.RESUME_FAILED): State.PAUSED,
    (State.RUNNING, Event.SNAPSHOT): State.RUNNING,
    (State.STOPPING, Event.DELETED): State.TERMINATED,
    (State.STOPPING, Event.DELETE_FAILED): State.UNKNOWN,
    **{(state, Event.DELETE): State.STOPPING for state in State if state is not State.STOPPING},
}
"""Every legal move; what is not here raises."""


def move(state: State, event: Event) -> State:
    """The state after `event`; raises IllegalMove when the table has no such move."""
    try:
        return MOVES[state, event]
    except KeyError:
        raise IllegalMove(state, event) from None
