"""SparseGen: one to six posed pictures of an object -> Gaussian splats. Read top to bottom.

Paper: Rethinking Image-to-3D Generation with Sparse Queries (arXiv 2604.13905). The network looks at clean views (the
pictures) and noisy views (cameras without a picture, which start as noise), and predicts Gaussians; rendering them at
the noisy views is its guess of the clean pictures there, which is all that rectified flow needs.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from ..kernels import splat
from ..kernels.splat import Render
from ..models.sparsegen import (
    Gaussians,
    SparseGen,
    assemble_views,
    network_time,
    pose_channels,
    render_views,
    sampling_schedule,
    view_times,
)
from ..scene.cameras import Cameras, orbit
from ..scene.errors import InputError
from ..scene.frames import rotate_cameras, rotation_about_z
from ..scene.splats import Splats
from ..scene.views import check_images

MAX_CLEAN_VIEWS = 6
FOV_TOLERANCE = 0.5  # degrees
RADIUS = 1.3  # camera distance the published and the embedded weights know
ELEVATION = 20.0

Callback = Callable[[int, int], None]
Preview = Callable[[torch.Tensor], None]


@torch.no_grad()
def sample_sparsegen(
    model: SparseGen,
    images: torch.Tensor,
    cameras_clean: Cameras | None = None,
    cameras_virtual: Cameras | None = None,
    *,
    steps: int = 1,
    seed: int = 0,
    noise: torch.Tensor | None = None,
    noise_scale: float = 1.0,
    renderer: Callable | None = None,
    callback: Callback | None = None,
    preview: Preview | None = None,
) -> Splats:
    """Splats of the object in `images`, in the world frame (Z up) of the cameras.

    `images` [Nc,3,H,W] float in [0,1] on the background the weights know (white), Nc from 1 to 6, resampled to the
    model's picture size. `cameras_clean`: their cameras; None for a single picture: `clean_cameras` places it.
    `cameras_virtual`: any number of further cameras that start as noise; None: `virtual_cameras`; an empty `Cameras`
    (``cameras[:0]``) makes it a plain regression from the pictures. `steps` of rectified flow (1 = one pass), `noise`
    [Nv,3,S,S] standard normal, S = ``model.config.input_size``; None: drawn on the CPU from `seed`, times
    `noise_scale` (1 is what the weights know; less makes what no picture shows more average).
    `renderer` as in `render_views`. `callback(done, total)` is called after each step; raising in it aborts.
    `preview(pictures)` gets the virtual views as they are guessed so far, [Nv,3,S,S] in [0,1], before each call of
    `callback` but the last.
    Raises InputError for empty, non-square or NaN pictures, more than 6, counts that do not match, cameras of another
    field of view.
    """
    config, device = model.config, model.device
    clean = prepare_images(images, config.input_size).to(device) * 2 - 1
    if cameras_clean is None:
        if len(clean) > 1:
            raise InputError(
                f"`images` holds {len(clean)} pictures but `cameras_clean` is missing; give one camera for each."
            )
        cameras_clean = clean_cameras([0.0], config.fov, config.input_size)
    if len(cameras_clean) != len(clean):
        raise InputError(
            f"There are {len(clean)} pictures but {len(cameras_clean)} cameras for them; "
            "give one camera for each picture."
        )
    check_cameras(cameras_clean, "cameras_clean", config.fov)
    if cameras_virtual is None:
        cameras_virtual = virtual_cameras(cameras_clean, config.virtual_views)
    check_cameras(cameras_virtual, "cameras_virtual", config.fov)
    shape = (len(cameras_virtual), 3, config.input_size, config.input_size)
    if noise is None:
        if not 0 <= noise_scale < math.inf or not 0 <= seed < 1 << 64:
            raise InputError(
                f"`noise_scale` is {noise_scale} and `seed` {seed}; "
                "a number from 0 and a whole number below 2^64 are needed."
            )
        noise = noise_scale * torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))[0]
    elif tuple(noise.shape) != shape or not torch.isfinite(noise).all():
        raise InputError(
            f"`noise` has shape {list(noise.shape)}; "
            f"{list(shape)} finite numbers are needed, one picture per virtual camera."
        )
    turn = first_azimuth(cameras_clean) if config.align_first_view else 0.0
    known = [
        rotate_cameras(cameras, rotation_about_z(-turn)) if turn else cameras
        for cameras in (cameras_clean, cameras_virtual)
    ]
    world_to_camera = torch.cat([cameras.world_to_camera.to(device) for cameras in known])
    gaussians = sample_gaussians(
        model,
        clean[None],
        world_to_camera[None],
        noise[None].to(device, torch.float32),
        steps=steps,
        renderer=renderer,
        callback=callback,
        preview=preview,
    )
    return gaussians[0].rotated(rotation_about_z(turn)) if turn else gaussians[0]


@torch.no_grad()
def sample_gaussians(
    model: SparseGen,
    clean: torch.Tensor,
    world_to_camera: torch.Tensor,
    noise: torch.Tensor,
    *,
    steps: int = 1,
    renderer: Callable | None = None,
    callback: Callback | None = None,
    preview: Preview | None = None,
    cached: bool = True,
) -> Gaussians:
    """Gaussians of B objects.

    `clean` [B,Nc,3,S,S] in [-1,1], `world_to_camera` [B,Nc+Nn,4,4] OpenCV float32, clean views first, `noise`
    [B,Nn,3,S,S] standard normal; float32 on the model's device. `cached=False` encodes the clean views and the
    positions anew in each step, as the published sampler does; the result is the same. `preview` sees the first object.
    """
    config = model.config
    sampling_schedule(steps, config.train_steps)  # refuses a wrong number of steps before anything is computed
    clean_count, noisy_count = clean.shape[1], noise.shape[1]
    pose = pose_channels(world_to_camera, config)
    cache = None
    if cached:
        clean_views = assemble_views(config, clean, noise[:, :0], world_to_camera, pose=pose[:, :clean_count])
        cache = model.cache(clean_views, world_to_camera)

    def predict(x: torch.Tensor, time: torch.Tensor, self_condition: torch.Tensor) -> Gaussians:
        times = view_times(clean_count, noisy_count, time.expand(len(x)).to(x.device))
        if cache is None:
            views = assemble_views(config, clean, x, world_to_camera, self_condition, pose)
        else:
            views = torch.cat([x, pose[:, clean_count:], self_condition], dim=2)
        return model(views, times, world_to_camera, cache=cache)[0]

    def pictures(gaussians: Gaussians) -> torch.Tensor:
        drawn = render_views(gaussians, world_to_camera[:, clean_count:], config, renderer=renderer)[0]
        if preview:
            preview((drawn[0] / 2 + 0.5).clamp(0, 1))
        return drawn

    if noisy_count == 0:  # nothing is denoised: further steps would repeat the first
        gaussians = predict(noise, torch.zeros(()), noise)
        if callback:
            callback(1, 1)
        return gaussians
    return rectified_flow(predict, pictures, noise, steps, config.train_steps, callback)


def rectified_flow(
    predict: Callable,
    pictures: Callable,
    x: torch.Tensor,
    steps: int,
    train_steps: int = 1000,
    callback: Callback | None = None,
):
    """The sampler: Euler steps of the straight flow from noise to pictures; returns what the last `predict` gave.

    `predict(x, time, self_condition)` sees the noisy views x [B,Nn,3,S,S], an integer-valued time and its own last
    (clamped) pictures, zeros at first; `pictures(prediction)` are the clean views x0 it stands for. Only the
    intermediate steps need pictures: x <- x + (sigma' - sigma) (x - x0) / sigma.
    """
    sigmas, times = sampling_schedule(steps, train_steps)
    self_condition = torch.zeros_like(x)
    for i in range(steps):
        prediction = predict(x, network_time(times[i]), self_condition)
        if i < steps - 1:
            x0 = pictures(prediction).clamp(-1, 1)
            self_condition = x0
            sigma, following = sigmas[i].to(x.device), sigmas[i + 1].to(x.device)
            x = x + (following - sigma) * ((x - x0) / sigma)
        if callback:
            callback(i + 1, steps)
    return prediction


def working_memory(config, views: int) -> int:
    """Bytes that sampling with `views` views, clean and virtual, needs beside the weights:
    a generous estimate for hosts.
    """
    tokens = views * (config.feature_grid**2 + 1)
    widths = (
        12 * config.vit_dims
        + 2 * config.vit_mlp_dims
        + 16 * config.embed_dims
        + 2 * config.ffn_dims
        + 6 * config.depth_num
    )
    attention = config.num_heads * tokens * max(tokens, config.num_query)
    return 8 * tokens * widths + 8 * attention + 64 * config.num_gaussians * config.head_sets


def render_splats(
    splats: Splats,
    cameras: Cameras,
    *,
    background: Sequence[float] | None = (1.0, 1.0, 1.0),
    backend: str = "auto",
    callback: Callback | None = None,
) -> Render:
    """Pictures of `splats` from `cameras`, a separate step: color [V,H,W,3], alpha [V,H,W], depth [V,H,W], on the
    cameras' device.

    `kernels.splat.render_splats`, on white unless `background` says otherwise (an RGB color in [0,1]; None leaves the
    colors premultiplied by alpha).
    """
    return splat.render_splats(
        splats.to(cameras.device), cameras, background=background, backend=backend, callback=callback
    )


def clean_cameras(
    azimuths: Sequence[float],
    fov: float,
    size: int,
    elevation: float | Sequence[float] = ELEVATION,
    radius: float = RADIUS,
) -> Cameras:
    """Cameras of pictures whose azimuths (degrees, relative to the first picture's) are known:
    an orbit around the origin.
    """
    return orbit(list(azimuths), elevation, radius, fov, size, size)


def virtual_cameras(cameras: Cameras, count: int = 3) -> Cameras:
    """`count` cameras spread evenly around the world's Z axis, starting from the first of `cameras`,
    at its height and distance.

    They look at the origin and share its picture size and field of view.
    """
    if count == 0:
        return cameras[:0]
    x, y, z = cameras.centers[0].tolist()
    radius = math.sqrt(x * x + y * y + z * z)
    if radius < 1e-6:
        raise InputError(
            "The first camera stands at the origin, where the object is; move it away (the weights know radius 1.3)."
        )
    elevation = math.degrees(math.asin(max(-1.0, min(1.0, z / radius))))
    azimuths = [first_azimuth(cameras) + 360 * (i + 1) / (count + 1) for i in range(count)]
    return orbit(azimuths, elevation, radius, float(cameras.fov_x[0]), cameras.width, cameras.height)


def first_azimuth(cameras: Cameras) -> float:
    """Azimuth of the first camera's center about the world's Z axis, degrees (0 on the axis itself)."""
    x, y = cameras.centers[0, :2].tolist()
    return math.degrees(math.atan2(y, x)) if math.hypot(x, y) > 1e-6 else 0.0


def prepare_images(images: torch.Tensor, size: int) -> torch.Tensor:
    """Check pictures [Nc,3,H,W] in [0,1] and resample them to [Nc,3,size,size] float32 (bilinear, antialiased)."""
    if images.ndim == 4 and images.shape[1] != 3:
        raise InputError(f"`images` has {images.shape[1]} channels; RGB pictures [views, 3, height, width] are needed.")
    if images.ndim == 4 and len(images) > MAX_CLEAN_VIEWS:
        raise InputError(
            f"`images` holds {len(images)} pictures; "
            f"SparseGen takes 1 to {MAX_CLEAN_VIEWS}, further cameras can be virtual views."
        )
    checked = check_images(images)
    if not images.is_floating_point() or float(images.max()) > 1.01 or float(images.min()) < -0.01:
        raise InputError(
            f"`images` has values from {float(images.min()):.3g} to {float(images.max()):.3g}; "
            "colors must be floats in [0, 1]."
        )
    images = checked
    height, width = images.shape[-2:]
    if height != width:
        raise InputError(f"`images` are {width}x{height} pixels; SparseGen needs square pictures, crop or pad them.")
    if height != size:
        images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)
    return images


def check_cameras(cameras: Cameras, name: str, fov: float) -> None:
    """Raise InputError unless all cameras have a square picture and the field of view (degrees) the weights know."""
    if cameras.width != cameras.height:
        raise InputError(f"`{name}` have {cameras.width}x{cameras.height} pixels; SparseGen needs square pictures.")
    for angle in torch.cat([cameras.fov_x, cameras.fov_y]).tolist():
        if abs(angle - fov) > FOV_TOLERANCE:
            raise InputError(
                f"`{name}` have a field of view of {angle:.2f} degrees; these weights know {fov:.2f} only, "
                "crop or rescale the pictures to it."
            )
