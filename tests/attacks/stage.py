"""The people and the genuine material that every attack starts from.

Alice is Studio A: she records and signs. House B is another signer who is trusted. Mallory forges: nobody trusts her
root, which she called "Studio A" too. Bob verifies: he trusts Studio A and House B, and has Studio A's manifests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from support import footage

from attacks.tools import C2PA_UUID, FPS, Authority, encode, frames_of, parse, remux, root, sound_of, voice
from sorano.trust import observe, record
from sorano.trust.provenance import keys, roots

HEIGHT, WIDTH, COUNT = 270, 480, 72  # three seconds
SECONDS = COUNT / FPS


class Stage:
    """Everything genuine, made once and when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.house = root("House B")
        self.mallory = root("Studio A")
        with self.at("alice"):
            keys.init("Studio A")
            (folder / "studio.pem").write_text(keys.export())
        (folder / "house.pem").write_text(keys.to_pem(self.house.cert))
        with self.at("bob"):
            roots.add(folder / "studio.pem")
            roots.add(folder / "house.pem")

    @contextmanager
    def at(self, who: str) -> Iterator[Path]:
        """Someone's own machine: their keys, trust and store."""
        place = self.folder / who
        wanted = {"SORANO_CONFIG": str(place / "config"), "SORANO_STORE": str(place / "store")}
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield place
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    @property
    def store(self) -> Path:
        """Studio A's manifests."""
        return self.folder / "alice" / "store"

    def ask(self, path: Path, stores: tuple[Path, ...] | None = None) -> dict[str, Any]:
        """What Bob's machine says of a file, as JSON; the error of a file that cannot be looked at is raised."""
        places = [str(one) for one in ((self.store,) if stores is None else stores)]
        with self.at("bob"):
            found, _ = observe.examine_here(path=str(path), trust=None, stores=places, bundle=None, with_map=False)
        return found["report"]

    # Videos.

    @cached_property
    def plain(self) -> np.ndarray:
        """What the camera saw: somebody speaks, [T, H, W, 3]."""
        return footage.clip("speaker", HEIGHT, WIDTH, COUNT, 1)

    @cached_property
    def said(self) -> np.ndarray:
        """What they said."""
        return voice(SECONDS, 1)

    @cached_property
    def recording(self) -> Path:
        """The recording before it was signed."""
        return encode(self.folder / "recording.mp4", self.plain, sound=self.said, options={"movflags": "faststart"})

    @cached_property
    def signed(self) -> Path:
        """The recording as Studio A signed it."""
        with self.at("alice"):
            return record.mark_file(self.recording, self.folder / "signed.mp4").path

    @cached_property
    def shown(self) -> np.ndarray:
        """The frames of the signed recording: all that a forger has."""
        return frames_of(self.signed)

    @cached_property
    def heard(self) -> np.ndarray:
        """The sound of the signed recording."""
        return sound_of(self.signed)[: len(self.said)]

    @cached_property
    def copy(self) -> Path:
        """The signed recording's streams without the credential."""
        return remux(self.signed, self.folder / "copy.mp4")

    @cached_property
    def foreign(self) -> np.ndarray:
        """What was never signed: a street, as long as the recording."""
        return footage.clip("street", HEIGHT, WIDTH, COUNT, 2)

    @cached_property
    def lie(self) -> np.ndarray:
        """The same room and face at another time: what a forger films or makes to resemble the recording."""
        return footage.clip("speaker", HEIGHT, WIDTH, 2 * COUNT, 1)[COUNT:]

    @cached_property
    def lies(self) -> np.ndarray:
        """What a forger says instead."""
        return voice(SECONDS, 99)

    @cached_property
    def other(self) -> Path:
        """Another recording that Studio A signed."""
        source = encode(
            self.folder / "other.mp4", footage.clip("landscape", HEIGHT, WIDTH, COUNT, 3), sound=voice(SECONDS, 3)
        )
        with self.at("alice"):
            return record.mark_file(source, self.folder / "other.signed.mp4").path

    @cached_property
    def moving(self) -> Path:
        """A recording in which everything moves, signed by Studio A; for attacks on time."""
        source = encode(
            self.folder / "moving.mp4", footage.clip("leaves", HEIGHT, WIDTH, COUNT, 4), sound=voice(SECONDS, 4)
        )
        with self.at("alice"):
            return record.mark_file(source, self.folder / "moving.signed.mp4").path

    @cached_property
    def made(self) -> Path:
        """A clip that Studio A signed as made by AI."""
        source = encode(
            self.folder / "made.mp4", footage.clip("world", HEIGHT, WIDTH, COUNT, 5), sound=voice(SECONDS, 5)
        )
        with self.at("alice"):
            return record.mark_file(source, self.folder / "made.signed.mp4", record.Marking(kind="made")).path

    def id_of(self, signed: Path) -> int:
        """The mark's id in a signed file."""
        from sorano.trust.provenance import credentials

        with self.at("alice"):
            found = credentials.read(signed, roots.anchors())
        if found is None or found.mark_id is None:
            raise ValueError(f"{signed} names no mark")
        return int(found.mark_id)

    def signed_by(self, path: Path, signer: Authority, **words: Any) -> Path:
        """A file that somebody signs in place with a certificate of their choice."""
        from sorano.trust.provenance import credentials

        credentials.sign(path, credentials.Statement(words.pop("kind", "captured"), **words), signer.identity())
        return path

    # Pictures.

    @cached_property
    def photo(self) -> Path:
        """A photograph as PNG, signed by Studio A."""
        source = self.folder / "photo.plain.png"
        Image.fromarray(self.plain[0]).save(source)
        with self.at("alice"):
            return record.mark_file(source, self.folder / "photo.png").path

    @cached_property
    def jpeg(self) -> Path:
        """A photograph as JPEG, signed by Studio A."""
        source = self.folder / "photo.plain.jpg"
        Image.fromarray(self.plain[0]).save(source, quality=95)
        with self.at("alice"):
            return record.mark_file(source, self.folder / "photo.jpg").path

    @cached_property
    def picture(self) -> np.ndarray:
        """The pixels of the signed photograph, [H, W, 3]."""
        with Image.open(self.photo) as opened:
            return np.asarray(opened.convert("RGB"))

    @cached_property
    def false_picture(self) -> np.ndarray:
        """A picture that was never signed."""
        return self.foreign[0]


def c2pa_box(path: Path) -> bytes:
    """The credential's box of a signed MP4, as it lies there."""
    return next(bytes(box) for box in parse(path.read_bytes()).inside if box.body.startswith(C2PA_UUID))


__all__ = ["COUNT", "HEIGHT", "SECONDS", "WIDTH", "Stage", "c2pa_box"]
