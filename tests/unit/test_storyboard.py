"""Storyboards: shots from TOML and JSON, and what is said of wrong ones."""

import pytest

from sorano.errors import RequestError
from sorano.request import Request, whole_path
from sorano.storyboard import Shot, Storyboard, as_shot, changes, read_board

BOARD = """
size = "64x64"
seed = 3

[[shot]]
prompt = "a red ball"
seconds = 2

[[shot]]
video = "mine.mp4"

[[shot]]
prompt = "a blue cube"
join = "blend"
"""


def test_a_board_is_a_request(tmp_path):
    file = tmp_path / "board.toml"
    file.write_text(BOARD)
    words = read_board(file, ["size", "seed"])
    assert (words["size"], words["seed"], len(words["shots"])) == ("64x64", 3, 3)
    assert words["shots"][1].video == tmp_path / "mine.mp4"  # beside the board
    assert words["shots"][2] == Shot(prompt="a blue cube", join="blend")
    again = [one.to_dict(whole_path) for one in words["shots"]]
    assert Request(shots=again).shots == tuple(map(as_shot, again))
    assert Storyboard([{"prompt": "x"}]) == (Shot(prompt="x"),)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("size =", "sizes =", "line 2: unknown word 'sizes'"),
        ("seconds = 2", "second = 2", "line 7: a shot has no 'second'"),
        ("seconds = 2", "seconds = -2", "shot 1: a shot lasts some seconds"),
        ('join = "blend"', 'join = "fade"', "shot 3: shots are joined by cut or blend"),
        ('prompt = "a red ball"', "prompt = 3", "shot 1: a shot's prompt must be text"),
        ("[[shot]]", "[[shots]]", "no shots"),
        ("seed = 3", "seed = = 3", "cannot be read as a storyboard"),
    ],
)
def test_wrong_boards_are_refused_with_the_line(tmp_path, old, new, words):
    file = tmp_path / "board.toml"
    file.write_text(BOARD.replace(old, new))
    with pytest.raises(RequestError, match=words):
        read_board(file, ["size", "seed"])


def test_a_prompt_that_changes_is_shots_that_blend():
    shots = changes("day", 10, ["2s=dusk", "5.5=night"])
    assert [(shot.prompt, shot.seconds, shot.join) for shot in shots] == [
        ("day", 2, "cut"),
        ("dusk", 3.5, "blend"),
        ("night", 4.5, "blend"),
    ]
    for wrong in (["night"], ["12s=night"], ["3s=a", "2s=b"], ["0s=a"]):
        with pytest.raises(RequestError):
            changes("day", 10, wrong)


def test_shots_that_contradict_themselves_are_refused():
    for words in ({"video": "a", "image": "b"}, {"image": "a", "join": "blend"}, {"sound": "a"}, {"prompt": " "}):
        with pytest.raises(RequestError):
            as_shot(words)
