"""The API as an OpenAPI 3.1 document, made of the types that it answers with."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import msgspec

from stream_app.api import answers, status_answers
from stream_app.settings import Settings

_PROBLEMS = {
    400: "The request says something that it must not.",
    401: "No token, or another.",
    404: "No such user.",
    413: "The body is larger than api_max_body_bytes.",
    429: "More requests than api_requests_per_s; Retry-After says when to come again.",
    500: "A bug of the worker's: its log says more.",
    503: "Not now, or not here; Retry-After says when to come again.",
}
_USER = {
    "name": "user_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 256},
}
_UNSEEN = {
    "name": "unseen",
    "in": "query",
    "schema": {"type": "boolean", "default": False},
    "description": "Leave out the items of the window.",
}
_KINDS = (
    answers.Problem,
    answers.InterestAnswer,
    answers.NeighboursAnswer,
    answers.HistoryAnswer,
    answers.AudienceRequest,
    answers.AudienceAnswer,
    answers.EmbedRequest,
    answers.EmbedAnswer,
    status_answers.StatusAnswer,
    status_answers.WorkersAnswer,
)


def document(settings: Settings) -> dict[str, Any]:
    """Return the document of a worker with these settings: its limits are in it."""
    k = {
        "name": "k",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": settings.api_max_k},
        "description": "How many.",
    }
    user = "/v1/users/{user_id}"
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "interest-stream",
            "version": version("interest-stream"),
            "description": "What a worker knows of its users. It reads, and changes no user.",
        },
        "security": [{"token": []}],
        "paths": {
            f"{user}/interest": _get(answers.InterestAnswer, _USER),
            f"{user}/neighbours": _get(answers.NeighboursAnswer, _USER, k, _UNSEEN),
            f"{user}/history": _get(answers.HistoryAnswer, _USER),
            "/v1/audience": _post(answers.AudienceRequest, answers.AudienceAnswer),
            "/v1/embed": _post(answers.EmbedRequest, answers.EmbedAnswer),
            "/v1/status": _get(status_answers.StatusAnswer),
            "/v1/workers": _get(status_answers.WorkersAnswer),
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(settings),
        },
    }


def _schemas(settings: Settings) -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(_KINDS, ref_template=_ref("{name}"))
    asked = schemas["AudienceRequest"]["properties"]
    asked["k"]["maximum"] = settings.api_max_k
    texts = schemas["EmbedRequest"]["properties"]["texts"]
    for text in (asked["text"], texts["items"]):
        text["maxLength"] = settings.max_text_chars
    return schemas


def _ref(name: str) -> str:
    return f"#/components/schemas/{name}"


def _get(answer: type, *parameters: dict[str, Any]) -> dict[str, Any]:
    problems = [401, 429, 500, 503, *((404,) if _USER in parameters else ())]
    if parameters[1:] or answer is status_answers.WorkersAnswer:
        problems.append(400)
    return {
        "get": {
            "summary": _first_line(answer),
            "parameters": list(parameters),
            "responses": _responses(answer, problems),
        }
    }


def _post(request: type, answer: type) -> dict[str, Any]:
    return {
        "post": {
            "summary": _first_line(answer),
            "requestBody": {"required": True, "content": _json(request)},
            "responses": _responses(answer, [400, 401, 413, 429, 500, 503]),
        }
    }


def _responses(answer: type, problems: list[int]) -> dict[str, Any]:
    found: dict[str, Any] = {"200": {"description": _first_line(answer), "content": _json(answer)}}
    for status in sorted(problems):
        found[str(status)] = {
            "description": _PROBLEMS[status],
            "content": _json(answers.Problem),
        }
    return found


def _json(kind: type) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _ref(kind.__name__)}}}


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").partition("\n")[0]
