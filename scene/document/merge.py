"""One scene built on another."""

from __future__ import annotations

import dataclasses

from .model import MAX_OBJECTS, Document
from .problems import refuse


def built_on(base: Document, own: Document) -> Document:
    """`own` with the objects and folders of `base` before its own; cameras, picture and words of the prompt are own's.

    The background is base's while own has none. Ids of base that own has too are changed ("chair" -> "chair-2").
    Raises SceneError E112 where there are more than 128 objects together.
    """
    count = len(base.objects) + len(own.objects)
    if count > MAX_OBJECTS:
        text = f"The connected scene and this one have {count} objects together; at most {MAX_OBJECTS}."
        raise refuse("E112", "/objects", text)
    taken = {one.id for one in (*own.objects, *own.groups, *own.cameras)}
    names: dict[str, str] = {}

    def renamed(old: str) -> str:
        if old not in names:
            new, n = old, 2
            while new in taken:
                new, n = f"{old[:58]}-{n}", n + 1
            taken.add(new)
            names[old] = new
        return names[old]

    groups = tuple(dataclasses.replace(g, id=renamed(g.id)) for g in base.groups)
    objects = tuple(
        dataclasses.replace(o, id=renamed(o.id), group=None if o.group is None else renamed(o.group))
        for o in base.objects
    )
    background = own.prompt.background or base.prompt.background
    return own.replace(
        objects=(*objects, *own.objects),
        groups=(*groups, *own.groups),
        prompt=dataclasses.replace(own.prompt, background=background),
    )


def is_built_on(own: Document) -> bool:
    """Whether a scene that is connected to this one's editor is its base; else it takes its place."""
    ours = own.ext.get("sightline")
    return isinstance(ours, dict) and ours.get("scene_in") == "base"
