"""``/v1``: OpenAI's Images API, and the list of models."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from t2i.logs import get_logger
from t2i.sampling import RequestError
from t2i.serve.generation.calls import Calls
from t2i.serve.http.answers import ImagesAnswer, events_of, whole_answer
from t2i.serve.http.backend import Asked, Backend
from t2i.serve.http.description import ANSWERS, EDIT_BODY, FAILURES, ModelList, ServedModel
from t2i.serve.http.errors import error_body, invalid
from t2i.serve.http.event_stream import EventStream
from t2i.serve.http.fields import (
    EditFields,
    GenerationFields,
    ImageFields,
    check_size,
    check_together,
    file_format,
    file_quality,
    size_of,
    to_message,
)
from t2i.serve.http.image_store import KEPT_S, Addresses, StoredImage
from t2i.serve.http.masks import kept_rows
from t2i.serve.http.presence import while_present
from t2i.serve.http.shape import ImageShape

logger = get_logger("serve.http")


class ImagesApi:
    """Answers the routes of ``/v1``."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._addresses = Addresses(backend.limits.url_key)
        self._masks = asyncio.Lock()  # one file at a time is decoded: it may hold 16 megapixels

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter(prefix="/v1")
        router.add_api_route("/images/generations", self.generations, methods=["POST"], **ANSWERS)
        router.add_api_route("/images/edits", self.edits, methods=["POST"], openapi_extra=EDIT_BODY, **ANSWERS)
        images: dict[int | str, dict[str, Any]] = {
            200: {"content": {f"image/{kind}": {} for kind in ("png", "jpeg", "webp")}}
        }
        router.add_api_route(
            "/images/{name}", self.image, methods=["GET"], response_class=Response, responses={**FAILURES, **images}
        )
        router.add_api_route("/models", self.models, methods=["GET"], response_model=ModelList, responses=FAILURES)
        return router

    async def generations(self, request: Request, fields: GenerationFields) -> Response:
        """Draw images for a prompt."""
        return await self._answer(request, self._backend.asked(request), fields, {}, "image_generation")

    async def edits(self, request: Request) -> Response:
        """Draw the bottom of an image anew: the part that the mask, or the image itself, has transparent."""
        asked = self._backend.asked(request)
        async with request.form(max_files=4, max_fields=64) as form:
            files = await _files(form)
            texts = _texts(form)
        try:
            fields = EditFields.model_validate(texts)
        except ValidationError as error:
            return invalid(error.errors()[0])
        if "image" not in files:
            raise RequestError("image", "image is missing: send a file whose bottom rows are to be drawn anew.")
        return await self._answer(request, asked, fields, files, "image_edit")

    async def models(self, request: Request) -> ModelList:
        """List the models, the default first, each with the size of its images, and then their aliases."""
        catalog = self._backend.models.catalog
        async with self._backend.working(self._backend.asked(request)) as calls:
            shapes = await asyncio.gather(*(self._backend.shape(name, calls) for name in catalog.apps))
        by_model, limit = dict(zip(catalog.apps, shapes, strict=True)), self._backend.limits.max_candidates
        served = []
        for name in catalog.names:
            root = catalog.resolve(name)
            shape = by_model[root]
            entry = ServedModel(id=name, root=root, size=size_of(shape), rows=shape.rows, max_candidates=limit)
            served.append(entry)
        return ModelList(data=served)

    async def image(
        self,
        request: Request,
        name: str,
        expires: Annotated[int, Query(ge=0, lt=1 << 53)],
        signature: Annotated[str, Query()],
    ) -> Response:
        """Return an image of an answer with addresses."""
        try:
            self._addresses.check(name, expires, signature)
        except PermissionError:
            sentence = "signature is not that of this address: use the url of the answer as it is."
            return JSONResponse(error_body(sentence, "invalid_request_error", "signature", "invalid_signature"), 403)
        calls = self._backend.limits.calls(request)
        async with calls.bounded():
            image: StoredImage | None = await calls.call(self._backend.images.get, name)
        if image is None:
            sentence = (
                "the image is gone: its hour is over, or newer ones took its place; the same seed draws it again."
            )
            return JSONResponse(error_body(sentence, "invalid_request_error", None, "image_expired"), 404)
        headers = {"cache-control": f"private, max-age={KEPT_S}", "x-content-type-options": "nosniff"}
        return Response(image.data, media_type=f"image/{image.file_format}", headers=headers)

    async def _answer(
        self, request: Request, asked: Asked, fields: ImageFields, files: Mapping[str, bytes], kind: str
    ) -> Response:
        check_together(fields)
        if fields.user:
            named = {"request_id": asked.calls.id}
            logger.info("request %s is of user %r", asked.calls.id, fields.user, extra=named)
        drawing = _Drawing(self._backend, self._masks, fields, files, asked)
        if fields.stream:
            return EventStream(drawing.events(kind), asked.calls.id)
        address = self._keeper(request, file_format(fields), asked.calls) if fields.response_format == "url" else None
        answer = await while_present(request.receive, drawing.whole(address))
        return JSONResponse(answer.model_dump(exclude_none=True))

    def _keeper(self, request: Request, kind: str, calls: Calls) -> Callable[[bytes], Awaitable[str]]:
        """Return what keeps an image of a request and returns its address."""

        async def keep(data: bytes) -> str:
            name, expires = secrets.token_urlsafe(16), int(time.time()) + KEPT_S
            await calls.call(self._backend.images.put, name, StoredImage(data, kind, expires))
            return f"{request.base_url}{self._addresses.path(name, expires)}"

        return keep


class _Drawing:
    """One request for images."""

    def __init__(
        self, backend: Backend, masks: asyncio.Lock, fields: ImageFields, files: Mapping[str, bytes], asked: Asked
    ) -> None:
        self._backend, self._masks, self._fields, self._files, self._asked = backend, masks, fields, files, asked

    async def whole(self, address: Callable[[bytes], Awaitable[str]] | None) -> ImagesAnswer:
        """Return all in one answer."""
        async with self._backend.working(self._asked) as calls:
            shape = await self._shape(calls)
            async with aclosing(await self._draw(shape, calls)) as events:
                return await whole_answer(events, self._described(shape), address, calls)

    async def events(self, kind: str) -> AsyncGenerator[bytes]:
        """Yield the events of the answer."""
        async with self._backend.working(self._asked) as calls:
            shape = await self._shape(calls)
            async with aclosing(await self._draw(shape, calls)) as events:
                described, created = self._described(shape), int(time.time())
                async for data in events_of(events, described, kind, shape.rows, created, calls):
                    yield data

    async def _shape(self, calls: Calls) -> ImageShape:
        shape = await self._backend.shape(self._fields.model or "", calls)
        check_size(self._fields.size, shape)
        return shape

    async def _draw(self, shape: ImageShape, calls: Calls) -> AsyncGenerator[Any]:
        message = to_message(self._fields, shape)
        if self._files:
            image, mask = self._files["image"], self._files.get("mask")
            async with self._masks:
                message.image_rows = await asyncio.to_thread(kept_rows, image, mask, shape.rows)
            message.image = image
        return self._backend.draw(message, calls, file_quality(self._fields))

    def _described(self, shape: ImageShape) -> dict[str, str]:
        return {
            "size": size_of(shape),
            "quality": self._fields.quality or "auto",
            "background": "opaque",
            "output_format": file_format(self._fields),
        }


def _texts(form: FormData) -> dict[str, str]:
    """Return the fields of a form that are no files."""
    texts: dict[str, str] = {}
    for name, value in form.multi_items():
        if name in texts:
            raise RequestError(name, f"{name} comes more than once: send it once.")
        if isinstance(value, str):
            texts[name] = value
    return texts


async def _files(form: FormData) -> dict[str, bytes]:
    """Return the files of a form: ``image``, under either of its names, and ``mask``."""
    files: dict[str, bytes] = {}
    for field, value in form.multi_items():
        if not isinstance(value, UploadFile):
            continue
        name = field.removesuffix("[]")
        if name not in ("image", "mask"):
            raise RequestError(field, f"{field} is not a file that is known here: leave it out.")
        if name in files:
            raise RequestError(name, f"{name} comes more than once: send one.")
        files[name] = await value.read()
    return files
