"""From a parsed body to a job: the model, the files, the shape and the cost, then the queue.

Every verb of the API ends in `Orders.submit`: what a user asks for is one `Request`, whatever the address it came to.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sorano.errors import SoranoError
from sorano.presets import DEFAULT_PRESET, PRESETS, find_preset
from sorano.request import MAX_SEED, drawn_seed
from sorano.serve import schema, views
from sorano.serve.assets import in_child
from sorano.serve.checks import describe, merge_prompt
from sorano.serve.config import Settings
from sorano.serve.database import workers
from sorano.serve.keys import Caller
from sorano.serve.policy import Policy
from sorano.serve.posts import COMPLETED, NewJob, Row
from sorano.serve.schema import Order, Reference, files_of, map_files
from sorano.serve.worker import Service
from sorano.web.logs import log
from sorano.web.problems import Problem, problem_of

VIDEO_FIELDS = ("video", "first", "second")
MODELS_SECONDS = 30.0  # that the list of models on this machine is good for
MACHINE_SECONDS = 2.0
MOST_KNOWN = 1000
DESCRIBED_AT_ONCE = 2
USABLE = ("embedded", "pulled", "cached")  # states of models that can be loaded


@dataclass(frozen=True)
class Sent:
    """How a POST came: for repetitions."""

    idempotency_key: str | None = None
    is_retry: bool = False
    route: str = ""


@dataclass(frozen=True)
class Prepared:
    """A request with its files kept and its shape known."""

    words: dict[str, Any]
    model: str
    described: dict[str, Any]


class Orders:
    """Makes jobs of bodies. Raises `Problem`."""

    def __init__(self, service: Service, policy: Policy) -> None:
        self.service, self.settings, self.policy = service, service.settings, policy
        self._looking = threading.Lock()
        self._turns = threading.BoundedSemaphore(DESCRIBED_AT_ONCE)
        self._known: dict[str, dict[str, Any]] = {}  # what requests without files become, whatever their seed
        self._models: tuple[float, dict[str, str]] = (0.0, {})
        self._machine: tuple[float, dict[str, Any] | None, int] = (0.0, None, 1)

    # The verbs.

    def create(self, body: Mapping[str, Any], caller: Caller, sent: Sent) -> list[Row]:
        """A video of a prompt, of pictures, of shots."""
        return self.submit(self._created(body), caller, sent)

    def edit(self, body: Mapping[str, Any], caller: Caller, sent: Sent) -> list[Row]:
        """A video made again by another prompt, all of it or a region."""
        parsed = schema.parse(body, schema.EDIT, ("prompt", "video"))
        given = parsed.values
        region: dict[str, Any] = {name: given[name] for name in ("mask", "start", "end") if name in given}
        region |= {"box": given["region"]} if "region" in given else {}
        condition: dict[str, Any] = {"kind": "region" if region else "edit", "video": given["video"], **region}
        if "strength" in given:
            condition["strength"] = given["strength"]
        return self.submit(parsed.order(schema.EDIT, conditions=[condition]), caller, sent)

    def extend(self, body: Mapping[str, Any], caller: Caller, sent: Sent) -> list[Row]:
        """What comes after a video, or before it; its own frames are in the new one."""
        parsed = schema.parse(body, schema.EXTEND, ("video",))
        given = parsed.values
        condition = {"kind": "continue", "video": given["video"], "direction": given.get("direction", "forward")}
        return self.submit(parsed.order(schema.EXTEND, conditions=[condition]), caller, sent)

    def remix(self, job_id: str, body: Mapping[str, Any], caller: Caller, sent: Sent) -> list[Row]:
        """A finished video made again from its own request, with changes."""
        source = self.service.jobs.get(job_id, caller.sees)
        if source["status"] != COMPLETED:
            raise Problem("not_ready", f"{job_id} is {source['status']}", "wait until it is completed")
        parsed = schema.parse(body, schema.REMIX, ("prompt",))
        order = self._changed(source, parsed)
        return self.submit(order, caller, sent, remixed_from=job_id)

    def change(self, job_id: str, body: Mapping[str, Any], caller: Caller) -> Row:
        """Another request in the place of a queued job's."""
        row = self.service.jobs.get(job_id, caller.sees)
        parsed = schema.parse(body, schema.CHANGE)
        order = self._changed(row, parsed)
        _require_priority(order, caller)
        prepared = self._prepared(order, caller)
        planned = _fitting(prepared)
        values: dict[str, Any] = {
            "words": prepared.words,
            "shown": prepared.described["shown"],
            "model": prepared.model,
            "preset": prepared.words["preset"],
            "video_seconds": prepared.described["video_seconds"],
            "planned_seconds": None if planned is None else planned["seconds"],
        }
        if "priority" in parsed.values:
            values["priority"] = order.priority
        if "paused" in parsed.values:
            values["is_paused"] = order.is_paused
        return self.service.jobs.change(job_id, caller.sees, by=caller.owner, limits=caller.limits, **values)

    def plan(self, body: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """What a video would be and cost; nothing is made."""
        order = self._created(body)
        prepared = self._prepared(order, caller)
        planned, number = prepared.described["planned"], max(1, self._worker()[1])
        if planned is not None:
            total = planned["seconds"] * order.count
            planned = {**planned, "total_seconds": total, "cost": cost_of(total, self.settings)}
        before, seconds = self.service.jobs.order.before_new(caller.owner, order.priority)
        return {
            "object": "plan",
            "model": prepared.model,
            "preset": views.preset_name(prepared.words["preset"]),
            "n": order.count,
            **prepared.described["shown"],
            "planned": planned,
            "queue": {"jobs": before, "seconds": round(seconds / number, 1), "workers": number},
        }

    # What they share.

    def submit(self, order: Order, caller: Caller, sent: Sent, *, remixed_from: str | None = None) -> list[Row]:
        """The jobs of an order, in the queue. The ones of before where the POST is a repetition."""
        body_hash = self._hash(order, sent.route, remixed_from)
        if order.count > self.settings.most_variations:
            said, hint = f"n is at most {self.settings.most_variations} here", "send the rest in a second request"
            raise Problem("invalid_value", said, hint, param="n")
        _require_priority(order, caller)
        prepared = self._prepared(order, caller)
        described, planned = prepared.described, _fitting(prepared)
        first = prepared.words["seed"]
        new = [
            NewJob(
                model=prepared.model,
                preset=prepared.words["preset"],
                words={**prepared.words, "seed": first + number},
                shown={**described["shown"], "seed": first + number},
                video_seconds=described["video_seconds"],
                planned_seconds=None if planned is None else planned["seconds"],
                remixed_from=remixed_from,
                priority=order.priority,
                is_paused=order.is_paused,
                deadline_seconds=order.deadline_seconds,
            )
            for number in range(order.count)
        ]
        return self.service.jobs.submit(
            new,
            owner=caller.owner,
            limits=caller.limits,
            body_hash=body_hash,
            idempotency_key=sent.idempotency_key,
            is_retry=sent.is_retry,
        )

    def preset_of(self, model: str | None) -> tuple[str, str, list[str]]:
        """The model's name as the object says it, the preset that makes it, and a note where these differ."""
        known = self.models()
        default = next(iter(known), DEFAULT_PRESET)
        if model is None or not model.strip():
            return default, known.get(default, default), []
        if model in known:
            return model, known[model], []
        if model in PRESETS:
            raise Problem("model_unavailable", f"{model} is not on this server", f"sorano pull {model}", param="model")
        if not model.isprintable() or len(model) > 200:
            raise Problem(
                "invalid_value", "model is a name of at most 200 characters", "/v1/models lists them", param="model"
            )
        return model, known.get(default, default), [f"there is no model {model} here: made with {default}"]

    def models(self) -> dict[str, str]:
        """Every model that can be used here, by name, with the preset that `Request` names; the default comes first."""
        with self._looking:
            at, known = self._models
            if time.monotonic() - at >= MODELS_SECONDS or not known:
                known = self._look_for_models()
                self._models = time.monotonic(), known
            return known

    def warm(self) -> None:
        """Imports and reads what the first request would have to wait for."""
        words = {"prompt": "", "preset": self.preset_of(None)[1], "seed": 0, "shots": [{"prompt": "a"}]}
        with suppress(Problem, SoranoError):
            self._described(words)

    def _look_for_models(self) -> dict[str, str]:
        from sorano import hub

        own: dict[str, str] = {}
        for path in self.settings.models:
            try:
                own[find_preset(path).name] = str(Path(path).expanduser().absolute())
            except SoranoError as error:  # the folder was removed: the others are still there
                log("model left out", level="warning", error=error.message)
        pulled = {one.name: one.name for one in hub.list_models() if one.state in USABLE}
        known = {**own, **pulled}
        default = self.settings.default_model
        if default is not None and default in known:
            known = {default: known[default], **known}
        return known

    def num_workers(self) -> int:
        """Workers that were seen lately."""
        return self._worker()[1]

    def shown(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Jobs as video objects, with their places in the queue and the seconds that are left."""
        ahead, count = self.service.jobs.order.before(rows), self.num_workers()
        return [views.video(row, ahead, count) for row in rows]

    def _created(self, body: Mapping[str, Any]) -> Order:
        parsed = schema.parse(body, schema.CREATE, () if body.get("storyboard") else ("prompt",))
        return parsed.order(schema.CREATE)

    def _changed(self, row: Row, parsed: schema.Parsed) -> Order:
        """A job's own request with what a body says in its place."""
        order = parsed.order(schema.CREATE)
        words = {**row["words"]}
        for one, other in (("seconds", "num_frames"), ("num_frames", "seconds")):
            if one in order.words:
                words.pop(other, None)
        change = order.words.pop("prompt", None)
        if change is not None:
            try:
                words["prompt"] = merge_prompt(words, change)
            except SoranoError as error:
                raise problem_of(error, "prompt") from error
        return replace(order, words={**words, **order.words}, model=order.model or row["model"])

    def _prepared(self, order: Order, caller: Caller) -> Prepared:
        model, preset, notes = self.preset_of(order.model)
        words = {**order.words, "preset": preset}
        if words.get("size") is not None:
            words.setdefault("upscale", "fit")
        self.policy.check_words(words)
        words = map_files(words, lambda one: self._kept(one, caller))
        if words.get("seed") is None:
            words["seed"] = drawn_seed()
        most = MAX_SEED - (order.count - 1)  # variations take the seeds after it
        if not 0 <= words["seed"] <= most:
            raise Problem("invalid_value", f"seed is a whole number from 0 to {most}", "choose another", param="seed")
        described = self._described(words)
        if described["video_seconds"] > self.settings.most_video_seconds:
            raise Problem(
                "invalid_value",
                f"that is {described['video_seconds']:g} s of video",
                f"the most here is {self.settings.most_video_seconds:g} s",
                param="seconds",
            )
        described["shown"] |= {"notes": [*notes, *described["shown"]["notes"]], "made_from": made_from(words)}
        return Prepared(words, model, described)

    def _kept(self, one: Any, caller: Caller) -> str:
        """The reference of a file; one that a job had already stays."""
        if not isinstance(one, Reference):
            self.service.assets.path_of(str(one))
            return str(one)
        wants = "video" if one.param.rpartition(".")[2] in VIDEO_FIELDS else "picture"
        return self.service.assets.refer(one, caller.sees, wants=wants, keep_for=caller.owner)

    def _described(self, words: dict[str, Any]) -> dict[str, Any]:
        machine = self._worker()[0]
        if files_of(words):
            found = self.service.assets.located(words)
            try:
                described: dict[str, Any] = in_child(
                    "sorano.serve.checks:describe", {"words": found, "machine": machine}, self._turns
                )
            except Problem as problem:  # of a file: by its place in the store, not on the machine
                problem.message = self.service.store.without_root(problem.message)
                raise
            return described
        key = json.dumps([{**words, "seed": None}, machine], sort_keys=True)
        known = self._known.get(key)
        if known is None:
            try:
                known = describe(words, machine)
            except SoranoError as error:
                raise problem_of(error, _param_of(error.message)) from error
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = known
        return {**known, "shown": {**known["shown"], "seed": words["seed"]}}

    def _worker(self) -> tuple[dict[str, Any] | None, int]:
        """The device of a worker that was seen lately, which plans are for, and how many workers there are."""
        at, machine, count = self._machine
        if time.monotonic() - at < MACHINE_SECONDS:
            return machine, count
        with self.service.database.read() as connection:
            query = sa.select(workers.c.machine, workers.c.state).order_by(workers.c.seen_at.desc())
            found = list(connection.execute(query))
        known = [one for one, _ in found if one is not None]
        self._machine = time.monotonic(), known[0] if known else None, max(1, len(found))
        return self._machine[1], self._machine[2]

    def _hash(self, order: Order, route: str, remixed_from: str | None) -> str:
        """A digest of what is asked for: equal for the same body, however it was sent."""
        digest = self.service.assets.digest
        words = map_files(order.words, lambda one: digest(one) if isinstance(one, Reference) else one)
        rest = [route, remixed_from, order.model, order.count, order.priority, order.is_paused, order.deadline_seconds]
        return hashlib.sha256(json.dumps([words, rest], sort_keys=True, default=str).encode()).hexdigest()


def cost_of(device_seconds: float, settings: Settings) -> dict[str, Any] | None:
    """What so many seconds of a worker's device cost, in the operator's currency; None where no price is known."""
    if settings.usd_hour is None:
        return None
    per_usd, code = (1.0, "USD") if settings.currency is None else (settings.currency.per_usd, settings.currency.code)
    device_hour = settings.usd_hour * per_usd
    return {
        "amount": device_seconds / 3600 * device_hour,
        "currency": code,
        "device_hour": device_hour,
        "note": None if settings.currency is None else settings.currency.words,
    }


def _require_priority(order: Order, caller: Caller) -> None:
    """Raises `Problem` for a key that would go before the others: their fair shares come after priority."""
    if order.priority > 0 and "admin" not in caller.scopes:
        raise Problem(
            "insufficient_scope",
            "a priority above 0 goes before every other key",
            "leave it out, or use a key with the scope admin",
            param="priority",
        )


def _fitting(prepared: Prepared) -> dict[str, Any] | None:
    """What a request is planned to take; None where no worker was seen. Raises `Problem` where it does not fit."""
    planned: dict[str, Any] | None = prepared.described["planned"]
    if planned is not None and not planned["fits"]:
        raise Problem("does_not_fit", planned["problem"], planned["hint"])
    return planned


def made_from(words: Mapping[str, Any]) -> list[str]:
    """The videos of this server that a request names, in order."""
    named = (str(one).partition(":") for one in files_of(words))
    return list(dict.fromkeys(place.partition("/")[0] for kind, _, place in named if kind == "video"))


def _param_of(message: str) -> str | None:
    """The parameter that an error is about: the one that its first words name."""
    first = message.partition(" ")[0].rstrip(":")
    if first == "the" and message.startswith("the prompt"):
        return "prompt"
    return first if first in schema.CREATE else None
