"""Labels in GIF: written before the first picture, read back, replaced, and of no effect on what is shown."""

import io

import pytest
from PIL import Image

from sorano.errors import VideoError
from sorano.trust.provenance import containers, gif, label

PACKET = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>\xe7\xba\xa2</x:xmpmeta>"


@pytest.fixture(params=[1, 3])
def file(tmp_path, request):
    """A GIF of one picture, or of three."""
    pictures = [Image.effect_noise((24, 16), 60).convert("RGB") for _ in range(request.param)]
    path = tmp_path / "a.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=80, loop=0, comment=b"a \x21\xff note")
    return path


def shown(data):
    with Image.open(io.BytesIO(data)) as image:
        frames = []
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            frames.append(image.convert("RGB").tobytes())
        return frames, image.info.get("duration"), image.info.get("comment")


@pytest.mark.parametrize("length", [1, 60, 255, 256, 257, 5000])
def test_a_packet_of_any_length_is_read_back_and_changes_no_picture(file, length):
    before = file.read_bytes()
    packet = (PACKET * (length // len(PACKET) + 1))[:length]
    made = gif.with_packet(io.BytesIO(before), packet)
    assert [one for *_, one in gif.packets(io.BytesIO(made))] == [packet]
    assert shown(made) == shown(before)
    again = gif.with_packet(io.BytesIO(made), PACKET)  # one packet, in the place of the other
    assert [one for *_, one in gif.packets(io.BytesIO(again))] == [PACKET] and shown(again) == shown(before)


def test_a_label_is_written_and_replaced(file):
    words = label.Label(producer="Studio", produce_id="1")
    assert label.write(file, words) == gif.CARRIER
    assert [one.label for one in label.read(file)] == [words]
    other = label.Label(producer="Studio", produce_id="2")
    label.write(file, other)
    assert [one.label for one in label.read(file)] == [other]
    assert "Studio" in containers.xmp_of(file)


@pytest.mark.parametrize("data", [b"GIF89a", b"GIF89a" + bytes(7), b"GIF89a" + bytes(6) + b"\0\x21\xff\x0bXMP DataXMP"])
def test_a_gif_that_is_cut_off_holds_nothing(tmp_path, data):
    assert list(gif.packets(io.BytesIO(data))) == []
    (tmp_path / "a.gif").write_bytes(data)
    assert label.read(tmp_path / "a.gif") == []


def test_what_is_no_gif_is_not_written():
    with pytest.raises(VideoError, match="13 bytes"):
        gif.with_packet(io.BytesIO(b"GIF89a"), PACKET)
