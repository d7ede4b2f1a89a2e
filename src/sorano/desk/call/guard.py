"""The rooms of a desk: who is in a call, what each tile shows, and what the call is, for the policy.

A room has a random id that is its `call_id` in requests. Whoever joins it signs

    canonical {type: "sorano desk join 1", origin, call, person}

with an enrolled passkey (`sorano.desk.passkeys`, purpose "join call"), gets a chain of slot keys and marks what their
camera shows. A guest gives the room's guest code instead, proves nothing, and is only a picture. Every second the desk
signs a bundle with the keys that may be known, judges the tiles by them, and keeps what changed in the timeline.
The call's verdict: TAMPERED (some participant's pictures or sound lost their mark, once and for all),
VERIFIED (two or more, all confirmed, never a guest), UNVERIFIED (anything else).

Rooms live in memory, for a call is over when its process is. What remains are receipts, verdicts and timelines.

Not covered: what people say. Whatever a call shows, a risky request is confirmed outside it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from sorano.desk.call import speech
from sorano.desk.call.judge import TileJudge, TileState
from sorano.desk.call.keys import BUNDLE, MOST_SLOTS, KeyChain, disclosable, session_key
from sorano.desk.call.light import LightChallenge, LightResult
from sorano.desk.call.marks import STRENGTH, THUMB, next_strength, sent_tile
from sorano.desk.call.sound import SoundJudge, SoundState, slot_cells
from sorano.desk.call.words import call_words
from sorano.desk.ledger import TIMELINE, signed
from sorano.desk.passkeys import JOIN, note_use
from sorano.desk.service import Desk
from sorano.desk.tables import credentials
from sorano.extras import install
from sorano.files import canonical
from sorano.trust.provenance import keys as signing_keys
from sorano.web.keys import digest
from sorano.web.logs import log
from sorano.web.problems import Problem, not_found

MOST_ROOMS, MOST_TILES, MOST_EVENTS = 50, 12, 5000
MOST_DECLARED = 8  # slots at once
MOST_CHECKS, CHECK_SECONDS = 6, 60.0  # of spoken words, that a person may ask for in a call within that time
SLOTS_AHEAD = 4  # whose tiles a participant's page gets at once
EMPTY_SECONDS = 900.0  # that a room is kept without pictures
GONE_SECONDS = 120.0  # after which a tile without pictures is empty
NOTE_SECONDS = 30.0  # from a verdict of a call until it can be VERIFIED
BY_EAR = "listen to them yourself, or wait a minute"


@dataclass
class Tile:
    """One participant's place in a room."""

    id: str
    person: str | None  # of the directory; None: a guest
    name: str
    began: float
    chain: KeyChain | None = None
    device_key: str = ""  # the passkey's public key
    judge: TileJudge | None = None
    sound: SoundJudge | None = None
    heard: SoundState = SoundState.NONE
    strength: float = STRENGTH
    disclosed: int = -1
    frames: int = 0
    authentic_frames: int = 0  # encoded frames whose MAC was right
    forged_frames: int = 0  # that had a wrong one, or none after a right one; they are not decoded
    plain_frames: int = 0  # without one, from a sender that has none
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    last_frame: float = -1e12
    said: TileState | None = None
    face: tuple[float, float, float, float] | None = None  # left, top, right, bottom in 0..1
    challenge: LightChallenge | None = None
    answered: LightResult | None = None
    left: bool = False

    def state(self, now: float) -> TileState:
        """What is said of the tile."""
        if self.judge is None:
            return TileState.PICTURE_ONLY if now - self.last_frame < 5 else TileState.NO_PICTURE
        if self.sound is not None and self.sound.is_red:
            return TileState.NOT_CONFIRMED
        return self.judge.state(now)


@dataclass
class Room:
    """One call."""

    id: str
    host: str
    guest_code: str
    began: float
    tiles: dict[str, Tile] = field(default_factory=dict)
    timeline: list[dict[str, Any]] = field(default_factory=list)
    bundles: list[tuple[int, str]] = field(default_factory=list)  # when each was made, in ms; signed
    verdict: str = "UNVERIFIED"
    noted_at: float = -1e12
    was_tampered: bool = False
    had_guests: bool = False
    viewers: set[str] = field(default_factory=set, repr=False)  # tokens of those who only record
    checks: dict[str | None, list[float]] = field(default_factory=dict, repr=False)  # when whom had words checked
    turn: threading.RLock = field(default_factory=threading.RLock)

    def note(self, at: float, tile: Tile | None, event: str, **more: Any) -> None:
        """A line of the timeline: `at` in seconds since the room began."""
        if len(self.timeline) < MOST_EVENTS:
            told = {"tile": tile.id, "name": tile.name} if tile else {}
            self.timeline.append({"at": round(at - self.began, 2), **told, "event": event, **more})

    def present(self) -> list[Tile]:
        """Those who have not left."""
        return [one for one in self.tiles.values() if not one.left]


class CallGuard:
    """The calls of one desk. Thread-safe: media comes from threads of its own."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.rooms: dict[str, Room] = {}
        self._turn = threading.Lock()

    def now(self) -> float:
        """Seconds since 1970."""
        return self.desk.ledger.clock.read().wall

    # Who is there.

    def open(self, host: str) -> Room:
        """A new room of a person. Raises `Problem` where there are too many."""
        self._purge()
        now = self.now()
        with self._turn:
            if len(self.rooms) >= MOST_ROOMS:
                raise Problem("queue_full", f"{MOST_ROOMS} calls are going on", "end one, or wait", retry_after=60)
            room = Room(f"call_{secrets.token_hex(12)}", host, secrets.token_urlsafe(12), now)
            self.rooms[room.id] = room
        return room

    def room(self, name: str) -> Room:
        """A room by its id. Raises `Problem`."""
        found = self.rooms.get(name)
        if found is None:
            raise not_found("call", name)
        return found

    def begin_join(self, name: str, person: str) -> dict[str, Any]:
        """A passkey ceremony for a room. Raises `Problem`."""
        room = self.room(name)
        return self.desk.passkeys.begin(
            self.now(), JOIN, self._statement(room.id, person), person=person, subject=room.id
        )

    def join(self, name: str, person: sa.RowMapping, ceremony: Any, credential: Any) -> Tile:
        """A tile with a session key, for an assertion of the person's passkey. Raises `Problem`."""
        room, desk = self.room(name), self.desk
        burnt = desk.passkeys.burn(self.now(), ceremony, JOIN, person=person["id"], subject=room.id)
        proof = desk.passkeys.verify(burnt, credential)
        with desk.ledger.change() as change:
            note_use(change.connection, proof)
            query = sa.select(credentials.c.public_key).where(credentials.c.id == proof.credential)
            device_key = str(change.connection.execute(query).scalar_one())
            chain = KeyChain.of(
                session_key(change.secret("calls"), room.id, proof.person, proof.receipt()), room.id, proof.person
            )
            told = {"call": digest(room.id), "commitment": chain.commitment.hex(), **proof.receipt()}
            change.receipt("joined", proof.person, digest=self._statement(room.id, proof.person).hex(), **told)
        tile = Tile(f"tile_{secrets.token_hex(6)}", proof.person, str(person["name"]), self.now(), chain, device_key)
        tile.judge, tile.sound = TileJudge(tile.began), SoundJudge(tile.began)
        for older in [one for one in room.present() if one.person == tile.person]:  # a page that was loaded again
            self.leave(room.id, older.id)
        return self._add(room, tile)

    def join_guest(self, name: str, code: Any, called: Any) -> Tile:
        """A tile for somebody who proves nothing. Raises `Problem` where the code is not the room's."""
        room = self.rooms.get(name)
        if (
            room is None
            or not isinstance(code, str)
            or not secrets.compare_digest(code.encode(), room.guest_code.encode())
        ):
            raise Problem("wrong_code", "this is not the call's guest code", "ask the host for it", param="code")
        label = called.strip()[:40] if isinstance(called, str) and called.strip() else "?"
        return self._add(room, Tile(f"tile_{secrets.token_hex(6)}", None, label, self.now()))

    def leave(self, name: str, tile_id: str) -> None:
        """A tile is empty."""
        room = self.room(name)
        with room.turn:
            tile = self.tile(room, tile_id)
            if not tile.left:
                tile.left = True
                tile.chain = tile.judge = tile.sound = tile.challenge = None  # the timeline needs none of it
                room.note(self.now(), tile, "left")

    def add_viewer(self, name: str) -> str:
        """A token for a program that looks on, to record. Raises `Problem`."""
        room = self.room(name)
        with room.turn:
            if len(room.viewers) >= MOST_TILES:
                raise Problem("queue_full", f"a call has {MOST_TILES} recorders", "end one", retry_after=60)
            token = secrets.token_urlsafe(24)
            room.viewers.add(token)
            room.note(self.now(), None, "a recorder looks on")
        return token

    def caller(self, name: str, token: str | None) -> Tile | None:
        """Whose token it is; None: a recorder's. Raises `Problem` for a token of nobody here."""
        room, given = self.rooms.get(name), (token or "").encode()
        for tile in room.present() if room is not None else ():
            if secrets.compare_digest(given, tile.token.encode()):
                return tile
        if room is not None and any(secrets.compare_digest(given, one.encode()) for one in room.viewers):
            return None
        raise Problem("not_signed_in", "this is no token of this call", "join it again")

    @staticmethod
    def tile(room: Room, tile_id: str) -> Tile:
        """A tile of a room. Raises `Problem`."""
        found = room.tiles.get(tile_id)
        if found is None:
            raise not_found("tile", tile_id)
        return found

    def _add(self, room: Room, tile: Tile) -> Tile:
        with room.turn:
            if len(room.present()) >= MOST_TILES:
                raise Problem("queue_full", f"a call has {MOST_TILES} tiles", "ask somebody to leave", retry_after=60)
            room.tiles[tile.id] = tile
            room.had_guests = room.had_guests or tile.chain is None
            room.note(tile.began, tile, "joined" if tile.chain else "joined as a guest")
        return tile

    def _statement(self, room: str, person: str) -> bytes:
        words = {"type": "sorano desk join 1", "origin": self.desk.settings.origin, "call": room, "person": person}
        return hashlib.sha256(canonical(words)).digest()

    def _purge(self) -> None:
        """Forget the rooms that were empty for long."""
        now = self.now()
        with self._turn:
            for room in list(self.rooms.values()):
                if now - max([room.began, *(one.last_frame for one in list(room.tiles.values()))]) > EMPTY_SECONDS:
                    del self.rooms[room.id]

    # Pictures and sound.

    def check_frame(self, tile: Tile, is_authentic: bool | None) -> bool:
        """Count an encoded frame (None: it has no MAC); whether it may be decoded."""
        if is_authentic:
            tile.authentic_frames += 1
            return True
        if is_authentic is None and not tile.authentic_frames:
            tile.plain_frames += 1
            return True
        tile.forged_frames += 1
        return False

    @staticmethod
    def face(tile: Tile, box: tuple[float, float, float, float] | None) -> None:
        """Where the face of a tile is now."""
        tile.face = box
        if (judge := tile.judge) is not None:
            judge.face = box

    def see(self, name: str, tile_id: str, luma_YX: NDArray[np.uint8], colour: NDArray[np.float32] | None) -> None:
        """A received frame: its luma, and the mean R, G, B of its middle where a challenge may need them."""
        room = self.room(name)
        tile = self.tile(room, tile_id)
        now = self.now()
        with room.turn:
            if tile.left:
                return
            tile.frames += 1
            tile.last_frame = now
            if tile.judge is not None:
                tile.judge.add(luma_YX, now)
            if tile.challenge is not None and colour is not None:
                tile.challenge.add(now, colour)

    def hear(self, name: str, tile_id: str, mono_N: NDArray[np.float32], place: float) -> None:
        """Received sound, mono at 48 kHz, and its place on the sender's clock in seconds."""
        room = self.room(name)
        tile = self.tile(room, tile_id)
        with room.turn:
            if tile.sound is not None:
                tile.sound.add(mono_N, place, self.now())

    def tick(self) -> None:
        """Disclose what may be known, judge it, keep what changed, and forget rooms that are over.

        To be called a few times a second.
        """
        self._purge()
        for room in list(self.rooms.values()):
            try:
                self._answer(room)
                with room.turn:
                    self._tick(room, self.now())
            except Exception as error:  # a frozen ledger says so each time; other rooms are judged all the same
                log("call not noted", level="error", error=type(error).__name__, code=getattr(error, "code", None))

    def _tick(self, room: Room, now: float) -> None:
        told = []
        for tile in room.present():
            if now - max(tile.last_frame, tile.began) > GONE_SECONDS:
                self.leave(room.id, tile.id)
                continue
            if tile.chain is not None and tile.judge is not None:
                last = disclosable(tile.began, now)
                for slot in range(tile.disclosed + 1, last + 1):
                    if tile.sound is not None:
                        tile.sound.disclose(tile.chain[slot])
                    result = tile.judge.disclose(tile.chain[slot], now)
                    if result.says is not None:
                        tile.strength = next_strength(tile.strength, result.score)
                if last > tile.disclosed:
                    tile.disclosed = last
                    told.append(_disclosure(tile, tile.chain, last))
            state = tile.state(now)
            if state is not tile.said:
                result_of = tile.judge.results[-1] if tile.judge and tile.judge.results else None
                box = result_of.missing if result_of is not None else None
                room.note(now, tile, str(state), **({"part": [round(one, 2) for one in box]} if box else {}))
                tile.said = state
            if tile.sound is not None and tile.sound.state is not tile.heard:
                tile.heard = tile.sound.state
                if tile.heard is not SoundState.WAITING:  # silence is no news
                    room.note(now, tile, f"sound {tile.heard}")
        try:
            if told:
                words = {"type": BUNDLE, "call": room.id, "at": int(now * 1000), "keys": told}
                room.bundles = [*room.bundles[-119:], (int(now * 1000), signed(words, signing_keys.identity()))]
        finally:  # signing keys that cannot be read hide no verdict
            self._conclude(room, now)

    def _answer(self, room: Room) -> None:
        """Conclude the challenges that are over. Their decoys take a while, in which the room goes on."""
        over = []
        with room.turn:
            for tile in room.present():
                if tile.challenge is not None and tile.challenge.is_over(self.now()):
                    over.append((tile, tile.challenge))
                    tile.challenge = None
        for tile, challenge in over:
            result = challenge.result()
            with room.turn:
                tile.answered = result
                room.note(self.now(), tile, "light", passed=result.passed, score=round(result.score, 1))

    def _conclude(self, room: Room, now: float) -> None:
        states = [one.state(now) for one in room.present()]
        proven = [one for one in room.present() if one.chain is not None]
        room.was_tampered = room.was_tampered or TileState.NOT_CONFIRMED in states
        is_verified = len(proven) > 1 and not room.had_guests
        is_verified = is_verified and all(one.state(now) is TileState.CONFIRMED for one in proven)
        verdict = "TAMPERED" if room.was_tampered else "VERIFIED" if is_verified else "UNVERIFIED"
        is_due = verdict != "VERIFIED" or now - room.noted_at >= NOTE_SECONDS  # only what speaks for a call waits
        if verdict != room.verdict and is_due:
            self.desk.confirm.note_call(room.id, verdict)  # first: where it fails, the next tick tries again
            room.verdict, room.noted_at = verdict, now
            room.note(now, None, f"the call is {verdict}")

    # What is told.

    def slots(self, name: str, tile_id: str) -> dict[str, Any]:
        """What a participant's own client marks with: the tiles of this slot and the next ones. Raises `Problem`."""
        room = self.room(name)
        tile = self.tile(room, tile_id)
        chain = tile.chain  # who leaves meanwhile has none any more
        if chain is None:
            raise Problem("not_enrolled", "a guest has no mark", "join with your passkey")
        now = self.now()
        first = max(0, int(now - tile.began))
        if first + SLOTS_AHEAD > MOST_SLOTS:
            raise Problem("wrong_state", "a session ends after four hours", "join the call again")
        made = [
            {
                "slot": slot,
                "tile": base64.b64encode(sent_tile(chain[slot])).decode(),
                "cells": base64.b64encode(slot_cells(chain[slot])).decode(),
            }
            for slot in range(first, first + SLOTS_AHEAD)
        ]
        return {"object": "slots", "seconds": now - tile.began, "strength": tile.strength, "slots": made}

    def declare(self, name: str, tile_id: str, given: Any) -> None:
        """Take what a tile's own client says its pictures were: {slot: 144 bytes in base64}. Raises `Problem`."""
        room = self.room(name)
        tile = self.tile(room, tile_id)
        judge = tile.judge
        if not isinstance(given, dict) or len(given) > MOST_DECLARED or judge is None:
            raise Problem(
                "invalid_type", "slots maps numbers to thumbs", f"send at most {MOST_DECLARED}", param="slots"
            )
        with room.turn:
            for slot, text in given.items():
                try:
                    thumb = np.frombuffer(base64.b64decode(str(text), validate=True), np.uint8).reshape(THUMB[::-1])
                    judge.declare(int(slot), thumb.astype(np.float32))
                except ValueError as error:
                    raise Problem("invalid_value", "a thumb has 9 x 16 bytes", "see the docs", param="slots") from error

    def challenge(self, name: str, tile_id: str) -> LightChallenge:
        """Begin a challenge by coded light for a tile. Raises `Problem`."""
        room = self.room(name)
        with room.turn:
            tile = self.tile(room, tile_id)
            if tile.challenge is not None and not tile.challenge.is_over(self.now()):
                raise Problem("wrong_state", "a challenge is going on", "wait for it to end")
            tile.challenge = LightChallenge.draw(self.now())
            room.note(self.now(), tile, "light is asked for")
            return tile.challenge

    def check_words(self, name: str, asking: Tile, tile_id: str) -> dict[str, Any]:
        """Return whether a tile just said the code that it shares with the asking tile.

        A person has `MOST_CHECKS` checks within `CHECK_SECONDS` in a call, whatever their tile: each takes processor
        time and a line of the timeline, which is bounded too. Raises `Problem`.
        """
        room = self.room(name)
        with room.turn:
            tile = self.tile(room, tile_id)
            if tile is asking or not asking.device_key or not tile.device_key or tile.sound is None:
                raise Problem("wrong_state", "two participants with passkeys share words", "ask for another tile")
            wanted = call_words(room.id, asking.device_key, tile.device_key)["en"]
            if not speech.is_available():
                raise Problem("unsupported", "words are checked by ear here", install("speech"))
            now = self.now()
            recent = [at for at in room.checks.get(asking.person, ()) if now - CHECK_SECONDS < at <= now]
            if len(recent) >= MOST_CHECKS:
                wait = recent[0] + CHECK_SECONDS - now
                raise Problem("too_many_attempts", "words were checked often just now", BY_EAR, retry_after=wait)
            room.checks[asking.person] = [*recent, now]
            sound = tile.sound.recent()
        heard = speech.heard_code(sound)
        with room.turn:
            room.note(self.now(), tile, "words", agree=heard == wanted)
        return {"object": "words", "tile": tile.id, "heard": heard, "agree": heard == wanted}

    def shown(self, name: str, viewer: str | None = None) -> dict[str, Any]:
        """A room as its participants see it; `viewer` is the tile that asks."""
        room = self.room(name)
        now = self.now()
        with room.turn:
            mine = room.tiles.get(viewer or "")
            tiles = [self._tile_shown(room, one, mine, now) for one in room.present()]
            return {
                "object": "call",
                "id": room.id,
                "verdict": room.verdict,
                "seconds": round(now - room.began, 2),
                "hears_words": speech.is_available(),
                "recorders": len(room.viewers),  # that are, or were, looking on
                "tiles": tiles,
                "timeline": room.timeline[-50:],
            }

    def _tile_shown(self, room: Room, tile: Tile, mine: Tile | None, now: float) -> dict[str, Any]:
        told: dict[str, Any] = {"id": tile.id, "name": tile.name, "state": str(tile.state(now))}
        if tile.judge is not None:
            last = tile.judge.results[-1] if tile.judge.results else None
            told["score"] = round(last.score, 1) if last else None
            told["part"] = last.missing if last else None
            told["face"] = tile.face
            told["sound"] = str(tile.heard)
            told["map"] = _map_shown(tile.judge.map_YX)
        told["frames"] = {
            "authentic": tile.authentic_frames,
            "forged": tile.forged_frames,
            "plain": tile.plain_frames,
        }
        if mine is not None and mine is not tile and mine.device_key and tile.device_key:
            told["words"] = call_words(room.id, mine.device_key, tile.device_key)
        if tile.answered is not None:
            told["light"] = {
                "passed": tile.answered.passed,
                "score": round(tile.answered.score, 1),
                "delay": tile.answered.delay,
            }
        if mine is tile and tile.challenge is not None:
            told["challenge"] = tile.challenge.shown(now)
        return told

    def timeline(self, name: str) -> str:
        """The timeline of a room as signed canonical JSON, for a recording and a case file. Raises `Problem`."""
        room = self.room(name)
        with room.turn:
            events = json.loads(json.dumps(room.timeline))
            words = {"type": TIMELINE, "call": room.id, "verdict": room.verdict, "events": events}
        return signed({**words, "began_at": int(room.began * 1000)}, signing_keys.identity())


def _disclosure(tile: Tile, chain: KeyChain, slot: int) -> dict[str, Any]:
    return {
        "tile": tile.id,
        "person": tile.person,
        "commitment": chain.commitment.hex(),
        "began": int(tile.began * 1000),
        "slot": slot,
        "key": chain[slot].key.hex(),
    }


def _map_shown(map_YX: Any) -> list[list[float]] | None:
    return None if map_YX is None else np.round(np.clip(map_YX, 0, 2), 1).tolist()
