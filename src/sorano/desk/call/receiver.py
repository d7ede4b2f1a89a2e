"""A receiver who checks a call for themselves: from the pictures that came and the bundles that the desk signed.

The desk's own judgement is not asked. Bundles must be signed by one and the same certificate all through the call, and
their keys must hash to the commitment that each tile's first bundle named. What comes here was coded twice: by the
sender, and by the desk for this viewer.

Covered: whether the pictures that came carried the marks of keys that were secret then. Not covered: this machine's
clock, which must be right to a second; a desk that lies from the first bundle on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sorano.desk.audit import check_signature
from sorano.desk.call.judge import TileJudge
from sorano.desk.call.keys import BUNDLE, DisclosedKeys
from sorano.errors import TamperedError


@dataclass
class ReceivedTile:
    """What came of one tile: slots with the mark, without it, and those that say nothing."""

    keys: DisclosedKeys
    judge: TileJudge
    with_mark: int = 0
    without_mark: int = 0
    unknown: int = 0


@dataclass
class CallReceiver:
    """The receiver of one call."""

    call: str
    signer: str | None = None  # the SHA-256 of the certificate that signed the first bundle
    last: int = 0  # when the last bundle was made, in ms
    tiles: dict[str, ReceivedTile] = field(default_factory=dict)
    early: dict[str, list[tuple[NDArray[np.uint8], float]]] = field(default_factory=dict)

    def see(self, tile: str, luma_YX: NDArray[np.uint8], at: float) -> None:
        """A frame of a tile, and when it came; frames before the tile's first bundle wait for it."""
        known = self.tiles.get(tile)
        if known is not None:
            known.judge.add(luma_YX, at)
        elif len(waiting := self.early.setdefault(tile, [])) < 90:
            waiting.append((luma_YX, at))

    def take(self, bundle: str, now: float) -> None:
        """Take a bundle. Raises TamperedError where it is not the desk's, or a key is of another session."""
        words = json.loads(bundle)
        self.signer, _ = check_signature(words, "a bundle of keys", self.signer, None)
        if words.get("type") != BUNDLE or words.get("call") != self.call or words["at"] <= self.last:
            raise TamperedError("a bundle of keys is of another call or time", "leave the call")
        self.last = words["at"]
        for told in words["keys"]:
            self._disclose(told, now)

    def report(self) -> list[dict[str, Any]]:
        """What came, tile by tile."""
        return [
            {"tile": name, "person": one.keys.person, "with_mark": one.with_mark, "without_mark": one.without_mark,
             "unknown": one.unknown}
            for name, one in self.tiles.items()
        ]  # fmt: skip

    def _disclose(self, told: dict[str, Any], now: float) -> None:
        tile, commitment = str(told["tile"]), bytes.fromhex(told["commitment"])
        known = self.tiles.get(tile)
        if known is None:
            keys = DisclosedKeys(self.call, str(told["person"]), commitment)
            known = self.tiles[tile] = ReceivedTile(keys, TileJudge(told["began"] / 1000))
            for luma, at in self.early.pop(tile, []):
                known.judge.add(luma, at)
        if commitment != known.keys.commitment:
            raise TamperedError("a tile has another commitment than before", "leave the call")
        result = known.judge.disclose(known.keys.accept(told["slot"], bytes.fromhex(told["key"])), now)
        known.with_mark += result.says is True
        known.without_mark += result.says is False
        known.unknown += result.says is None
