"""Every error a user can meet, as one tree, each with the next step to take.

    SoranoError          1  anything that went wrong and was understood
      RequestError       2  the request cannot be made as written
      CheckpointError    3  the weights are missing, or not the ones described
      CapacityError      4  it does not fit in this machine's memory or on its disk
      PolicyError        5  it is refused
      VideoError         1  a video or an image file cannot be read or written
      NumericsError      1  the numbers went wrong on the way (NaN, a black picture)
      TrustError         1  a key, a label, a credential or a signer is not as it must be
        TamperedError    6  `Report.require`: it was changed after it was signed or marked
        SuspiciousError  7  `Report.require`: nothing says where it is from, and something is odd
        UnverifiedError  8  `Report.require`: nothing trusted says where it is from
        MatchedError     9  `Report.require`: it is only a copy of what was signed
      Cancelled          130  the run was asked to stop

The number is the exit code of the command (`EXIT_INTERRUPTED` for Ctrl-C). Library code raises; only `cli/`
prints and exits.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_UNEXPECTED = 1
EXIT_INTERRUPTED = 130


class SoranoError(Exception):
    """What went wrong in `message`, what to do about it in `hint` (one line, may be None)."""

    exit_code: ClassVar[int] = EXIT_UNEXPECTED
    usual_hint: ClassVar[str] = "sorano doctor looks at this machine"  # what the command says where there is no hint

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n{self.hint}"


class RequestError(SoranoError):
    """The request cannot be made as written."""

    exit_code = 2
    usual_hint = "the same command with --help shows what it takes"


class CheckpointError(SoranoError):
    """The weights are missing, corrupt, or not the ones described."""

    exit_code = 3
    usual_hint = "sorano list shows the models that can be used"


class CapacityError(SoranoError):
    """It does not fit in the memory or on the disk that is free; the hint says what would."""

    exit_code = 4
    usual_hint = "free some, or ask for less"


class PolicyError(SoranoError):
    """The request is refused."""

    exit_code = 5
    usual_hint = "ask for something else"


class VideoError(SoranoError):
    """A video or image file cannot be read or written."""

    usual_hint = "see whether a player opens it; it may not have been copied whole"


class NumericsError(SoranoError):
    """The run produced NaN, infinity or an empty picture; the message names the step."""

    usual_hint = "try --dtype float32, or another --seed"


class TrustError(SoranoError):
    """A key, a label, a credential or a signer is not as it must be."""

    usual_hint = "sorano keys list and sorano trust list show what signs and what is trusted here"


class TamperedError(TrustError):
    """A file was changed after it was signed or marked."""

    exit_code = 6


class SuspiciousError(TrustError):
    """Nothing says where a file is from, and something in it is odd."""

    exit_code = 7


class UnverifiedError(TrustError):
    """Nothing that is trusted here says where a file is from."""

    exit_code = 8


class MatchedError(TrustError):
    """A file is a copy of what somebody who is trusted signed, as far as this can be seen, and not the signed file."""

    exit_code = 9


class Cancelled(SoranoError):
    """The run was asked to stop before its end."""

    exit_code = EXIT_INTERRUPTED
    usual_hint = "sorano resume goes on with what was kept"
