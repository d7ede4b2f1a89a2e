"""The marks in the sound of calls, through real Opus: whose sound is confirmed, whose is not, and who says nothing."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support import calling, voices
from support.calling import BEGAN

from sorano.desk.call import sound
from sorano.desk.call.keys import KeyChain
from sorano.desk.call.media import open_frame, seal_frame
from sorano.desk.call.sound import RATE, SoundJudge, SoundMarker, SoundState, received_cells, slot_cells

CHAIN = KeyChain.of(b"k" * 32, "call-1", "per_ann")
OTHER = KeyChain.of(b"o" * 32, "call-1", "per_ann")
SECONDS = 14


@pytest.fixture(scope="module")
def speech():
    return calling.speaking(3, SECONDS, noise_db=-60)


@pytest.fixture(scope="module")
def sent(speech):
    return calling.marked_sound(speech, CHAIN)


def states(told):
    return {state for _, state, _ in told}


def test_the_page_marks_as_its_twin_here_does(tmp_path):
    """The worklet's code under Node, on noise, from within a slot over one whose cells did not come."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node")
    samples, offset, known = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE), 7.3, (7, 8, 10)
    sent = [{"slot": slot, "cells": base64.b64encode(slot_cells(CHAIN[slot])).decode()} for slot in known]
    (tmp_path / "given.json").write_text(json.dumps({"samples": samples.tolist(), "offset": offset, "slots": sent}))
    page = Path(sound.__file__).parents[1] / "page" / "call-sound.js"
    (tmp_path / "call-sound.mjs").write_bytes(page.read_bytes())
    (tmp_path / "run.mjs").write_text("""
        import fs from 'node:fs';
        import { SoundMarker } from './call-sound.mjs';
        const { samples, offset, slots } = JSON.parse(fs.readFileSync('given.json'));
        const marker = new SoundMarker();
        marker.hear({ offset, slots: slots.map((one) => ({ ...one, cells: Buffer.from(one.cells, 'base64') })) });
        const made = new Float64Array(samples.length);
        for (let at = 0; at < samples.length; at += 128) {
            marker.take(samples.slice(at, at + 128), made.subarray(at, at + 128), at);
        }
        console.log(JSON.stringify([...made]));
    """)
    done = subprocess.run([node, "run.mjs"], cwd=tmp_path, check=True, capture_output=True)
    theirs = np.array(json.loads(done.stdout))
    marker = SoundMarker(lambda slot: received_cells(slot_cells(CHAIN[slot])) if slot in known else None, offset)
    ours = np.concatenate([marker(samples[:, None]), marker.finish()])[:, 0]
    late = 2 * sound.HOP
    assert np.abs(ours - samples).max() > 0.01
    assert np.abs(theirs[late:] - ours[: len(theirs) - late]).max() < 1e-12


def test_a_pattern_follows_from_its_slots_key_alone():
    cells = [slot_cells(one) for one in (CHAIN[0], CHAIN[1], OTHER[0])]
    assert len(set(cells)) == 3 and cells[0] == slot_cells(CHAIN[0])
    assert abs(received_cells(cells[0]).mean()) < 0.05
    steps = [sound.slot_of(step) for step in range(20_000)]
    assert all(steps[sound.first_step(slot)] == slot != steps[sound.first_step(slot) - 1] for slot in range(1, 300))


def test_a_mark_is_as_quiet_as_that_of_files(speech, sent):
    error = 10 * np.log10(np.square(speech).sum() / np.square(sent - speech).sum())
    assert error > 14  # 1.5 dB in the bands of speech


def test_marked_speech_is_confirmed_by_its_own_keys_and_no_others(sent):
    told, _ = calling.listen(sent, CHAIN)
    assert told[-1][1] is SoundState.CONFIRMED and SoundState.NOT_CONFIRMED not in states(told)
    assert min(score for *_, score in told if score is not None) > 6
    told, _ = calling.listen(sent, OTHER)
    assert told[-1][1] is SoundState.NOT_CONFIRMED and SoundState.CONFIRMED not in states(told)


def test_sound_that_is_replaced_turns_red_and_good_sound_ends_it():
    sent = calling.marked_sound(calling.speaking(3, 34, noise_db=-60), CHAIN)
    sent[8 * RATE : 18 * RATE] = voices.speech(9, 10)
    told, _ = calling.listen(sent, CHAIN)
    red = [t for t, state, _ in told if state is SoundState.NOT_CONFIRMED]
    assert 8 < red[0] < 20 and told[-1][1] is SoundState.CONFIRMED
    assert {state for t, state, _ in told if t < red[0]} >= {SoundState.WAITING, SoundState.CONFIRMED}


@pytest.mark.parametrize("kind", ["silence", "noise", "pauses"])
def test_where_nobody_speaks_nothing_is_said(kind, speech):
    random = np.random.default_rng(1)
    quiet = {"silence": 0.0, "noise": 0.02, "pauses": 0.0002}[kind] * random.standard_normal(SECONDS * RATE)
    told, judge = calling.listen(quiet.astype(np.float32), CHAIN)  # without a mark
    assert states(told) <= {SoundState.NONE, SoundState.WAITING} and not judge.is_red


def test_a_confirmation_ends_when_nothing_is_heard_for_long(sent):
    silent = np.concatenate([sent, np.zeros(16 * RATE, np.float32)])
    told, judge = calling.listen(silent, CHAIN)
    assert SoundState.CONFIRMED in states(told)
    assert judge.state is SoundState.WAITING and not judge.is_red


def test_a_page_whose_cells_did_not_come_is_muted_and_not_red(speech):
    marker = SoundMarker(lambda slot: received_cells(slot_cells(CHAIN[slot])) if slot % 4 else None)
    sent = np.concatenate([marker(speech[:, None]), marker.finish()])[:, 0].astype(np.float32)
    told, _ = calling.listen(sent, CHAIN)
    assert SoundState.NOT_CONFIRMED not in states(told)


def test_sound_that_comes_unevenly_turns_nothing_red(speech):
    judge, size = SoundJudge(BEGAN), RATE // 50
    for number, start in enumerate(range(0, len(speech), size)):  # without a mark
        t = start / RATE
        judge.add(speech[start : start + size], 1000 + t, BEGAN + t + (0.5 if number % 10 == 0 else 0.3))
        if number % 50 == 49 and t > 3:
            judge.disclose(CHAIN[int(t) - 2])
    assert judge.score is not None and judge.state is SoundState.WAITING
    judge.add(speech[:size], 0.0, BEGAN + SECONDS)  # a sender that began anew: what came before is forgotten
    assert len(judge._pieces) == 1


def test_a_frame_of_pictures_is_none_of_sound():
    key = b"k" * 32
    assert open_frame(key, seal_frame(key, 1, b"opus", "audio"), 0, "audio") == (b"opus", 1)
    assert open_frame(key, seal_frame(key, 1, b"vp8"), 0, "audio") is None
