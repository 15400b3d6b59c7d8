"""Pictures of what a bundle looks at: the attention maps M'_g and M'_eta of drawn scenes, and its answers.

Drawn scenes only: the real photos are not shown.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.bundle import Bundle
from model.injection import AttentionInjection
from pipelines.contracts.hashing import hash_number
from pipelines.contracts.label_map import LabelMap
from pipelines.images.decode import decode_image
from pipelines.images.encode import encode_image
from pipelines.images.pixels import to_tensor, to_uint8
from pipelines.images.resize import resize_bicubic
from pipelines.reports.pictures import picture_columns
from pipelines.synthesis.defects import synthesis
from pipelines.synthesis.defects.registry import CLEAN_UP
from tests.benchmarks.study.drawn import scene_of

Image = NDArray[np.uint8]

#: Scenes that each defect is shown on.
SCENES = ("shown-a", "shown-b")
JPEG_QUALITY = 85


def show(bundle: Bundle) -> tuple[bytes, list[dict[str, Any]]]:
    """Return a JPEG, and the strength of the maps by scene.

    A column per defect and scene; from above: the upload, M'_g, M'_eta (red positive, blue negative, white zero, each
    map scaled to its own extreme) as far as the bundle has them, and the answer.
    """
    label_map = LabelMap.parse(bundle.label_map, "the bundle's label map")
    side, columns, captions, strengths = bundle.config["image_size"], [], [], []
    for defect, condition in label_map.conditions.items():
        for scene in SCENES:
            upload = resize_bicubic(defective(scene, defect), side, side)
            answer, maps = looked_at(bundle, upload, condition)
            pictures = [upload, *(heat(map_, side) for map_ in maps.values()), answer]
            columns.append([encode_image(picture, "png") for picture in pictures])
            captions.append(defect)
            strengths.append(
                {
                    "defect": defect,
                    "scene": scene,
                    **{
                        name: {
                            "rms": round(float(np.sqrt(np.square(map_).mean())), 4),
                            "mean": round(float(map_.mean()), 4),
                            "deviation": round(float(map_.std()), 4),
                        }
                        for name, map_ in maps.items()
                    },
                }
            )
    sheet = picture_columns(columns, captions)
    assert sheet is not None  # there are defects
    return encode_image(decode_image(sheet), "jpeg", quality=JPEG_QUALITY), strengths


def defective(scene_id: str, defect: str) -> Image:
    """Return a drawn scene that shows a defect, uint8 (H, W, 3)."""
    scene = scene_of(scene_id)
    if defect == CLEAN_UP:
        return scene.photo
    return synthesis(defect)(scene.product, np.random.default_rng(hash_number("shown", scene_id, defect)))


@torch.inference_mode()
def looked_at(
    bundle: Bundle, image: Image, condition: tuple[int, int]
) -> tuple[Image, dict[str, NDArray[np.float32]]]:
    """Return the answer to a square image, and the maps M' of its injections by name, (h, w) each."""
    maps: dict[str, NDArray[np.float32]] = {}

    def keep(name: str, module: AttentionInjection, inputs: tuple[torch.Tensor, torch.Tensor]) -> None:
        maps[name] = module.attention_map(inputs[0].float(), inputs[1])[0, 0].numpy()

    hooks = [
        module.register_forward_pre_hook(partial(keep, name.removeprefix("inject_")))
        for name, module in bundle.generator.named_modules()
        if isinstance(module, AttentionInjection)
    ]
    try:
        group, type_ = (torch.tensor([label]) for label in condition)
        x = to_tensor(image[None], torch.device("cpu"))
        answer = to_uint8(bundle.generator(x, group, type_))[0]
    finally:
        for hook in hooks:
            hook.remove()
    return answer, maps


def heat(map_: NDArray[np.float32], side: int) -> Image:
    """Return a map (h, w) as a picture: white is 0, red the largest magnitude if positive, blue if negative."""
    share = map_ / max(float(np.abs(map_).max()), 1e-12)
    fading = 1 - np.abs(share)
    channels = [np.where(share >= 0, 1.0, fading), fading, np.where(share <= 0, 1.0, fading)]
    picture = np.rint(255 * np.stack(channels, axis=-1)).astype(np.uint8)
    # Blocks, not a smooth picture: the map has no more detail than this.
    rows = np.arange(side) * len(map_) // side
    columns = np.arange(side) * map_.shape[1] // side
    return picture[rows][:, columns]
