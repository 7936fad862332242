"""ComfyUI-Sightline: what ComfyUI loads. The library itself is imported as ``sightline.<part>``."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Return the ComfyUI extension; the nodes (and with them the host) are imported only when ComfyUI asks."""
    from .nodes import SightlineExtension

    return SightlineExtension()
