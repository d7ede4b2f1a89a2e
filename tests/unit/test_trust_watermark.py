"""The mark in video and pictures: there after what happens to videos, and nowhere else."""

import io

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from support import footage
from support.counts import FULL

from sorano.errors import RequestError
from sorano.trust.watermark import search
from sorano.trust.watermark.detect import detect, detect_image, read
from sorano.trust.watermark.embed import Marker, mark_frames, mark_image
from sorano.trust.watermark.pattern import carrier, chroma_carriers
from sorano.trust.watermark.payload import CODE, PUBLIC_KEY, Payload

PAYLOAD = Payload(1, "made", 0x123456789A)
SECRET = bytes(range(32))


@pytest.fixture(scope="module")
def original():
    return footage.clip("landscape", 360, 640, 48)


@pytest.fixture(scope="module")
def marked(original):
    return mark_frames(original, PAYLOAD, fps=24)


def coded(frames, crf, fps=24):
    """A clip after H.264, in colour, without odd last rows and columns."""
    height, width = (side // 2 * 2 for side in frames.shape[1:3])
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.options = {"crf": str(crf), "preset": "medium"}
        for frame in np.ascontiguousarray(frames[:, :height, :width]):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def luma_psnr(a, b):
    weights = np.array([0.299, 0.587, 0.114])
    return 10 * np.log10(255**2 / np.mean(((a.astype(float) - b) @ weights) ** 2))


def test_the_mark_is_read_and_hardly_changes_the_frames(original, marked):
    found = detect([marked], fps=24)
    assert found.payload == PAYLOAD
    assert (found.slots_read, found.slots, found.flipped) == (1, 1, False)
    assert found.scale == pytest.approx(1, abs=1e-3) and abs(found.rotation) < 0.2
    assert found.confidence > 20 and found.false_accept_rate < 1e-6
    assert luma_psnr(original, marked) >= 42
    assert marked.dtype == np.uint8 and marked.shape == original.shape


ATTACKS = {
    "H.264 CRF 30": lambda clip: coded(clip, 30),
    "H.264 CRF 28 of a crop of 0.6": lambda clip: coded(footage.cropped(clip, 0.6), 28),
    "half the size": lambda clip: coded(footage.resized(clip, 0.5), 23),
    "a lost beginning": lambda clip: coded(clip[10:], 26),
    "every other frame": lambda clip: coded(clip[::2], 28, fps=12),
    "darker": lambda clip: coded((clip * 0.5).astype(np.uint8), 23),
    "blurred": lambda clip: np.stack([cv2.GaussianBlur(frame, (9, 9), 0) for frame in clip[:24]]),
    "noise": lambda clip: np.clip(clip + np.random.default_rng(0).normal(0, 25, clip.shape), 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_mark_survives(marked, attack):
    found = detect([ATTACKS[attack](marked)], fps=24)
    assert found is not None and found.payload == PAYLOAD


@pytest.mark.parametrize("turn", range(8))
def test_mirrored_and_turned_video_is_read_and_described(marked, turn):
    frames = np.rot90(marked[:8, :, ::-1] if turn >= 4 else marked[:8], turn % 4, (1, 2))
    found = detect([frames], fps=24)
    assert found.payload == PAYLOAD
    assert found.flipped == (turn >= 4)
    assert (found.rotation - 90 * (turn % 4) + 180) % 360 - 180 == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("degrees", [10, -3, 41])
def test_turned_video_is_read_and_its_turn_is_said(marked, degrees):
    matrix = cv2.getRotationMatrix2D((319.5, 179.5), degrees, 1)
    frames = np.stack([cv2.warpAffine(frame, matrix, (640, 360)) for frame in marked[:8]])
    found = detect([coded(frames, 23)], fps=24)
    assert found.payload == PAYLOAD and found.rotation == pytest.approx(degrees, abs=0.3)
    assert found.scale == pytest.approx(1, abs=0.01)


def test_the_mark_is_even_over_time(original, marked):
    """No pulse: the first frame, which is the thumbnail, is changed no more than the others."""
    change = (marked.astype(float) - original).std(axis=(1, 2, 3))
    assert change.std() < 0.05 * change.mean()
    assert change[0] <= 1.05 * np.median(change)
    assert min(luma_psnr(a, b) for a, b in zip(original, marked, strict=True)) >= 43


def test_weak_texture_is_changed_less_than_strong_edges():
    changes = []
    for kind in ("handheld", "street"):
        clip = footage.clip(kind, 270, 480, 2)
        changes.append(luma_psnr(mark_frames(clip, PAYLOAD, fps=24), clip))
    assert changes[0] > changes[1] + 2


def test_a_wanted_strength_is_met(original):
    frames = mark_frames(original[:3], PAYLOAD, fps=24, target_psnr=46)
    assert luma_psnr(original[:3], frames) == pytest.approx(46, abs=0.3)


def test_colour_alone_is_read_and_grey_alone_too(original, marked):
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in marked[:12]])
    assert detect([grey], fps=24).payload == PAYLOAD
    colour = marked[:12].astype(float) - grey[..., None] + 128
    assert detect([np.clip(colour, 0, 255).astype(np.uint8)], fps=24, thorough=False).payload == PAYLOAD


@pytest.mark.parametrize("kind", ["speaker", "world"])
def test_the_embedded_models_size_is_enough(kind):
    """256 pixels and 17 frames at 12 a second hold less than two tiles."""
    frames = mark_frames(footage.clip(kind, 256, 256, 17), PAYLOAD, fps=12)
    for clip in (coded(frames, 30, fps=12), coded(footage.cropped(frames, 0.8), 28, fps=12)):
        found = detect([clip], fps=12)
        assert found is not None and found.payload == PAYLOAD


def test_chunks_do_not_matter(original, marked):
    for sizes in ([1] * 20, [7, 13], [3, 0, 17]):
        marker = Marker(PAYLOAD, height=360, width=640, fps=24)
        parts = np.split(original[:20], np.cumsum(sizes)[:-1])
        assert np.array_equal(np.concatenate([marker(part) for part in parts]), marked[:20])
    chunks = [marked[:5], marked[5:6], marked[6:]]
    parts, whole = detect(chunks, fps=24), detect([marked], fps=24)
    assert (parts.payload, parts.confidence, parts.scale) == (whole.payload, whole.confidence, whole.scale)


def test_a_marker_goes_on_from_what_it_remembered(original, marked):
    first, second = (Marker(PAYLOAD, height=360, width=640, fps=24) for _ in range(2))
    parts = [first(original[:11])]
    second.restore(first.state())
    parts.append(second(original[11:20]))
    assert np.array_equal(np.concatenate(parts), marked[:20])


def test_a_long_stream_is_kept_in_constant_memory():
    kept = search.Kept()
    for number in range(1000):
        kept.add(np.full((90, 160), number % 251, np.uint8))
    assert kept.seen == 1000 and len(kept.frames) <= search.MOST_FRAMES
    gaps = set(np.diff(kept.times))
    assert gaps == {kept.stride} and kept.times[0] == 0


def test_unmarked_and_wrong_keys_read_nothing(original, marked):
    assert detect([original[::8]], fps=24) is None
    assert detect([marked[::8]], fps=24, key=SECRET) is None
    private = mark_frames(original[:8], PAYLOAD, fps=24, key=SECRET)
    assert detect([private], fps=24) is None
    assert detect([private], fps=24, key=SECRET).payload == PAYLOAD


def test_many_wrong_keys_read_nothing(marked):
    """10,000 in the full run: the same marked frames under other keys, on the grid on which they were marked."""
    kept = search.Kept()
    for frame in marked[:2]:
        kept.add(frame)
    grid = search.usual_grid(kept)
    level = search.level_of(grid.chip)
    accepted = 0
    for first in range(0, 10_000 if FULL else 100, 50):
        keys = [b"a wrong key" + number.to_bytes(8, "big") for number in range(first, first + 50)]
        words = [search.seen_in(kept, key, grid, level).soft_values() for key in keys]
        accepted += sum(message is not None for message in CODE.decode(np.concatenate(words)))
    assert accepted == 0
    right = search.seen_in(kept, PUBLIC_KEY, grid, level).soft_values()
    assert any(message is not None for message in CODE.decode(right))


def test_wrong_keys_find_nothing_in_a_search(marked):
    """With the grid looked for under each key: 200 in the full run."""
    kept = search.Kept()
    for frame in marked[:2]:
        kept.add(footage.cropped(frame[None], 0.5)[0])
    for number in range(200 if FULL else 4):
        key = b"a wrong key" + number.to_bytes(8, "big")
        assert read(kept, fps=24, key=key, thorough=False) is None


def test_a_clip_marked_in_part_says_so(original, marked):
    long = np.concatenate([marked, original, original])
    found = detect([long], fps=24)
    assert found.payload == PAYLOAD and found.slots == 3 and found.slots_read == 1


@pytest.mark.parametrize("quality", [90, 60])
def test_pictures(original, quality):
    picture = mark_image(Image.fromarray(original[0]), Payload(1, "captured", 7))
    assert luma_psnr(original[0], picture) >= 42
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    found = detect_image(Image.open(file))
    assert found is not None and found.payload == Payload(1, "captured", 7)
    assert detect_image(original[0]) is None


def test_odd_sizes_and_flat_frames_are_marked_without_harm():
    for height, width in ((101, 67), (3, 5), (720, 33)):
        frames = np.full((2, height, width, 3), 128, np.uint8)
        assert mark_frames(frames, PAYLOAD, fps=30).shape == frames.shape
    white = np.full((2, 360, 360, 3), 255, np.uint8)
    assert mark_frames(white, PAYLOAD, fps=30).min() > 200
    assert detect([], fps=24) is None
    assert detect([np.zeros((3, 8, 8, 3), np.uint8)], fps=24) is None


@pytest.mark.parametrize("wrong", [{"version": 2}, {"kind": "real"}, {"id": 1 << 40}, {"id": -1}])
def test_wrong_payloads_are_refused(wrong):
    with pytest.raises(RequestError):
        Payload(**({"version": 1, "kind": "made", "id": 1} | wrong))


def test_wrong_frames_and_settings_are_refused(original):
    with pytest.raises(ValueError, match="frames must be"):
        Marker(PAYLOAD, height=10, width=10, fps=24)(original)
    with pytest.raises(RequestError, match="dB"):
        mark_frames(original[:1], PAYLOAD, fps=24, target_psnr=10)
    with pytest.raises(ValueError, match="16 bytes"):
        mark_frames(original[:1], PAYLOAD, fps=24, key=b"short")


def test_frames_that_are_sampled_together_read_as_they_do_alone():
    """Groups of four, a rest of three, and frames that a first look had grouped otherwise."""
    kept, random = search.Kept(), np.random.default_rng(2)
    for _ in range(7):
        kept.add(random.integers(0, 256, (90, 130, 3), np.uint8))
    grid = search.plain_grid(3.1, 90, 130)
    search.tiles_of(kept, grid, 0, [0, 2, 4, 6])
    for tiles_of in (search.tiles_of, search.chroma_tiles_of):
        together = tiles_of(kept, grid, 0)
        alone = [tiles_of(kept, grid, 0, [index]) for index in range(7)]
        separately = np.concatenate(alone, together.ndim - 3)
        assert together.shape == separately.shape
        assert np.corrcoef(together.ravel(), separately.ravel())[0, 1] > 0.999
    assert np.allclose(kept.mean(0), np.mean([kept.white(0, index) for index in range(7)], 0), atol=1e-5)


def slowly_correlated(tiles, source, quarters=4):
    """`search.correlated` by its definition, of tiles [B, 64, 64]: [B, 2 * quarters, 64, 64]."""
    turns = [first + turn for first in (0, 4) for turn in range(quarters)]
    templates = np.stack([np.fft.fft2(search.turned(search.sync_pattern(source), turn)) for turn in turns])
    scores = np.fft.ifft2(np.fft.fft2(tiles)[:, None] * templates.conj()).real
    return scores / scores.std((1, 2, 3), keepdims=True)


def slowly_best_in(picture, grid, quarters):
    """`search.best_in`, shift by shift."""
    samples = search.folded(search.sampled(picture.luma, grid, picture.level), 2 * search.TILE)
    shifts = [np.roll(samples, (-down, -right), (0, 1)) for down in (0, 1) for right in (0, 1)]
    tiles = np.stack([sum(one[a::2, b::2] for a in (0, 1) for b in (0, 1)) for one in shifts])
    scores = list(slowly_correlated(tiles, picture.source, quarters))
    if picture.red is not None:
        tile = search.folded(search.sampled(picture.coarse_red, grid, picture.level + 1, 1))
        red = slowly_correlated(tile[None], picture.red_source, quarters)[0]
        scores += [*((one + red) / np.sqrt(2) for one in scores), red]
    number = int(np.argmax([one.max() for one in scores]))
    turn, y, x = np.unravel_index(int(scores[number].argmax()), scores[number].shape)
    matrix = grid.matrix_23.copy()
    matrix[:, 2] += matrix[:, :2] @ np.array([number % 4 % 2, number % 4 // 2]) / 2
    score = scores[number].max()
    return search.Grid(matrix, int(turn % quarters + 4 * (turn // quarters)), (int(y), int(x)), score)


def test_sync_scores_are_circular_correlations():
    pair, source = np.random.default_rng(4).normal(size=(2, 64, 64)).astype(np.float32), carrier(b"k" * 32)
    for quarters in (1, 4):
        found = search.correlated(np.moveaxis(pair, 0, -1), source, quarters)
        assert np.allclose(np.moveaxis(found, -1, 0), slowly_correlated(pair, source, quarters), atol=1e-4)


def test_the_quick_search_finds_the_grids_of_the_slow_one(marked):
    kept = search.Kept()
    for frame in marked[::6]:
        kept.add(frame)
    height, width = kept.frames[0].shape
    seen = 0
    for level in (-1, 0, 1):
        for picture in search.pictures(kept, PUBLIC_KEY, level):
            for chip in search.all_chips(kept)[::23]:
                for quarters in (1, 4):
                    grid = search.plain_grid(float(chip), height, width)
                    found, slowly = search.best_in(picture, grid, quarters), slowly_best_in(picture, grid, quarters)
                    assert (found.turn, found.shift_2) == (slowly.turn, slowly.shift_2)
                    assert np.allclose(found.matrix_23, slowly.matrix_23)
                    assert found.score == pytest.approx(slowly.score, rel=1e-4)
                    seen += found.score > 8
    assert seen  # not noise alone


def slowly_climbed(matrix, score, moved):
    """`search.climbed`, which looks at every neighbour again after each step."""
    best, step = score(matrix), 0.5
    while step > 0.04:
        better = False
        for number in range(search.MOVES):
            while (value := score(near := moved(matrix, number, step))) > best + 1e-6:
                matrix, best, better = near, value, True
        if not better:
            step /= 2
    return matrix


def test_a_climb_that_looks_nowhere_twice_ends_where_the_patient_one_does():
    random = np.random.default_rng(6)
    for _ in range(20):
        summit, slope, moves = random.normal(size=6), random.normal(size=(6, 6)), random.normal(size=(7, 6))

        def moved(matrix, number, step, moves=moves):
            return matrix + (1 - 2 * (number % 2)) * step * moves[number // 2].reshape(2, 3)

        looks = []
        for climb in (search.climbed, slowly_climbed):
            looked = []

            def score(matrix, looked=looked, summit=summit, slope=slope):
                looked.append(matrix)
                return -float(np.sum((slope @ (matrix.ravel() - summit)) ** 2))

            looks.append((climb(np.zeros((2, 3)), score, moved), len(looked)))
        assert np.array_equal(looks[0][0], looks[1][0]) and looks[0][1] < looks[1][1]


def test_the_mean_of_cr_is_the_same_where_no_cb_is_made():
    kept, random = search.Kept(), np.random.default_rng(3)
    for _ in range(6):
        kept.add(random.integers(0, 256, (120, 180, 3), np.uint8))
    for level in search.LEVELS:
        both = [kept._white_chroma_of(level, index)[1].astype(np.float32) for index in range(6)]
        slowly = (sum(both) - 6 * search.WHITE_ZERO) / (6 * search.WHITE_STEPS)
        assert np.allclose(kept.mean(level, red=True), slowly, atol=1e-5)


def test_levels_are_those_of_the_logarithm():
    for chip in np.concatenate([np.geomspace(0.5, 60, 5000), search.SMALLEST * 2.0 ** np.arange(-2, 5)]).tolist():
        exact = np.floor(np.log2(chip / search.SMALLEST + 1e-9))
        assert search.level_of(chip) == int(np.clip(exact, search.LEVELS[0], search.LEVELS[-1]))


def test_the_public_carrier_never_changes():
    """Marks that are out there must stay readable: the first signs and bits of the public key."""
    source = carrier(PUBLIC_KEY)
    assert source.sign_C[:8].tolist() == [1, 1, 1, 1, 1, 1, -1, -1]
    assert source.bit_C[:8].tolist() == [303, 180, 31, 173, 276, 118, 857, 455]
    blue, red = chroma_carriers(PUBLIC_KEY)
    assert sorted(blue.bit_C.tolist()) == list(range(1024))
    carried = red.bit_C[red.bit_C >= 0]
    assert len(set(carried.tolist())) == len(carried) == 512  # the others are sync chips
    assert blue.bit_C[:4].tolist() == [99, 161, 449, 683]
    assert red.bit_C[:4].tolist() == [335, 460, -1, 533]
