"""What can go wrong, one class per decision a caller can make."""


class AnomalyError(Exception):
    """Root of every error this program raises on purpose."""


class ConfigurationError(AnomalyError):
    """A setting is unknown or out of range. Stop before joining the group."""


class TopicError(AnomalyError):
    """A topic is missing or made differently from what the program needs. Stop; the message names the remedy."""


class InvalidPoint(AnomalyError):
    """A record cannot be read as a point. Quarantine it as a dead letter.

    ``label`` is one of a small fixed set (a metric's label); the message is the reason in full.
    """

    def __init__(self, label: str, reason: str) -> None:
        super().__init__(reason)
        self.label = label


class StateError(AnomalyError):
    """Stored bytes are damaged or of an unknown kind. Never trusted: stop, naming them."""


class DeliveryError(AnomalyError):
    """A result, snapshot or commit could not be delivered in time. Stop without committing."""


class HistoryLost(AnomalyError):
    """Records that the state needs were deleted from the log. Stop; the message says how many and what to do."""


class Stalled(AnomalyError):
    """Records wait and there is no progress. Stop; a new process continues from the saved state."""
