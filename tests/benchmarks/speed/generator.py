"""Images/s of the generator as the job runs it on a CPU, against the network as a training leaves it.

The latter computes in float32, contiguous, with its batch norms apart, an image at a time. Both use one thread, as each
actor of a job does, and the same drawn squares in memory.
"""

import numpy as np
import torch

from model.bundle import STARTER, load_bundle
from model.precision import choose_precision
from pipelines.contracts.label_map import LabelMap
from pipelines.correction.run import cpu_batch
from pipelines.images.fit import fit_inside
from pipelines.images.pixels import to_tensor
from pipelines.inference.generator import GeneratorPass
from pipelines.synthesis.products import draw_scene
from tests.benchmarks.speed.ratio import Ratio
from tests.benchmarks.timing import in_turns

ROUNDS = 5


def ratios(small: bool) -> list[Ratio]:
    """Return how many times faster the job's settings are; each the fastest of rounds in turns."""
    torch.set_num_threads(1)
    images, rounds = (8, 1) if small else (48, ROUNDS)
    cpu, bundle = torch.device("cpu"), load_bundle(STARTER)
    bfloat16 = choose_precision("auto", cpu) == torch.bfloat16
    batch = cpu_batch(bfloat16)
    settings = GeneratorPass(None, "--bundle", bundle.version, cpu, "auto", batch)
    plain = load_bundle(STARTER).generator.eval()
    label_map = LabelMap.parse(bundle.label_map, "starter")
    types = [(label_map.groups[defect.group], defect.id) for defect in label_map.defects.values()]
    scenes = [draw_scene(f"speed-{number}", 0, long_sides=(256,)).photo for number in range(images)]
    squares = [
        fit_inside(scene, (scene.shape[1], scene.shape[0]), settings.side, "stretch") for scene in scenes
    ]
    conditions = [types[number % len(types)] for number in range(images)]

    def default() -> None:
        for start in range(0, images, batch):
            settings(squares[start : start + batch], conditions[start : start + batch])

    @torch.inference_mode()
    def bare() -> None:
        for square, (group, type_) in zip(squares, conditions, strict=True):
            plain.edit(to_tensor(np.stack([square]), cpu), torch.tensor([group]), torch.tensor([type_]))

    own, other = np.min(in_turns((default, bare), rounds), axis=0).tolist()
    figures = {"images_per_s": images / own, "plain_images_per_s": images / other, "batch": batch}
    figures["precision"] = "bfloat16" if bfloat16 else "float32"
    aim = 2.0 if bfloat16 else 1.3
    what = "the generator on a CPU with the job's settings, images/s"
    return [
        Ratio(what, "float32, contiguous, batch norms apart, one by one", other / own, aim, figures=figures)
    ]
