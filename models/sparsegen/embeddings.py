"""Position, time and pose embeddings of SparseGen, as functions on tensors."""

import math

import torch
import torch.nn as nn

from .config import SparseGenConfig

TIME_CHANNELS = 256
POSE_RADIUS = 1.3  # camera distance of the SRN renders; pose channels are divided by it


def inverse_sigmoid(x: torch.Tensor, eps: float = 1e-7) -> torch.Tensor:
    """Logit of `x` clamped to [eps, 1-eps]; any shape."""
    x = x.clamp(eps, 1 - eps)
    return torch.log(x / (1 - x))


def timestep_sinusoid(t: torch.Tensor, dims: int = TIME_CHANNELS, period: float = 10000.0) -> torch.Tensor:
    """[N] times (0..1000) -> [N, dims] float32: cosines of all frequencies, then sines."""
    half = dims // 2
    frequencies = torch.exp(-math.log(period) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimestepEmbedder(nn.Module):
    """Time -> embedding: sinusoid of 256 channels, then Linear, SiLU, Linear."""

    def __init__(self, dims: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_CHANNELS, dims), nn.SiLU(), nn.Linear(dims, dims))

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """[N] times -> [N, dims] in the dtype of the weights."""
        return self.mlp(timestep_sinusoid(t).to(self.mlp[0].weight.dtype))


def _periods(dims: int, device) -> torch.Tensor:
    index = torch.arange(dims, dtype=torch.float32, device=device)
    return 10000.0 ** (2 * torch.div(index, 2, rounding_mode="floor") / dims)


def anchor_sinusoid(points: torch.Tensor, dims: int) -> torch.Tensor:
    """[..., 3] box coordinates -> [..., 3*dims]: per axis, in the order y, x, z, interleaved sine and cosine."""
    angles = points[..., None] * (2 * math.pi) / _periods(dims, points.device)  # [...,3,dims]
    waves = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1).flatten(-2)
    return torch.cat([waves[..., 1, :], waves[..., 0, :], waves[..., 2, :]], dim=-1)


def view_sinusoid(views: int, rows: int, columns: int, dims: int, device=None) -> torch.Tensor:
    """[views, 3*dims, rows, columns]: place of a feature cell among views, rows and columns
    (in this order of channels).

    Each axis is counted 1..n and divided by n, so the values depend on how many views there are. Within an axis all
    sines come first, then all cosines.
    """
    periods = _periods(dims, device)

    def axis(n):
        position = torch.arange(1, n + 1, dtype=torch.float32, device=device)
        angles = (position / (position[-1] + 1e-6) * (2 * math.pi))[:, None] / periods
        return torch.cat([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=-1)  # [n, dims]

    shape = (views, rows, columns, dims)
    waves = [
        axis(views)[:, None, None, :].expand(shape),
        axis(rows)[None, :, None, :].expand(shape),
        axis(columns)[None, None, :, :].expand(shape),
    ]
    return torch.cat(waves, dim=-1).permute(0, 3, 1, 2)


def frustum_logits(world_to_camera: torch.Tensor, config: SparseGenConfig) -> torch.Tensor:
    """Where the feature cells of each view lie in the world box, as logits.

    `world_to_camera` [..., 4, 4] float32, OpenCV axes. Returns [..., depth_num*3, g, g] float32 with
    g = ``config.feature_grid``: for every depth (near to far, far excluded) x, y, z of the cell center unprojected to
    it, in box coordinates, through `inverse_sigmoid`; points outside the box saturate.
    """
    world_to_camera = world_to_camera.float()
    device, grid = world_to_camera.device, config.feature_grid
    pixels = (torch.arange(grid, device=device).float() + 0.5) / grid * config.input_size
    ndc = -2 * pixels / config.input_size + 1
    near, far = config.znear, config.zfar
    depths = near + (far - near) / config.depth_num * torch.arange(config.depth_num, device=device).float()
    d, y, x = torch.meshgrid(depths, ndc, ndc, indexing="ij")
    projection = _projection(config)
    points = torch.stack([x, y, (projection[2, 2] * d + projection[3, 2]) / d, torch.ones_like(d)], dim=-1)  # [D,g,g,4]
    homogeneous = points.flatten(0, 2) @ _unprojection(world_to_camera.cpu(), projection).to(device)  # [...,D*g*g,4]
    world = (homogeneous[..., :3] / homogeneous[..., 3:]).unflatten(-2, d.shape).movedim(-1, -3)
    low, high = torch.tensor(config.position_range, device=device).view(2, 3, 1, 1)
    return inverse_sigmoid((world - low) / (high - low)).flatten(-4, -3)


def _projection(config: SparseGenConfig) -> torch.Tensor:
    """[4,4] row-vector matrix from camera axes (x left, y up) to PyTorch3D's NDC, in its float32 arithmetic."""
    near, far = torch.tensor(config.znear), torch.tensor(config.zfar)
    slope = torch.tan(math.pi / 180 * torch.tensor(config.fov) / 2)
    matrix = torch.zeros(4, 4)
    matrix[0, 0] = matrix[1, 1] = 1 / slope
    matrix[2, 2], matrix[3, 2], matrix[2, 3] = far / (far - near), -(far * near) / (far - near), 1
    return matrix


def _unprojection(world_to_camera: torch.Tensor, projection: torch.Tensor) -> torch.Tensor:
    """[...,4,4] row-vector matrices from PyTorch3D's NDC (x left, y up, projected depth) to the world.

    Composed of the float32 inverses of projection, translation and rotation, as PyTorch3D does. The closed form is more
    accurate, but the logits are so steep near the box faces that its rounding (1e-7) would move the embedding by 3e-4
    and gradients by 1e-3 against the official code. On the CPU, so that every device rounds alike.
    """
    axes = torch.tensor([-1.0, -1.0, 1.0])
    rotation = torch.eye(4).expand(world_to_camera.shape).clone()
    translation = rotation.clone()
    rotation[..., :3, :3] = world_to_camera[..., :3, :3].mT * axes
    translation[..., 3, :3] = world_to_camera[..., :3, 3] * axes
    return torch.linalg.inv(projection) @ torch.linalg.inv(translation) @ torch.linalg.inv(rotation)


def pose_channels(world_to_camera: torch.Tensor, config: SparseGenConfig, size: int | None = None) -> torch.Tensor:
    """The six pose channels of each view: camera center (3), then world-space ray direction per pixel (3).

    `world_to_camera` [..., 4, 4] float32, OpenCV axes -> [..., 6, S, S] float32, S = `size` or ``config.input_size``.
    The center is divided by 1.3 if ``config.normalize_pose``. With ``ray_convention="reference"`` a pixel center (x, y)
    has the camera direction ((x+S)/f, (y+S)/f, 1), far off the optical axis: this is what the published weights were
    trained with. ``"centered"`` is the true ray ((x-S/2)/f, (y-S/2)/f, 1).
    """
    world_to_camera = world_to_camera.float()
    size = size or config.input_size
    pixels = torch.linspace(0.5, size - 0.5, size, device=world_to_camera.device)
    shift = size if config.ray_convention == "reference" else -size / 2
    slopes = (pixels + shift) / config.focal(size)
    y, x = torch.meshgrid(slopes, slopes, indexing="ij")
    rays = torch.nn.functional.normalize(torch.stack([x, y, torch.ones_like(x)]), dim=0)  # [3,S,S]
    rotation, translation = world_to_camera[..., :3, :3], world_to_camera[..., :3, 3]
    directions = torch.einsum("...ij,ihw->...jhw", rotation, rays)
    center = -torch.einsum("...ij,...i->...j", rotation, translation)
    if config.normalize_pose:
        center = center / POSE_RADIUS
    return torch.cat([center[..., None, None].expand_as(directions), directions], dim=-3)


def assemble_views(
    config: SparseGenConfig,
    clean: torch.Tensor,
    noisy: torch.Tensor,
    world_to_camera: torch.Tensor,
    self_condition: torch.Tensor | None = None,
    pose: torch.Tensor | None = None,
) -> torch.Tensor:
    """The network's input pictures, clean views first: color (3), pose (6), self-conditioning color (3).

    `clean` [B,Nc,3,S,S] and `noisy` [B,Nn,3,S,S] in [-1,1] (noise may exceed it), `world_to_camera` [B,V,4,4] with
    V = Nc+Nn, `self_condition` [B,Nn,3,S,S] (zeros if absent; clean views are their own), `pose` [B,V,6,S,S] if
    `pose_channels` is at hand already. Returns [B,V,12,S,S].
    """
    if self_condition is None:
        self_condition = torch.zeros_like(noisy)
    if pose is None:
        pose = pose_channels(world_to_camera[:, : clean.shape[1] + noisy.shape[1]], config, clean.shape[-1])
    colors = torch.cat([clean, noisy], dim=1)
    return torch.cat([colors, pose.to(colors.dtype), torch.cat([clean, self_condition], dim=1)], dim=2)


def view_times(clean: int, noisy: int, t: torch.Tensor) -> torch.Tensor:
    """[B] times of the noisy views -> [B, clean+noisy] float32 per-view times: 0 for every clean view."""
    t = t.float()[:, None]
    return torch.cat([torch.zeros_like(t).expand(-1, clean), t.expand(-1, noisy)], dim=1)
