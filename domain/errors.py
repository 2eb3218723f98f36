"""What the mechanism says no to.

DomainError
├── Refused          the case is not in a state for the act (409 at the HTTP door)
├── Forbidden        this person may not do it (403)
├── Invalid          the act names something that does not exist or makes no sense (422)
├── LedgerConflict   the ledger holds something else at this place: never overwritten, always reported
└── ArchiveConflict  the same of the archive

`code` is stable and English, for programs; `detail` is Chinese, for people, and says what to do next.
"""


class DomainError(Exception):
    """Base of everything that the rules refuse.

    Attributes:
        code: stable snake_case identifier, part of the public interface.
        detail: one Chinese sentence for the person who tried.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Refused(DomainError):
    """The case is not in a state for this act."""


class Forbidden(DomainError):
    """This person may not do this act on this case."""


class Invalid(DomainError):
    """What the act names does not exist, or what it says cannot be."""


class LedgerConflict(DomainError):
    """Another entry already stands at this place in the ledger."""


class ArchiveConflict(DomainError):
    """Another content already stands at this place in the archive, or what stands there was changed."""
