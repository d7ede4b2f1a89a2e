"""Attacks on pictures: several pages, transparency, thumbnails, profiles, bytes behind the end."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image, ImageCms

from attacks.picture import hybrid
from attacks.registry import attack
from attacks.tools import encode, png, png_chunks

GROUP = "stills"


def pictures(stage):
    """The signed photograph's pixels and foreign ones, as Pillow has them."""
    return Image.fromarray(stage.picture), Image.fromarray(stage.false_picture)


# Further pictures.


@attack(GROUP, quick=True)
def apng(stage, folder):
    """An animated PNG whose first picture is genuine and held for a moment; the rest is a lie."""
    real, lie = pictures(stage)
    real.save(folder / "forged.png", save_all=True, append_images=[lie], duration=[10, 60_000], loop=0)
    return folder / "forged.png"


@attack(GROUP)
def apng_with_a_hidden_default(stage, folder):
    """An animated PNG whose default picture is genuine and no part of the animation."""
    real, lie = pictures(stage)
    real.save(folder / "forged.png", save_all=True, append_images=[lie, lie], default_image=True, duration=1000)
    return folder / "forged.png"


@attack(GROUP)
def animated_webp(stage, folder):
    """An animated WebP whose first picture is genuine."""
    real, lie = pictures(stage)
    real.save(folder / "forged.webp", save_all=True, append_images=[lie], duration=[10, 60_000], lossless=True)
    return folder / "forged.webp"


@attack(GROUP)
def animated_gif(stage, folder):
    """An animated GIF whose first picture is genuine."""
    real, lie = pictures(stage)
    real.save(folder / "forged.gif", save_all=True, append_images=[lie], duration=[10, 60_000])
    return folder / "forged.gif"


@attack(GROUP)
def tiff_with_pages(stage, folder):
    """A TIFF whose first page is genuine."""
    real, lie = pictures(stage)
    real.save(folder / "forged.tif", save_all=True, append_images=[lie, lie])
    return folder / "forged.tif"


@attack(GROUP)
def mpo(stage, folder):
    """A multi-picture JPEG whose first picture is genuine."""
    real, lie = pictures(stage)
    real.save(folder / "forged.jpg", format="MPO", save_all=True, append_images=[lie], quality=92)
    return folder / "forged.jpg"


@attack(GROUP)
def animated_avif(stage, folder):
    """An AVIF sequence whose first picture is genuine."""
    real, lie = pictures(stage)
    real.save(folder / "forged.avif", save_all=True, append_images=[lie], duration=[10, 60_000], speed=10)
    return folder / "forged.avif"


@attack(GROUP)
def icon_with_two_pictures(stage, folder):
    """An icon file with a genuine small picture and a foreign large one."""
    real, lie = pictures(stage)
    real.resize((128, 128)).save(
        folder / "forged.ico", sizes=[(128, 128), (256, 256)], append_images=[lie.resize((256, 256))]
    )
    return folder / "forged.ico"


@attack(GROUP)
def motion_photo(stage, folder):
    """A genuine JPEG with a foreign film behind its end, as phones write moving photographs."""
    real, _ = pictures(stage)
    film = encode(folder / "film.mp4", stage.foreign[:24], sound=stage.lies[:48_000]).read_bytes()
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MicroVideo="1" '
        f'GCamera:MicroVideoOffset="{len(film)}"/></rdf:RDF></x:xmpmeta>'
    )
    real.save(folder / "forged.jpg", quality=95, xmp=packet.encode())
    with open(folder / "forged.jpg", "ab") as stream:
        stream.write(film)
    return folder / "forged.jpg"


@attack(GROUP)
def second_jpeg_behind_the_end(stage, folder):
    """A foreign JPEG follows the end of a genuine one."""
    real, lie = pictures(stage)
    first, second = io.BytesIO(), io.BytesIO()
    real.save(first, "JPEG", quality=95)
    lie.save(second, "JPEG", quality=95)
    (folder / "forged.jpg").write_bytes(first.getvalue() + second.getvalue())
    return folder / "forged.jpg"


@attack(GROUP, matched="the picture is genuine; its small preview in file lists is not what opens")
def foreign_thumbnail(stage, folder):
    """The preview in a JPEG's EXIF shows something else."""
    real, lie = pictures(stage)
    small = io.BytesIO()
    lie.resize((160, 90)).save(small, "JPEG")
    exif = thumbnail_exif(small.getvalue())
    real.save(folder / "forged.jpg", quality=95, exif=exif)
    return folder / "forged.jpg"


def thumbnail_exif(content):
    """EXIF with a preview in its second directory."""
    first = struct.pack("<HHHII", 1, 0x0112, 3, 1, 1)
    second_at = 8 + len(first) + 4
    second = struct.pack("<H", 3) + struct.pack("<HHII", 0x0103, 3, 1, 6)
    place = second_at + 2 + 3 * 12 + 4
    second += struct.pack("<HHII", 0x0201, 4, 1, place) + struct.pack("<HHII", 0x0202, 4, 1, len(content)) + bytes(4)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + struct.pack("<I", second_at) + second + content


# Transparency.


def two_faces(on_white, on_black):
    """Grey pixels with an alpha that shows one picture on white and another on black."""
    white, black = (np.asarray(one.convert("L"), np.float32) for one in (on_white, on_black))
    white, black = 128 + white / 2, black / 2
    alpha = np.clip(255 - (white - black), 1, 255)
    grey = np.clip(255 * black / alpha, 0, 255)
    return np.stack([grey, grey, grey, alpha], -1).round().astype(np.uint8)


@attack(GROUP, quick=True)
def lie_on_black(stage, folder):
    """A PNG that shows the truth on white and a lie on black."""
    real, lie = pictures(stage)
    Image.fromarray(two_faces(real, lie)).save(folder / "forged.png")
    return folder / "forged.png"


@attack(GROUP)
def lie_on_white(stage, folder):
    """A PNG that shows the truth on black and a lie on white."""
    real, lie = pictures(stage)
    Image.fromarray(two_faces(lie, real)).save(folder / "forged.png")
    return folder / "forged.png"


@attack(GROUP)
def webp_lie_on_black(stage, folder):
    """A WebP that shows the truth on white and a lie on black."""
    real, lie = pictures(stage)
    Image.fromarray(two_faces(real, lie)).save(folder / "forged.webp", lossless=True, exact=True)
    return folder / "forged.webp"


@attack(GROUP)
def genuine_pixels_that_cannot_be_seen(stage, folder):
    """Genuine pixels, wholly transparent: every viewer shows its own background."""
    pixels = np.concatenate([stage.picture, np.zeros_like(stage.picture[..., :1])], -1)
    Image.fromarray(pixels).save(folder / "forged.png")
    return folder / "forged.png"


@attack(GROUP)
def words_cut_out_of_the_alpha(stage, folder):
    """False words are cut out of the picture's alpha: they appear on a dark page."""
    alpha = np.full(stage.picture.shape[:2], 255, np.uint8)
    cv2.putText(alpha, "I AM GUILTY", (20, 150), cv2.FONT_HERSHEY_SIMPLEX, 2.2, 0, 8)
    Image.fromarray(np.dstack([stage.picture, alpha])).save(folder / "forged.png")
    return folder / "forged.png"


@attack(GROUP)
def palette_with_transparency(stage, folder):
    """A PNG with a palette in which every second colour is transparent."""
    real, _ = pictures(stage)
    small = real.quantize(64)
    small.save(folder / "forged.png", transparency=bytes(255 * (n % 2) for n in range(64)))
    return folder / "forged.png"


# What viewers do with the numbers.


@attack(GROUP)
def gamma_chunk(stage, folder):
    """A lie in the brightest levels and the truth in every fourth pixel; a gamma chunk turns one into the other."""
    mixed = (248 + stage.false_picture.astype(np.float32) / 36).clip(0, 255)
    mixed[::2, ::2] = 255 * (stage.picture[::2, ::2] / 255.0) ** 0.3
    held = io.BytesIO()
    Image.fromarray(mixed.astype(np.uint8)).save(held, "PNG")
    parts = png_chunks(held.getvalue())
    (folder / "forged.png").write_bytes(png([parts[0], (b"gAMA", struct.pack(">I", 1500)), *parts[1:]]))
    return folder / "forged.png"


@attack(GROUP)
def steep_profile(stage, folder):
    """Genuine in its upper levels; a colour profile stretches the lowest two bits, in which a lie is written."""
    levels = (stage.picture >> 2 << 2) | (stage.false_picture >> 6)
    saved = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    curve = b"curv" + struct.pack(">II", 0, 256)
    curve += b"".join(struct.pack(">H", 21845 * (n & 3)) for n in range(256))
    Image.fromarray(levels).save(folder / "forged.png", icc_profile=with_curve(bytes(saved), curve))
    return folder / "forged.png"


@attack(GROUP)
def inverting_profile(stage, folder):
    """A colour profile shows dark as bright and bright as dark."""
    saved = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    curve = b"curv" + struct.pack(">II", 0, 2) + struct.pack(">HH", 65535, 0)
    Image.fromarray(stage.picture).save(folder / "forged.png", icc_profile=with_curve(saved, curve))
    return folder / "forged.png"


def with_curve(profile, curve):
    """A colour profile whose red, green and blue follow another curve."""
    data = bytearray(profile)
    count = struct.unpack_from(">I", data, 128)[0]
    data += bytes(-len(data) % 4)
    place = len(data)
    for n in range(count):
        at = 132 + 12 * n
        if bytes(data[at : at + 4]) in (b"rTRC", b"gTRC", b"bTRC"):
            struct.pack_into(">II", data, at + 4, place, len(curve))
    data += curve
    struct.pack_into(">I", data, 0, len(data))
    return bytes(data)


@attack(GROUP, matched="it shows the same picture upside down, and nothing else")
def orientation(stage, folder):
    """EXIF turns the picture upside down."""
    real, _ = pictures(stage)
    exif = real.getexif()
    exif[0x0112] = 3
    real.save(folder / "forged.jpg", quality=95, exif=exif)
    return folder / "forged.jpg"


# What is painted.


@attack(GROUP)
def photo_face_replaced(stage, folder):
    """10 % of a signed photograph, where the face is, shows somebody else."""
    return painted(stage, folder, 0.10)


@attack(GROUP, quick=True)
def photo_fifth_replaced(stage, folder):
    """20 % of a signed photograph is replaced."""
    return painted(stage, folder, 0.20)


@attack(GROUP, matched="a region of 2 % of a picture is below the smallest change that a match finds")
def photo_mouth_replaced(stage, folder):
    """2 % of a signed photograph is replaced."""
    return painted(stage, folder, 0.02)


def painted(stage, folder, area):
    height, width = stage.picture.shape[:2]
    mask = np.zeros((height, width), np.float32)
    radius = np.sqrt(area * height * width / np.pi)
    cv2.ellipse(mask, (width // 2, int(0.55 * height)), (int(1.2 * radius), int(radius / 1.2)), 0, 0, 360, 1, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 2)[..., None]
    mixed = stage.picture * (1 - mask) + stage.false_picture * mask
    Image.fromarray(mixed.round().astype(np.uint8)).save(folder / "forged.jpg", quality=92)
    return folder / "forged.jpg"


@attack(GROUP)
def photo_hybrid(stage, folder):
    """The coarse light of a signed photograph with the detail of another."""
    Image.fromarray(hybrid(stage.picture, stage.false_picture, 16)).save(folder / "forged.png")
    return folder / "forged.png"


@attack(GROUP)
def photo_with_the_id(stage, folder):
    """A foreign picture is marked with the public key and the id of a signed photograph."""
    from sorano.trust.watermark import embed, payload

    stolen = payload.Payload(1, "captured", stage.id_of(stage.photo))
    Image.fromarray(embed.mark_image(stage.false_picture, stolen)).save(folder / "forged.png")
    return folder / "forged.png"


@attack(GROUP)
def frame_of_a_video_as_photo_of_another(stage, folder):
    """A frame of the signed recording with the face replaced, given out as a screenshot."""
    frame = stage.shown[8].copy()
    frame[70:210, 170:320] = stage.foreign[8][70:210, 170:320]
    Image.fromarray(frame).save(folder / "forged.png")
    return folder / "forged.png"


# Bytes of signed pictures.


@attack("bytes", quick=True)
def png_bytes_behind_the_end(stage, folder):
    """Bytes follow the end of a signed PNG."""
    (folder / "forged.png").write_bytes(stage.photo.read_bytes() + b"another picture" * 20)
    return folder / "forged.png"


@attack("bytes")
def png_second_credential(stage, folder):
    """A second C2PA chunk with other content in a signed PNG."""
    parts = png_chunks(stage.photo.read_bytes())
    parts.insert(2, (b"caBX", b"hello" * 40))
    (folder / "forged.png").write_bytes(png(parts))
    return folder / "forged.png"


@attack("bytes")
def png_text_added(stage, folder):
    """A text chunk is put into a signed PNG."""
    parts = png_chunks(stage.photo.read_bytes())
    parts.insert(len(parts) - 1, (b"tEXt", b"Comment\0VERIFIED"))
    (folder / "forged.png").write_bytes(png(parts))
    return folder / "forged.png"


@attack("bytes")
def png_profile_added(stage, folder):
    """A colour profile that inverts is put into a signed PNG."""
    saved = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    curve = b"curv" + struct.pack(">II", 0, 2) + struct.pack(">HH", 65535, 0)
    parts = png_chunks(stage.photo.read_bytes())
    parts.insert(1, (b"iCCP", b"icc\0\0" + zlib.compress(with_curve(saved, curve))))
    (folder / "forged.png").write_bytes(png(parts))
    return folder / "forged.png"


@attack("bytes")
def png_animation_added(stage, folder):
    """A signed PNG becomes an animation: the signed picture is its first frame."""
    held = io.BytesIO()
    Image.fromarray(stage.false_picture).save(held, "PNG")
    pixels = b"".join(content for kind, content in png_chunks(held.getvalue()) if kind == b"IDAT")
    parts = png_chunks(stage.photo.read_bytes())
    height, width = stage.picture.shape[:2]
    at = next(n for n, (kind, _) in enumerate(parts) if kind == b"IDAT")
    last = next(n for n, (kind, _) in enumerate(parts) if kind == b"IEND")
    parts.insert(last, (b"fdAT", struct.pack(">I", 2) + pixels))
    parts.insert(last, (b"fcTL", struct.pack(">IIIIIHHBB", 1, width, height, 0, 0, 60, 1, 0, 0)))
    parts.insert(at, (b"fcTL", struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 100, 0, 0)))
    parts.insert(at, (b"acTL", struct.pack(">II", 2, 0)))
    (folder / "forged.png").write_bytes(png(parts))
    return folder / "forged.png"


@attack("bytes")
def jpeg_bytes_behind_the_end(stage, folder):
    """A film follows the end of a signed JPEG."""
    film = encode(folder / "film.mp4", stage.foreign[:24]).read_bytes()
    (folder / "forged.jpg").write_bytes(stage.jpeg.read_bytes() + film)
    return folder / "forged.jpg"


@attack("bytes")
def jpeg_second_credential(stage, folder):
    """Another JPEG's C2PA segments are put into a signed JPEG, before its own."""
    data = stage.jpeg.read_bytes()
    content = b"JP\0\1\0\0\0\1" + struct.pack(">I4s", 100, b"jumb") + bytes(92)
    segment = b"\xff\xeb" + struct.pack(">H", len(content) + 2) + content
    (folder / "forged.jpg").write_bytes(data[:2] + segment + data[2:])
    return folder / "forged.jpg"


@attack("bytes")
def jpeg_orientation_added(stage, folder):
    """A signed JPEG gets an EXIF segment that turns it."""
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 3, 0, 0)
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    data = stage.jpeg.read_bytes()
    (folder / "forged.jpg").write_bytes(data[:2] + segment + data[2:])
    return folder / "forged.jpg"
