"""The exceptions of this program: one class for each decision a caller can make."""


class AnomalyError(Exception):
    """Root of every error this program raises on purpose."""


class ConfigurationError(AnomalyError):
    """A setting is unknown or out of range. Stop before joining the group."""


class TopicError(AnomalyError):
    """A topic is missing, or its settings differ from what the program needs. Stop; the message names the fix."""


class NoBroker(TopicError):
    """No broker answers now. Stop; a supervisor may start the program again, or wait and try again."""


class InvalidPoint(AnomalyError):
    """A record cannot be read as a point. Send it to the dead letters.

    ``label`` comes from a small fixed set (it labels a metric); the message is the full reason.
    """

    def __init__(self, label: str, reason: str) -> None:
        super().__init__(reason)
        self.label = label


class StateError(AnomalyError):
    """Stored bytes are damaged or of an unknown format. They are never used: stop; the message names them."""


class DeliveryError(AnomalyError):
    """A result, snapshot or commit could not be delivered in time. Stop without committing."""


class HistoryLost(AnomalyError):
    """Records that the state needs are no longer in the log. Stop; the message says how many and what to do."""


class Stalled(AnomalyError):
    """Records wait and there is no progress. Stop; a new process continues from the saved state."""


class StoreError(AnomalyError):
    """The history cannot be read or written now. Do without it, say so, and try again later."""


class Unreadable(AnomalyError):
    """Kafka cannot be read now. Say so, and let the caller ask again later."""


class Busy(AnomalyError):
    """Too many wait for the same already. Let the caller ask again later."""
