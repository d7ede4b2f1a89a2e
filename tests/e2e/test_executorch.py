"""ExecuTorch programs of tiny networks, run by ExecuTorch from Python, beside the engine."""

from dataclasses import replace

import numpy as np
import pytest
from support.exported import PROMPT, engine_clip, psnr

from sorano.errors import CheckpointError
from sorano.presets import ALL_KINDS, preset_of_folder

pytest.importorskip("executorch", reason="executorch is not here: pip install 'sorano[executorch]'")
pytestmark = pytest.mark.filterwarnings("default")  # of its packages, not of this one

MOST_LATENT = 1e-4  # of latents whose numbers reach 8: other exponentials and sums, over all steps
LEAST_PSNR = 60.0


@pytest.fixture(scope="module")
def programs(tiny_folder, tmp_path_factory):
    """The tiny networks as programs, said to take every kind of known latents; a minute or two."""
    from sorano.export.executorch import export_executorch

    folder = tmp_path_factory.mktemp("models") / "programs"
    export_executorch(replace(preset_of_folder(tiny_folder), known=ALL_KINDS), folder)
    return folder


def test_the_same_seed_gives_the_engines_latents_and_frames(programs, tiny_folder):
    from sorano.export.run import Runner

    runner = Runner(programs)
    given = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    for seed, known in ((0, None), (2**40 + 7, None), (3, given)):
        latent, frames = engine_clip(tiny_folder, seed, 4, known)
        clip = runner.generate(PROMPT, seed=seed, num_steps=4, given=known)
        assert np.abs(clip.latent_CTHW - latent).max() < MOST_LATENT
        assert psnr(clip.frames_THWC, frames) > LEAST_PSNR


def test_a_changed_program_is_found_by_its_digest_before_it_runs(programs):
    from sorano.export.run import Runner

    file = programs / "transformer.pte"
    data = bytearray(file.read_bytes())
    file.write_bytes(data[:-1])
    with pytest.raises(CheckpointError, match=r"transformer\.pte is not the file that was exported"):
        Runner(programs)
    file.write_bytes(data)
