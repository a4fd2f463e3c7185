"""What is told of an alarm: its state, and each change of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sluice_harness.cloudwatch import reasons
from sluice_harness.cloudwatch.definitions import State

if TYPE_CHECKING:
    from sluice_harness.cloudwatch.composites import SuppressedBy
    from sluice_harness.cloudwatch.definitions import CompositeAlarm, MetricAlarm


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of an alarm's state, or the actions that suppression had held back.

    Attributes
    ----------
    alarm : MetricAlarm or CompositeAlarm
        Its definition at the time.
    old, new : State
        The same if suppression has ended and the actions for the state are taken only now.
    at : float
        Epoch seconds, of stage time.
    reason : str
        As CloudWatch words it.
    reason_data : dict
        As in DescribeAlarms' ``StateReasonData``.
    actions : tuple of str
        The ARNs to notify now; none if actions are disabled, suppressed or not configured.
    suppressed_by : SuppressedBy or None
        What holds the actions back.

    """

    alarm: MetricAlarm | CompositeAlarm
    old: State
    new: State
    at: float
    reason: str
    reason_data: dict[str, Any]
    actions: tuple[str, ...] = ()
    suppressed_by: SuppressedBy | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What DescribeAlarms tells of an alarm's state.

    Attributes
    ----------
    updated_at, transitioned_at : float
        When its state was last set and last became another, in epoch seconds; 0 if never.

    """

    state: State = State.INSUFFICIENT_DATA
    reason: str = reasons.CREATED
    reason_data: dict[str, Any] = field(default_factory=dict)
    updated_at: float = 0
    transitioned_at: float = 0
    suppressed_by: SuppressedBy | None = None
