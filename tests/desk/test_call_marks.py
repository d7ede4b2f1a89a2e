"""The marks of a call through real VP8 at 500 kb/s: who is confirmed, who is not, and what a forger lacks."""

import hashlib

import numpy as np
import pytest
from support import calling
from support.calling import BEGAN, FPS, Vp8, attend, caller

from sorano.desk.call import keys, marks
from sorano.desk.call.judge import LEAST_SCORE, MOST_MISMATCH, TileJudge, TileState
from sorano.errors import TamperedError
from sorano.trust.watermark.detect import Payload
from sorano.trust.watermark.payload import CODE

PROOF = {"client_data": "a", "authenticator_data": "b", "signature": "c"}


def chain_of(person="per_ann", call="call-1", proof=PROOF, secret=b"s" * 32):
    return keys.KeyChain.of(keys.session_key(secret, call, person, proof), call, person)


CHAIN = chain_of()


def red_from(told):
    return next((t for t, state in told if state is TileState.NOT_CONFIRMED), None)


# Keys.


def test_a_session_key_follows_from_the_desk_the_call_the_person_and_the_assertion():
    others = [chain_of("per_bob"), chain_of(call="call-2"), chain_of(proof={**PROOF, "signature": "d"}),
              chain_of(secret=b"t" * 32)]  # fmt: skip
    assert chain_of().keys == CHAIN.keys
    assert len({one.commitment for one in [CHAIN, *others]}) == 5
    assert len({one.frame_key for one in [CHAIN, *others]}) == 5


def test_a_disclosed_key_is_checked_against_the_join_and_lost_bundles_do_no_harm():
    held = keys.DisclosedKeys("call-1", "per_ann", CHAIN.commitment)
    assert held.accept(0, CHAIN[0].key) == CHAIN[0]
    assert held.accept(7, CHAIN[7].key) == CHAIN[7]  # six bundles were lost
    for slot, key in (
        (8, CHAIN[9].key),
        (8, b"\0" * 32),
        (7, CHAIN[7].key),
        (3, CHAIN[3].key),
        (8, b""),
        (1 << 30, CHAIN[8].key),
    ):
        with pytest.raises(TamperedError):
            held.accept(slot, key)
    assert held.accept(8, CHAIN[8].key) == CHAIN[8]


def test_earlier_keys_follow_from_later_ones_and_not_the_other_way_round():
    assert hashlib.sha256(keys.STEP + CHAIN[8].key).digest() == CHAIN[7].key
    assert len({CHAIN[slot].key for slot in range(keys.MOST_SLOTS)}) == keys.MOST_SLOTS
    with pytest.raises(IndexError):
        CHAIN[keys.MOST_SLOTS]


def test_a_key_is_a_secret_until_its_slot_is_over_and_a_second_more():
    assert keys.disclosable(BEGAN, BEGAN + 1.99) == -1
    assert keys.disclosable(BEGAN, BEGAN + 2.0) == 0
    assert keys.disclosable(BEGAN, BEGAN + 2.99) == 0
    assert keys.disclosable(BEGAN, BEGAN - 50) == -1
    assert keys.disclosable(BEGAN, BEGAN + 1e9) == keys.MOST_SLOTS - 1


def test_a_mark_says_its_slot_and_a_mac_and_is_read_by_the_reader_of_files():
    """The payload is that of any mark, so that a recording can be read with the disclosed key."""
    key = CHAIN[5]
    assert key.mark_id >> keys.MAC_BITS == 5
    assert key.mark_id != chain_of("per_bob")[5].mark_id
    tile = marks.slot_tile(key)
    soft = marks.carrier(key.pattern_key).soft_bits(tile[None])
    assert Payload.from_bits(CODE.decode(soft)[0]) == Payload(1, "captured", key.mark_id)


# Pictures.


def test_an_honest_caller_is_confirmed_second_by_second():
    told, judge = attend(caller(1), CHAIN, 6, coder=(coder := Vp8()))
    assert 400 < coder.kbps < 600
    assert [state for _, state in told] == [TileState.CONFIRMED] * len(told) and len(told) == 5
    assert min(one.score for one in judge.results) > 2 * LEAST_SCORE
    assert all(one.missing is None for one in judge.results)


FULL = pytest.mark.full


@pytest.mark.parametrize("at", [3.5, pytest.param(3.05, marks=FULL), pytest.param(3.95, marks=FULL)])
def test_pictures_that_are_swapped_after_the_marker_are_red_within_five_seconds(at):
    other = caller(5, "chelsea.png")
    told, _ = attend(caller(1), CHAIN, at + 5, swap=lambda t, marked: marked if t < at else next(other))
    assert red_from(told) is not None and at < red_from(told) <= at + 5
    assert told[0][1] is TileState.CONFIRMED


def test_pictures_that_are_swapped_every_other_second_are_red_too():
    other = caller(5, "chelsea.png")
    told, _ = attend(caller(1), CHAIN, 8.5, swap=lambda t, marked: next(other) if t >= 3 and int(t) % 2 else marked)
    assert 3 < red_from(told) <= 8.5


def test_a_face_put_over_a_marked_picture_is_found_and_where_it_is():
    over, box = caller(5, "chelsea.png"), calling.face_box()
    told, judge = attend(
        caller(1), CHAIN, 14, swap=lambda t, marked: marked if t < 5 else calling.covered(marked, next(over), box)
    )
    assert 5 < red_from(told) <= 12
    found = [one.missing for one in judge.results if one.missing][0]
    assert found[0] < box[2] and found[2] > box[0] and found[1] < box[3] and found[3] > box[1]


def test_a_mark_that_is_lifted_off_and_laid_over_other_pictures_is_not_enough():
    """The forger has the marked and even the unmarked pictures, and moves the difference onto another scene at once."""
    other, camera = caller(5, "chelsea.png", "rocket.jpg"), caller(1)

    def lift(t, marked):
        pattern = marked.astype(np.int16) - next(camera)
        return marked if t < 4 else np.clip(next(other) + pattern, 0, 255).astype(np.uint8)

    told, judge = attend(caller(1), CHAIN, 8.5, swap=lift)
    assert 4 < red_from(told) <= 8.5
    assert judge.results[-1].score > LEAST_SCORE  # the mark itself is there
    assert max(one.mismatch for one in judge.results if one.slot < 4) < MOST_MISMATCH / 2


def test_a_still_picture_without_camera_noise_is_confirmed_once_the_sender_is_told_how_it_was_received():
    told, judge = attend(caller(4, "coffee.png", "grass.png", noise=0.3), CHAIN, 7)
    assert red_from(told) is None
    assert judge.results[-1].score > LEAST_SCORE


def test_a_picture_sent_smaller_is_still_confirmed():
    """Browsers send fewer pixels when a line or a processor is slow."""

    def small(t, marked):
        return marked if t < 2 else calling.scaled(marked, 0.5)

    senders = {}

    def coder(frame):
        return senders.setdefault(frame.shape, Vp8(300_000))(frame)

    told, _ = attend(caller(1), CHAIN, 8, coder=coder, swap=small)
    assert red_from(told) is None


def test_without_the_session_key_nobody_is_confirmed():
    """The picture of somebody else's session, and unmarked pictures."""
    judge = TileJudge(BEGAN)
    marker, coder = marks.LiveMarker.of(chain_of("per_mallory")), Vp8()
    frames = caller(1)
    for number in range(4 * FPS):
        shown = coder(marker.on_rgb(next(frames), number / FPS))
        judge.add(calling.luma_of(shown), BEGAN + number / FPS + 0.1)
    for slot in range(3):
        assert not judge.disclose(CHAIN[slot], BEGAN + 5).says
    assert judge.state(BEGAN + 5) is TileState.NOT_CONFIRMED


def test_pictures_that_come_after_their_key_do_not_count():
    """Once a key is known anybody can mark with it: a forger who waits for it is too late."""
    judge, marker, frames = TileJudge(BEGAN), marks.LiveMarker.of(CHAIN), caller(1)
    coder = Vp8()
    for number in range(5 * FPS):
        t = number / FPS
        shown = coder(marker.on_rgb(next(frames), t))
        judge.add(calling.luma_of(shown), BEGAN + t + keys.SLOT_SECONDS + keys.DISCLOSURE_SECONDS + 0.1)
        late = keys.disclosable(BEGAN, BEGAN + t)
        if late >= 0 and all(one.slot != late for one in judge.results):
            assert judge.disclose(CHAIN[late], BEGAN + t).says is not True
    assert judge.state(BEGAN + 5) is not TileState.CONFIRMED


def test_a_tile_without_pictures_is_no_picture_and_few_frames_say_nothing():
    judge = TileJudge(BEGAN)
    assert judge.state(BEGAN + 1) is TileState.WAITING
    judge.add(np.zeros((90, 160), np.uint8), BEGAN + 1)
    assert judge.disclose(CHAIN[1], BEGAN + 3).says is None
    assert judge.state(BEGAN + 4) is TileState.NO_PICTURE


def test_a_few_frames_a_second_do_not_keep_a_tile_confirmed():
    """Whoever swaps the pictures and sends too few to be judged is not confirmed either."""
    told, judge = attend(caller(1), CHAIN, 4)
    assert told[-1][1] is TileState.CONFIRMED
    other, coder = caller(5, "chelsea.png"), Vp8()
    for half in range(12):
        now = BEGAN + 4.5 + half / 2
        judge.add(calling.luma_of(coder(next(other))), now)
        if half % 2:
            judge.disclose(CHAIN[keys.disclosable(BEGAN, now)], now)
    assert judge.state(now) is TileState.WAITING


def test_memory_of_a_judge_is_bounded():
    judge = TileJudge(BEGAN)
    for number in range(1200):
        judge.add(np.zeros((90, 160), np.uint8), BEGAN + number / 4)
    assert len(judge._bins) < 64


def test_a_score_of_unmarked_pictures_is_chance():
    """Hoeffding: exp(-t * t / 2). Over many keys, the scores of one picture have a deviation of 1."""
    chips = marks.whitened_chips(marks.chips_of(np.asarray(next(caller(2)).mean(-1), np.uint8)))
    scores = np.array([marks.score_of(chips, marks.slot_tile(CHAIN[slot])) for slot in range(300)])
    assert abs(scores.std() - 1) < 0.15 and abs(scores).max() < LEAST_SCORE
