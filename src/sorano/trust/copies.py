"""Copies: files that carry a mark, whose manifest a store holds, and what may be said of them.

A copy is never the signed file. It is MATCHED where a trusted signer's fingerprint answers for all that is shown and
heard (`matching`), and the file holds nothing else that a player may show. `CANNOT_SEE` says what that leaves open.

Not covered: files whose mark is lost, which lead to no manifest; what a manifest without a fingerprint was about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sorano.errors import TrustError, VideoError
from sorano.trust import credentials, presentation, store

if TYPE_CHECKING:
    from sorano.trust.fingerprint import Fingerprint
    from sorano.trust.marks import SeenMark
    from sorano.trust.matching import Change, Match
    from sorano.trust.media import Media

CANNOT_SEE = (
    "that details are as they were: what covers less than 1 % of the picture or is there for less than a second, "
    "cuts of less than 0.1 s and single words may have been changed unseen"
)
ASK = "ask for the signed file: only its bytes can be VERIFIED"
KINDS = {"captured": ("captured",), "made": ("made", "edited")}
MOST_NAMED = 4  # changes that a summary names
MOST_BRIEF, BRIEF_SECONDS = 2, 0.002  # frames below what any screen shows: a few come from rounded time stamps
MOST_STORED = 16  # manifests of one id that are shown
RANK = {"same": 0, "changed": 1, "other": 2}  # of what a comparison found


@dataclass(frozen=True)
class Evidence:
    """One thing that was looked at: what was found, what that proves, what it does not, what to do next."""

    about: str  # credential, mark, manifest store, tamper map, label, indicators
    found: str
    proves: str
    does_not_prove: str
    next_step: str = ""


@dataclass(frozen=True)
class Stored:
    """A manifest that the mark's id found, and how what is shown compares with its fingerprint (None: it has none)."""

    credential: credentials.Credential
    match: Match | None
    old: bool = False  # a fingerprint of version 1, which compares too little


def find(
    mark: SeenMark,
    folders: Sequence[Path],
    anchors: str,
    seen: Fingerprint,
    notes: list[str],
    hint: tuple[float, bool] | None = None,
) -> list[Stored]:
    """The manifests of a mark's id, compared with what a file shows: those that match and are trusted first.

    `hint`: the mark's size, and whether it is mirrored. `notes` gets what the stores have to say.
    """
    from sorano.trust import fingerprint, matching, roots

    found: list[Stored] = []
    searched = store.search(mark.id, folders, roots.Trust.from_pem(anchors))
    notes.extend(searched.notes)
    for manifest in searched.manifests:
        credential = credentials.read_store(manifest, anchors)
        if credential is None or credential.mark_id != mark.id:
            continue
        match, old = None, False
        if credential.fingerprint is not None:
            old = fingerprint.version_of(credential.fingerprint) == fingerprint.OLD_VERSION
            try:
                match = matching.match(fingerprint.from_bytes(credential.fingerprint), seen, hint)
            except TrustError:
                match = None
        found.append(Stored(credential, match, old))
    found.sort(key=lambda one: (RANK[one.match.state] if one.match else 3, one.credential.state != "trusted"))
    return found[:MOST_STORED]


def beside(media: Media, opaque: bool, complete: bool, brief: int = 0) -> tuple[str, ...]:
    """What a file may show beside the frames that were compared, or what of it was not seen: then it is no copy.

    `brief`: frames that are shown for less than a screen's refresh.
    """
    said = list(presentation.differs(media.path))
    if brief > MOST_BRIEF:
        said.append(f"{brief} of its frames are shown for less than {BRIEF_SECONDS * 1000:g} ms, and screens hold them")
    if media.num_video_tracks > 1:
        said.append(f"it has {media.num_video_tracks} video tracks, and players may choose another")
    if media.num_text_tracks:
        said.append(f"it has {media.num_text_tracks} text track{'s'[: media.num_text_tracks > 1]} (subtitles)")
    if media.num_pictures > 1 and not media.is_animated:
        said.append(f"it holds {media.num_pictures} pictures or pages, of which one was compared")
    if not opaque:
        said.append("parts of it are transparent: what is seen depends on what lies behind it")
    if not complete:
        said.append("not all of it could be looked at")
    return tuple(said)


def opaque(media: Media) -> bool:
    """Whether a file looks the same before black and before white."""
    if not media.has_alpha:
        return True
    if not media.is_image:
        return False
    from sorano.media import pictures

    try:
        return bool(pictures.read_alpha(media.path)[1].min() == 255)
    except VideoError:
        return False


def vouches(one: Stored, mark: SeenMark | None) -> bool:
    """Whether a manifest from the store is of this mark, and by somebody who is trusted here."""
    found = one.credential
    if mark is None or found.state != "trusted" or found.kind not in KINDS.get(mark.kind, ()):
        return False
    return found.commitment == mark.commitment and found.carrier_id == mark.carrier_id


def likeliest(stored: Sequence[Stored], mark: SeenMark | None) -> Stored | None:
    """The manifest that vouches for a file and says most about it."""
    some = [one for one in stored if vouches(one, mark) and one.match is not None]
    return min(some, key=lambda one: RANK[one.match.state] if one.match else 3, default=None)


def answers(one: Stored | None) -> bool:
    """Whether a manifest's fingerprint says something about what is shown."""
    return one is not None and one.match is not None and one.match.state != "other"


def verdict(one: Stored, beside: Sequence[str], who: str) -> tuple[str, str] | None:
    """The verdict's name and the sentence that a vouching manifest leads to; None where it is of another picture."""
    match = one.match
    if match is None or match.state == "other":
        return None
    kind = one.credential.kind
    says = f"who says: {credentials.KIND_WORDS[kind]}" if kind else "who does not say how it was made"
    changed = [change for change in match.changes if not change.harmless]
    if changed:
        return "TAMPERED", f"it is what {who} signed, changed: {_named(changed)}"
    open_points = [change.words for change in match.changes] + list(beside)
    if open_points:
        return "UNVERIFIED", f"its pictures match what {who} signed, but {'; '.join(open_points[:MOST_NAMED])}"
    part = ""
    if match.part is not None:
        part = f", from {match.part[0]:.1f} to {match.part[1]:.1f} s of {match.part[2]:.1f}"
    return "MATCHED", f"it is a copy of what {who} signed{part}, as far as this can be seen; {says}"


def _named(changes: Sequence[Change]) -> str:
    more = len(changes) - MOST_NAMED
    words = "; ".join(change.words for change in changes[:MOST_NAMED])
    return words + (f"; and {more} more" if more > 0 else "")


def evidence(one: Stored, mark: SeenMark | None) -> Evidence:
    """What the store says about a file."""
    who = one.credential.signer or "an unnamed signer"
    leads = f"the mark's id leads to a manifest by {who}"
    if one.old:
        return Evidence(
            "manifest store",
            f"{leads}, whose fingerprint is of version 1, which compares one small picture in a second or less",
            "the mark is that of something that they signed",
            "that this is a copy of it",
            "ask for the signed file, or ask them to sign it again with this version",
        )
    if one.match is None or one.match.state == "other":
        why = "has no fingerprint" if one.match is None else one.match.why or f"answers for {one.match.share:.0%} of it"
        return Evidence(
            "manifest store",
            f"{leads}, whose picture is another ({why})",
            "the mark was copied onto this picture, or the picture was changed beyond what can be compared",
            "who made this picture",
            "ask for the original file",
        )
    if one.credential.state != "trusted":
        return Evidence(
            "manifest store",
            f"{leads}, who is not trusted here or whose certificate has ended",
            "the picture looks like the one that was signed",
            "who signed it",
            "if you know them, ask for their root in person and run: sorano trust add root.pem",
        )
    if not vouches(one, mark):
        return Evidence(
            "manifest store",
            f"{leads} that names another carrier or another kind",
            "nothing: the mark is not the one that was signed",
            "that the picture is theirs",
        )
    if one.match.changes:
        return Evidence(
            "manifest store",
            f"{leads}, trusted here: {_named(one.match.changes)}",
            "it was made from what they signed, and differs there",
            "who changed it, or why: editing and subtitles do this too",
            "ask for the signed file",
        )
    return Evidence(
        "manifest store",
        f"{leads}, trusted here, and all that is shown and heard matches its fingerprint{_shown(one.match)}",
        "it is a copy of what they signed, coded again, cut at its ends or cropped",
        CANNOT_SEE,
        ASK,
    )


def _shown(match: Match) -> str:
    """Which part of the original a copy shows, of its time and of its picture."""
    said = []
    if match.part is not None:
        said.append(f"{match.part[0]:.2f} to {match.part[1]:.2f} s of {match.part[2]:.2f}")
    if not match.crop.whole:
        said.append(f"{match.crop.width:.0%} of its width and {match.crop.height:.0%} of its height")
    if match.crop.flipped:
        said.append("mirrored")
    return f" ({', '.join(said)})" if said else ""
