"""Trained networks that score results, from folders the user names: CLIP, Point-E's PointNet. Nothing is downloaded."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...scene.errors import InputError, MissingDependency

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
POINTNET = "pointnet.pt"
POINTS = 4096


class Clip:
    """CLIP from a folder as the transformers library saves it (openai/clip-vit-base-patch32 in the paper).

    Raises MissingDependency without the library and InputError where the folder holds no CLIP.
    """

    def __init__(self, folder: str | os.PathLike, device: torch.device | str = "cpu"):
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise InputError(f"There is no config.json in {folder}; give a folder with CLIP, as transformers saves it.")
        try:
            from transformers import AutoTokenizer, CLIPModel
        except ImportError:
            raise MissingDependency(
                "CLIP scores need the transformers library; run `pip install transformers`."
            ) from None
        try:
            self.model = CLIPModel.from_pretrained(folder, local_files_only=True).eval().to(device)
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{folder} holds no CLIP that can be read: {first.rstrip('.')}.") from None
        self.device, self.size = device, int(self.model.config.vision_config.image_size)

    @torch.no_grad()
    def pictures(self, pictures: Tensor) -> Tensor:
        """Features [N, D] of pictures [N, 3, H, W] in [0, 1], resized bicubically."""
        x = F.interpolate(pictures.float(), (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (x.new_tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
        return _tensor(self.model.get_image_features(pixel_values=((x - mean) / std).to(self.device))).cpu()

    @torch.no_grad()
    def words(self, text: str) -> Tensor:
        """Features [D] of words; what is longer than CLIP reads is cut off."""
        longest = int(self.model.config.text_config.max_position_embeddings)
        tokens = self.tokenizer([text], return_tensors="pt", truncation=True, max_length=longest).to(self.device)
        known = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        return _tensor(self.model.get_text_features(**known)).cpu()[0]


def _tensor(out) -> Tensor:
    return out if isinstance(out, Tensor) else out.pooler_output


class PointNet:
    """Point-E's evaluator of point clouds from a folder with pointnet.pt.

    Raises MissingDependency without the package point_e and InputError where the file is not there or does not fit.
    """

    def __init__(self, folder: str | os.PathLike, device: torch.device | str = "cpu"):
        file = Path(folder) / POINTNET
        if not file.is_file():
            raise InputError(f"There is no {POINTNET} in {folder}; Point-FID needs Point-E's evaluator.")
        try:
            from point_e.evals.pointnet2_cls_ssg import get_model
        except ImportError:
            raise MissingDependency(
                "Point-FID needs the package point-e; see its repository, openai/point-e."
            ) from None
        network = get_model(num_class=40, normal_channel=False, width_mult=2)
        try:
            network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True)["model_state_dict"])
        except Exception as error:  # pickle's, zip's, torch's own
            raise InputError(f"{file} is not Point-E's evaluator ({type(error).__name__}).") from None
        self.network, self.device = network.eval().to(device), device

    @torch.no_grad()
    def __call__(self, clouds: Tensor) -> Tensor:
        """Features [N, 256] of clouds [N, P, 3]."""
        return self.network(unit_sphere(clouds).mT.to(self.device, torch.float32), features=True)[2].cpu()


def unit_sphere(clouds: Tensor) -> Tensor:
    """Clouds [N, P, 3] moved to their mean and scaled to reach 1, as Point-E's evaluator wants them."""
    centered = clouds - clouds.mean(1, keepdim=True)
    return centered / centered.norm(dim=-1, keepdim=True).amax(1, keepdim=True).clamp_min(1e-12)
