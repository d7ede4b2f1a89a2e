"""Every error that the API and its jobs can give: one table of codes, in the shape that OpenAI's clients read.

    {"error": {"message": "...", "type": "invalid_request_error", "param": "size", "code": "invalid_value"}}

The message is a cause and a next step in one line, in English, or in Chinese for who asks for that (`chinese`). A job
that failed has the same code and message in `error`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sorano import errors
from sorano.errors import SoranoError
from sorano.web.chinese import message_in_chinese


@dataclass(frozen=True)
class Kind:
    """A code's HTTP status and OpenAI type; `retry` answers the clients' question whether to send it again.

    `step` is the next step where an error of the engine's offers none of its own.
    """

    status: int
    type: str = "invalid_request_error"
    retry: bool | None = None
    step: str = "change the request: its parameters are in /openapi.json"


SERVER, LIMIT = "server_error", "rate_limit_error"

# fmt: off
CODES: dict[str, Kind] = {
    # the request
    "invalid_value":              Kind(400),
    "invalid_type":               Kind(400),
    "invalid_json":               Kind(400),
    "missing_required_parameter": Kind(400),
    "unknown_parameter":          Kind(400),
    "unsupported":                Kind(400),
    "invalid_file":               Kind(400, step="send another file, or convert this one first"),
    "remote_url_not_allowed":     Kind(400),
    "does_not_fit":               Kind(400, step="ask for fewer pixels or seconds"),
    "model_unavailable":          Kind(400, step="/v1/models lists what this server has"),
    "content_policy_violation":   Kind(400, step="say or show something else"),
    "request_too_large":          Kind(413),
    "unsupported_media_type":     Kind(415),
    # who asks
    "invalid_api_key":            Kind(401, "authentication_error"),
    "insufficient_scope":         Kind(403, "permission_error"),
    "origin_not_allowed":         Kind(403, "permission_error"),
    # what is not there, or not so
    "not_found":                  Kind(404),
    "method_not_allowed":         Kind(405),
    "range_not_satisfiable":      Kind(416, retry=False),
    "not_ready":                  Kind(409, retry=False),
    "wrong_state":                Kind(409, retry=False),
    "idempotency_mismatch":       Kind(409, retry=False),
    # limits
    "queue_full":                 Kind(429, LIMIT),
    "quota_exceeded":             Kind(429, "insufficient_quota", retry=False),
    "too_many_listeners":         Kind(429, LIMIT),
    # the server
    "internal_error":             Kind(500, SERVER, retry=False, step="see the server's log"),
    "database_unavailable":       Kind(503, SERVER, retry=True),
    "storage_full":               Kind(503, SERVER, retry=True),
    # of jobs alone
    "cancelled":                  Kind(409, retry=False, step="send it again to make it anew"),
    "deadline_exceeded":          Kind(409, retry=False),
    "worker_lost":                Kind(500, SERVER, retry=False),
    "input_gone":                 Kind(404),
    "generation_failed":          Kind(500, SERVER, retry=False, step="try another seed or fewer steps"),
    "signing_failed":             Kind(500, SERVER, retry=False, step="`sorano doctor` looks at the keys"),
    # of the upload gate alone
    "media_refused":              Kind(403, "permission_error", retry=False),
    "upstream_unavailable":       Kind(502, SERVER, retry=True),
    # of the desk alone
    "not_signed_in":              Kind(401, "authentication_error"),
    "not_yours":                  Kind(403, "permission_error"),
    "not_enrolled":               Kind(403, "permission_error"),
    "assertion_refused":          Kind(403, "permission_error"),
    "wrong_digits":               Kind(403, "permission_error"),
    "wrong_code":                 Kind(403, "permission_error"),
    "fallback_not_allowed":       Kind(403, "permission_error"),
    "ceremony_over":              Kind(409, retry=False),
    "already_answered":           Kind(409, retry=False),
    "request_over":               Kind(409, retry=False),
    "not_approved":               Kind(409, retry=False),
    "cooling_off":                Kind(409, retry=False),
    "does_not_match":             Kind(409, retry=False),
    "already_consumed":           Kind(409, retry=False),
    "too_many_attempts":          Kind(429, LIMIT),
    "clock_moved":                Kind(503, SERVER, retry=False),
    "rolled_back":                Kind(503, SERVER, retry=False),
}
# fmt: on

OF_SORANO: tuple[tuple[type[SoranoError], str], ...] = (
    (errors.Cancelled, "cancelled"),
    (errors.PolicyError, "content_policy_violation"),
    (errors.CapacityError, "does_not_fit"),
    (errors.CheckpointError, "model_unavailable"),
    (errors.NumericsError, "generation_failed"),
    (errors.TrustError, "signing_failed"),
    (errors.VideoError, "invalid_file"),
    (errors.RequestError, "invalid_value"),
)


FLAG = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]*)")
NAMES = {"image": "input_reference", "last": "last_frame", "preset": "model", "variations": "n"}


class Problem(Exception):
    """What is answered instead of a result."""

    def __init__(
        self,
        code: str,
        message: str,
        hint: str,  # the next step; "": that of the code
        *,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.message = f"{message}; {hint or CODES[code].step}"
        super().__init__(self.message)
        self.code, self.param, self.retry_after = code, param, retry_after

    @property
    def kind(self) -> Kind:
        """The code's row."""
        return CODES[self.code]

    def body(self, in_chinese: bool = False) -> dict[str, Any]:
        """The answer as JSON."""
        said = message_in_chinese(self.message, self.code) if in_chinese else self.message
        return {"error": {"message": said, "type": self.kind.type, "param": self.param, "code": self.code}}

    def headers(self, in_chinese: bool = False) -> dict[str, str]:
        """What tells a client whether and when to try again, and the language of what is said."""
        told = {"content-language": "zh-CN" if in_chinese else "en", "vary": "accept-language"}
        if self.kind.retry is not None:
            told["x-should-retry"] = "true" if self.kind.retry else "false"
        if self.retry_after is not None:
            told["retry-after"] = str(max(1, round(self.retry_after)))
        if self.kind.status == 401:
            told["www-authenticate"] = "Bearer"
        return told


def code_of(error: SoranoError) -> str:
    """The code of an error of the engine's."""
    return next((code for kind, code in OF_SORANO if isinstance(error, kind)), "internal_error")


def problem_of(error: SoranoError, param: str | None = None) -> Problem:
    """The same as an answer."""
    hint = "" if error.hint is None else as_parameters(error.hint)
    return Problem(code_of(error), as_parameters(error.message), hint, param=param)


def as_parameters(text: str) -> str:
    """A message of the command's with its flags as the API calls them: "--num-steps 8" becomes "num_steps 8"."""
    if "sorano " in text:  # a command to type
        return text
    return FLAG.sub(lambda match: NAMES.get(match[1], match[1].replace("-", "_")), text)


def not_found(what: str, name: str) -> Problem:
    """The answer where there is no such thing, or none of the caller's."""
    return Problem("not_found", f"there is no {what} {name[:80]!r}", "it may have been deleted, or have expired")
