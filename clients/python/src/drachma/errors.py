"""What can come of a request but an answer."""

from __future__ import annotations

from .messages import Refusal
from .model import Reason


class DrachmaError(Exception):
    """The base of all errors of this package but `MalformedError`."""


class Rejected(DrachmaError):
    """It did not take effect, and never will: final."""

    def __init__(self, reason: Reason, replayed: bool = False) -> None:
        """Keeps the reason, and whether it was rejected before this request arrived."""
        super().__init__(f"rejected: {reason.name.lower()}")
        self.reason = reason
        self.replayed = replayed


class NotFinal(DrachmaError):
    """There was no answer in time; it may have taken effect, or may still. Ask again under the same id, or fence it."""


class Unavailable(NotFinal):
    """Of a needed group fewer than a majority of nodes could be reached."""


class Unknown(NotFinal):
    """The deadline passed otherwise."""


class Differ(DrachmaError):
    """Replicas hold different things at the same version: `drachma audit` shows which."""


class InvalidRequest(DrachmaError):
    """The request breaks a rule of the protocol; nothing came of it, and nothing would if it were sent again."""


class ConnectionLost(DrachmaError):
    """The connection could not be made, broke, or fell silent."""


class SaidGoodbye(ConnectionLost):
    """The node ended the connection, and said why."""

    def __init__(self, refusal: Refusal, text: str) -> None:
        """Keeps what the node said."""
        super().__init__(f"goodbye: {refusal.name.lower()}: {text}")
        self.refusal = refusal
        self.text = text

    @property
    def fault(self) -> bool:
        """Whether this client is at fault, so that sending the same again is of no use."""
        return self.refusal in (Refusal.TOO_LARGE, Refusal.MALFORMED)

    @property
    def forever(self) -> bool:
        """Whether this node will never serve this client."""
        return self.refusal in (Refusal.VERSION, Refusal.CLUSTER, Refusal.STRANGER)
