"""The spoken call code: two words that both sides see, and say to each other.

    SHA-256("sorano desk call words 1" || 0 || canonical {call, devices: both passkeys' public keys, in order})

Sixteen of its bits choose two of 256 English words, others five Chinese digits. Somebody in the middle who
joins each side in a call of their own has another passkey, so the words differ: by chance they agree once in 65,536.

Covered: that both sides are in the same call with the devices that the desk shows. Not covered: a voice that is cloned
can say the words too, so they bind the devices, not the people; and desks that lie about keys.
"""

from __future__ import annotations

import hashlib

from sorano.files import canonical

WORDS = tuple(
    (
        "acorn actor album alley amber anchor angle ankle apple apron arch arrow atlas attic autumn bacon "
        "badge bakery balcony bamboo banjo barley barrel basket beacon beetle bell berry bicycle birch bishop "
        "blanket blossom bottle boulder branch bread brick bridge broom bucket buffalo button cabin cactus "
        "camel camera canal candle canoe canyon carpet carrot castle cedar cello cement cherry chimney cider "
        "cinema circus clover coast cobra coffee comet compass copper coral corner cotton cousin cradle "
        "crater cricket crystal cushion cypress daisy dancer delta desert diamond dinner doctor dolphin "
        "donkey dragon drawer drum eagle easel echo elbow elephant ember engine estate evening fable falcon "
        "farmer feather fence fiddle finger flannel flower forest fountain fox galaxy garden garlic ginger "
        "giraffe glacier globe goblet granite grape guitar hammer harbor harvest hazel helmet hermit hickory "
        "honey horizon hotel island ivory jacket jaguar jasmine jelly jewel jungle juniper kettle kitchen "
        "kiwi ladder lagoon lantern laurel lemon leopard letter library lilac linen lion lizard lobster lotus "
        "lumber magnet mango maple marble market meadow melon mirror monkey morning mountain museum mustard "
        "napkin needle nickel novel nutmeg oasis oat ocean octopus olive onion opera orange orchard organ "
        "otter oyster paddle palace panda paper parrot peach peanut pearl pebble pelican pencil pepper piano "
        "pigeon pilot planet plaza pocket poem pony poplar potato prairie prism puzzle python quarry quilt "
        "rabbit radio raven ribbon river robin rocket rubber saddle saffron salmon sandal satin school shadow "
        "shovel silver sparrow spider spoon squirrel stable statue summer tablet tailor temple thunder ticket "
        "tiger timber tomato tulip tunnel turtle velvet violin walnut"
    ).split()
)
DIGITS = "零一二三四五六七八九"


def call_words(call: str, device: str, other: str) -> dict[str, str]:
    """The code of a call and two devices, the same for both: {"en": "river prism", "zh": "三九零五七"}."""
    words = canonical({"call": call, "devices": sorted((device, other))})
    found = hashlib.sha256(b"sorano desk call words 1\0" + words).digest()
    number = int.from_bytes(found[2:10], "big") % 10**5
    return {
        "en": f"{WORDS[found[0]]} {WORDS[found[1]]}",
        "zh": "".join(DIGITS[int(digit)] for digit in f"{number:05}"),
    }
