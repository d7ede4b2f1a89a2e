"""Errors as answers: whatever a route raises has the shape of `sorano.web.problems`."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from sorano.errors import SoranoError
from sorano.web.chinese import wants_chinese
from sorano.web.problems import Problem, problem_of


def answer_problems(app: FastAPI) -> None:
    """Give every error of an application one shape."""

    @app.exception_handler(Problem)
    async def problem(request: HttpRequest, error: Problem) -> Response:
        return answered(error, request)

    @app.exception_handler(SoranoError)
    async def of_engine(request: HttpRequest, error: SoranoError) -> Response:
        return answered(problem_of(error), request)

    @app.exception_handler(HTTPException)
    async def of_framework(request: HttpRequest, error: HTTPException) -> Response:
        codes = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large", 401: "invalid_api_key"}
        code = codes.get(error.status_code, "invalid_value" if error.status_code < 500 else "internal_error")
        hint = "the routes are in /openapi.json" if code in ("not_found", "method_not_allowed") else ""
        said = answered(Problem(code, str(error.detail), hint), request)
        said.headers.update(error.headers or {})
        return said

    @app.exception_handler(RequestValidationError)
    async def of_validation(request: HttpRequest, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        param = str(first["loc"][-1])
        if first["type"] == "string_pattern_mismatch":  # of the form ^(one|other)$
            choices = first["ctx"]["pattern"].strip("^()$").replace("|", ", ")
            said, hint = f"there is no such {param}", f"it is one of {choices}"
            return answered(Problem("invalid_value", said, hint, param=param), request)
        return answered(Problem("invalid_value", f"{param}: {first['msg']}", "see /openapi.json", param=param), request)


def answered(problem: Problem, request: HttpRequest) -> Response:
    """A problem as a response, in the reader's language."""
    in_chinese = wants_chinese(request.headers.get("accept-language"))
    return JSONResponse(problem.body(in_chinese), status_code=problem.kind.status, headers=problem.headers(in_chinese))
