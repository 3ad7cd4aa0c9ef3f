"""The web application: predictions, health, metrics, a schema of requests and answers, and a page to look at.

Every error is a JSON object `{"error": message}`; none contains a stack trace or the texts of another request.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from multitask_bert.config.schema import ServeConfig
from multitask_bert.errors import InputError
from multitask_bert.inference.inputs import KEYS, Input, lacks_text, read_input
from multitask_bert.inference.predictor import Predictor
from multitask_bert.serving.batcher import Batcher, TooManyWaitingError
from multitask_bert.serving.counts import Counts
from multitask_bert.serving.page import page_of
from multitask_bert.serving.server import LOOPBACK
from multitask_bert.utils.files import finite

JSON_TYPE = "application/json"
RETRY_AFTER = "1"  # seconds


class PredictRequest(BaseModel):
    """What `POST /predict` takes."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"inputs": ["Amina anaishi Arusha."]}]})
    inputs: list[Any] = Field(
        min_length=1,
        description="texts, or objects with the keys text; text and text_pair; words; question and context; or text "
        "and choices; other keys come back unchanged",
    )
    tasks: list[str] | None = Field(None, min_length=1, description="tasks to predict for; null: all of the model's")


class PredictAnswer(BaseModel):
    """What `POST /predict` answers."""

    outputs: list[dict[str, Any]] = Field(
        description="each input, in order, with its `predictions` by task and head; `truncated: true` marks a text of "
        "which only the beginning was read"
    )


class ErrorAnswer(BaseModel):
    """The body of every answer but 200."""

    error: str = Field(description="what is wrong, and the way out")


def make_app(batcher: Batcher, config: ServeConfig, *, name: str, examples: Sequence[Any] = ()) -> FastAPI:
    """The application that serves a batcher's model, and closes the batcher as it ends.

    `name`: of the model, for the page; `examples`: inputs that the page offers.
    """
    predictor = batcher.predictor
    counts = Counts()
    heads = {
        task: {head: {"type": one.config.type, "labels": list(one.labels.names)} for head, one in heads.items()}
        for task, heads in predictor.model.heads.items()
    }
    input_types = [one for one in KEYS if predictor.heads_for(one, predictor.tasks)]
    page, policy = page_of(
        name=name, heads=heads, examples=examples,
        input_types=list(dict.fromkeys("text" if one == "words" else one for one in input_types)),
    )  # fmt: skip

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(batcher.close)

    app = FastAPI(title=f"multitask_bert: {name}", lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.middleware("http")
    async def count(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        started = time.perf_counter()
        response = refusal_of_host(request, config) or await proceed(request)
        if request.url.path == "/predict":
            counts.add(response.status_code, time.perf_counter() - started)
        return response

    @app.exception_handler(HTTPException)
    async def explain(request: Request, error: HTTPException) -> Response:
        message = str(error.detail)
        if error.status_code == 404:
            message = f"{request.url.path}: not found; openapi.json lists what is"
        elif error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "another method")
            message = f"{request.method} {request.url.path}: not allowed; use {allowed}"
        return JSONResponse({"error": message}, error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def apologise(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": f"the server failed ({type(error).__name__}); its log says more"}, 500)

    @app.post(
        "/predict",
        response_model=PredictAnswer,
        responses={status: {"model": ErrorAnswer} for status in (400, 413, 415, 422, 503, 504)},
        openapi_extra={"requestBody": {"required": True, "content": {JSON_TYPE: {"schema": PREDICT_SCHEMA}}}},
    )
    async def predict(request: Request) -> Response:
        """Predict with all heads that fit each input."""
        asked = await read_request(request, config)
        tasks = tasks_of(asked, predictor)
        inputs = read_inputs(asked.inputs, tasks, predictor, config)
        counts.num_inputs += len(inputs)
        try:
            outputs = await asyncio.wait_for(asyncio.wrap_future(batcher.submit(inputs, tasks)), config.timeout)
        except TooManyWaitingError:
            message = f"{batcher.num_waiting} inputs wait already; try again later"
            raise HTTPException(503, message, {"Retry-After": RETRY_AFTER}) from None
        except TimeoutError:
            raise HTTPException(504, f"no answer within {config.timeout:g} s (serve.timeout)") from None
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        except Exception as error:
            raise HTTPException(
                500, f"the prediction failed ({type(error).__name__}); the server's log says more"
            ) from None
        return JSONResponse(finite({"outputs": outputs}))

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether the server answers, and what its model is."""
        return {"status": "ok", "model": name, "heads": heads, "max_length": predictor.max_length}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> str:
        """Counters in the text format of Prometheus."""
        return counts.text(num_batches=batcher.num_batches, num_waiting=batcher.num_waiting)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    return app


def refusal_of_host(request: Request, config: ServeConfig) -> Response | None:
    """The answer to a request for another host, where only this machine is served; None: there is nothing to refuse.

    Without it, a web page could reach the server under a host name of its own (DNS rebinding).
    """
    host = request.headers.get("host", "")
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].lower()
    if config.host not in LOOPBACK or name in LOOPBACK:
        return None
    return JSONResponse({"error": f"the host {host} is not served; ask for {' or '.join(LOOPBACK)}"}, 400)


PREDICT_SCHEMA = PredictRequest.model_json_schema()


async def read_request(request: Request, config: ServeConfig) -> PredictRequest:
    """The checked body of a request.

    Raises:
        HTTPException: it is not JSON, too long, too slow, or has other fields.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON_TYPE:
        raise HTTPException(415, f"send JSON with the header `Content-Type: {JSON_TYPE}`")
    try:
        body = await asyncio.wait_for(_read_body(request, config.max_bytes), config.timeout)
    except TimeoutError:
        raise HTTPException(408, f"the request did not arrive within {config.timeout:g} s (serve.timeout)") from None
    form = 'send {"inputs": ["a text", …], "tasks": […]}; tasks may be left out'
    try:
        content = json.loads(body)
    except RecursionError:
        raise HTTPException(400, f"the request: lists or objects are nested too deeply; {form}") from None
    except ValueError as error:
        raise HTTPException(400, f"the request is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise HTTPException(422, f"the request: must be an object; {form}")
    try:
        return PredictRequest.model_validate(content)
    except ValidationError as error:
        problems = (f"{_path(one['loc'])}: {_lower(one['msg'])}" for one in error.errors())
        raise HTTPException(422, f"{'; '.join(problems)}; {form}") from None


async def _read_body(request: Request, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise HTTPException(413, f"the request has more than {max_bytes:,} bytes (serve.max_bytes); send several")
    return bytes(body)


def tasks_of(asked: PredictRequest, predictor: Predictor) -> tuple[str, ...]:
    """The tasks to predict for.

    Raises:
        HTTPException: the model lacks one.
    """
    for task in asked.tasks or ():
        if task not in predictor.tasks:
            raise HTTPException(422, f"tasks: {task} is none of the model's, which are {', '.join(predictor.tasks)}")
    return tuple(dict.fromkeys(asked.tasks)) if asked.tasks else predictor.tasks


def read_inputs(raw: Sequence[Any], tasks: tuple[str, ...], predictor: Predictor, config: ServeConfig) -> list[Input]:
    """The inputs of a request.

    Raises:
        HTTPException: there are too many, or one cannot be predicted for.
    """
    if len(raw) > config.max_inputs:
        raise HTTPException(
            413, f"inputs: {len(raw):,} in one request, and {config.max_inputs:,} are the most (serve.max_inputs)"
        )
    fitting = [input_type for input_type in KEYS if predictor.heads_for(input_type, tasks)]
    inputs = []
    for index, one in enumerate(raw):
        try:
            item = read_input(one, f"inputs[{index}]")
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        if item.input_type not in fitting and not lacks_text(item, fitting):
            raise HTTPException(
                422,
                f"inputs[{index}]: no head of {', '.join(tasks)} predicts for this type of input ({item.input_type}); "
                f"give one of: {', '.join(fitting)}",
            )
        inputs.append(item)
    return inputs


def _path(location: Sequence[int | str]) -> str:
    """`inputs[3]`, from ("inputs", 3)."""
    return "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in location)


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
