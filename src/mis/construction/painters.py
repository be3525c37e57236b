"""Painters of step 3: diffusers in this process, or an OpenAI-compatible images endpoint.

Both keep each picture as a file that is named by the request that it answers (painter, prompt, seed), so that a killed
run draws only what is missing, and draw nothing twice.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from mis.construction.asking import EMPTY, FAILED, MALFORMED, REFUSED, filled, prompt_version
from mis.construction.participants import NoAnswer, PaintRequest
from mis.construction.records import ConstructionError, Picture
from mis.progress import track
from mis.sources.common import write_atomically

if TYPE_CHECKING:
    from mis.settings import Diffusers, Endpoint, ImagesEndpoint, Served

PICTURE = "picture"  # the prompt's file
PICTURES = "pictures"  # the folder
REFUSALS = {"content_policy_violation", "moderation_blocked", "content_filter"}


class _Painter:
    """What both share: the first prompt, and pictures kept by request under `<folder>/pictures/`."""

    def __init__(self, folder: Path, identity: str):
        self._folder = folder
        self._identity = identity
        self.version = f"{identity} {prompt_version(PICTURE)}"

    def prompt(self, object: str) -> str:
        return filled(PICTURE, (), {"object": object})

    def paint(self, requests: Sequence[PaintRequest]) -> list[Picture | NoAnswer]:
        files = [self._file(request) for request in requests]
        waiting = {file: r for file, r in zip(files, requests, strict=True) if not (self._folder / file).exists()}
        faults: dict[str, NoAnswer] = {}
        with track(len(waiting), "construct: pictures") as advance:
            if waiting:
                faults = self._draw(waiting, advance)
        return [faults.get(file) or self._picture(r, file) for file, r in zip(files, requests, strict=True)]

    def _draw(self, waiting: dict[str, PaintRequest], advance: Callable[[int], None]) -> dict[str, NoAnswer]:
        """Draws each request into its file; returns why some could not be drawn."""
        raise NotImplementedError

    def _file(self, request: PaintRequest) -> str:
        key = f"{self._identity}\0{request.prompt}\0{request.seed}"
        name = hashlib.sha256(key.encode()).hexdigest()[:24]
        return f"{PICTURES}/{name[:2]}/{name}.png"

    def _keep(self, file: str, image: Image.Image) -> None:
        content = io.BytesIO()
        image.convert("RGB").save(content, format="PNG")
        write_atomically(self._folder / file, content.getvalue())

    def _picture(self, request: PaintRequest, file: str) -> Picture:
        digest = hashlib.sha256((self._folder / file).read_bytes()).hexdigest()
        return Picture(prompt=request.prompt, seed=request.seed, content={"file": file, "sha256": digest})


class DiffusersPainter(_Painter):
    """A text-to-image pipeline of diffusers: batches, a generator with its own seed for each picture.

    The pipeline is loaded at the first picture. Weights are read from safetensors only.
    """

    def __init__(self, settings: Diffusers, folder: Path):
        self._settings = settings
        self._pipeline = None
        s = settings
        super().__init__(
            folder,
            f"{s.pipeline}@{s.revision or 'unpinned'} {s.steps} steps guidance {s.guidance:g} {s.size} px "
            f"{s.precision}",
        )

    def _draw(self, waiting: dict[str, PaintRequest], advance: Callable[[int], None]) -> dict[str, NoAnswer]:
        import torch

        pipeline = self._load()
        todo, size = list(waiting.items()), self._settings.batch_size
        for start in range(0, len(todo), size):
            batch = todo[start : start + size]
            # On the CPU: the same noise on every machine. torch takes seeds of 63 bits.
            generators = [torch.Generator("cpu").manual_seed(request.seed) for _, request in batch]
            drawn = pipeline(
                prompt=[request.prompt for _, request in batch],
                generator=generators,
                num_inference_steps=self._settings.steps,
                guidance_scale=self._settings.guidance,
                height=self._settings.size,
                width=self._settings.size,
            ).images
            for (file, _), image in zip(batch, drawn, strict=True):
                self._keep(file, image)
            advance(len(batch))
        return {}

    def _load(self):
        if self._pipeline is None:
            import torch

            try:
                from diffusers import DiffusionPipeline
                from diffusers.utils import logging
            except ImportError:
                raise ConstructionError(
                    "diffusers is not installed here; the painter runs in the environment workflow/envs/painting.yaml"
                ) from None
            logging.set_verbosity_error()  # it would put the end of a long prompt into the log
            s = self._settings
            where = {"local_files_only": True} if s.local_files_only else {}
            pipeline = DiffusionPipeline.from_pretrained(
                s.pipeline,
                revision=s.revision,
                dtype={"float32": torch.float32, "bf16": torch.bfloat16}[s.precision],
                use_safetensors=True,
                **where,
            )
            pipeline.set_progress_bar_config(disable=True)
            if s.offload:
                pipeline.enable_model_cpu_offload()
            elif torch.cuda.is_available():
                pipeline.to("cuda")
            self._pipeline = pipeline
        return self._pipeline


class EndpointPainter(_Painter):
    """Pictures from `<endpoint>/images/generations`, many at once.

    A refusal is a :class:`NoAnswer`. Raises :class:`ConstructionError` at the end where requests failed for good and
    failures are not allowed; what was drawn is kept.
    """

    def __init__(
        self, settings: ImagesEndpoint, served: Served, endpoint: Endpoint, folder: Path, allow_failures: bool = False
    ):
        self._settings, self._served, self._endpoint = settings, served, endpoint
        self._allow_failures = allow_failures
        super().__init__(folder, f"{served.name}@{served.revision or 'unpinned'} {settings.size}")

    def _draw(self, waiting: dict[str, PaintRequest], advance: Callable[[int], None]) -> dict[str, NoAnswer]:
        faults = asyncio.run(self._draw_all(waiting, advance))
        failed = sum(fault.reason == FAILED for fault in faults.values())
        if failed and not self._allow_failures:
            raise ConstructionError(
                f"{failed} of {len(waiting)} pictures failed for good ({self._identity}); those that were drawn are "
                "kept: mend the endpoint and run the same command again, or give --allow-failures to drop and count "
                "these samples"
            )
        return faults

    async def _draw_all(self, waiting: dict[str, PaintRequest], advance: Callable[[int], None]) -> dict[str, NoAnswer]:
        from mis.models.limits import Pace
        from mis.models.remote import official_client

        # Tries again by itself: after a pause that grows, or that the server asks for.
        client = official_client(self._endpoint).with_options(max_retries=self._endpoint.attempts - 1)
        rate = self._endpoint.requests_per_minute
        pace = Pace(rate) if rate else None
        slots = asyncio.Semaphore(self._endpoint.concurrency)
        faults: dict[str, NoAnswer] = {}

        async def one(file: str, request: PaintRequest) -> None:
            async with slots:
                if pace:
                    await asyncio.sleep(pace.take(1))
                fault = await self._one(client, file, request)
            if fault:
                faults[file] = fault
            advance(1)

        try:
            await asyncio.gather(*(one(file, request) for file, request in waiting.items()))
        finally:
            await client.close()
        return {file: faults[file] for file in waiting if file in faults}

    async def _one(self, client, file: str, request: PaintRequest) -> NoAnswer | None:
        """Draws one picture into its file, or says why there is none."""
        import openai

        seed = {"extra_body": {"seed": request.seed}} if self._settings.send_seed else {}
        try:
            answer = await client.images.generate(
                model=self._served.name,
                prompt=request.prompt,
                n=1,
                size=self._settings.size,
                response_format="b64_json",
                **seed,
            )
        except openai.APIStatusError as error:
            return NoAnswer(REFUSED if error.status_code == 400 and error.code in REFUSALS else FAILED)
        except openai.APIError:  # no connection, a time-out, an answer that is none
            return NoAnswer(FAILED)
        try:
            content = answer.data[0].b64_json
            if not content:
                return NoAnswer(EMPTY)
            with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as image:
                self._keep(file, image)
        except (binascii.Error, OSError, AttributeError, IndexError, TypeError):
            return NoAnswer(MALFORMED)
        return None
