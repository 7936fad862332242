"""A scene built on another one."""

import dataclasses

import pytest

from sightline.scene.document import Group, SceneError, SceneObject, new_document
from sightline.scene.document.examples import load_example
from sightline.scene.document.merge import built_on, is_built_on

LAMP = SceneObject(id="obj1", prompt="a lamp", group="obj2")


def test_objects_are_added_and_ids_stay_distinct():
    base = load_example("desk")
    base = base.replace(
        groups=(Group(id="g", name="Things"),),
        objects=(dataclasses.replace(base.objects[0], group="g"), *base.objects[1:]),
    )
    own = new_document(objects=(LAMP,), groups=(Group(id="obj2", name="Mine"),))
    both = built_on(base, own)
    assert [o.prompt for o in both.objects] == [*(o.prompt for o in base.objects), "a lamp"]
    assert both.objects[-1] == LAMP and both.objects[0].id == "obj1-2" and both.objects[1].id == "obj2-2"
    names = [one.id for one in (*both.objects, *both.groups, *both.cameras)]
    assert len(set(names)) == len(names)
    assert both.objects[0].group == "g" and [g.id for g in both.groups] == ["g", "obj2"]


def test_the_picture_is_its_own_and_the_background_the_base_s_while_there_is_none():
    base, own = load_example("mars"), new_document(objects=(LAMP,))
    both = built_on(base, own)
    assert (both.cameras, both.output, both.id) == (own.cameras, own.output, own.id)
    assert both.prompt.background == base.prompt.background
    own = own.replace(prompt=dataclasses.replace(own.prompt, background="at night"))
    assert built_on(base, own).prompt.background == "at night"


def test_too_many_objects_are_refused():
    many = new_document(objects=tuple(SceneObject(id=f"o{i}", prompt="x") for i in range(100)))
    with pytest.raises(SceneError, match="200 objects together; at most 128"):
        built_on(many, many)


def test_only_the_switch_makes_it_a_base():
    assert is_built_on(new_document(ext={"sightline": {"scene_in": "base"}}))
    assert not any(is_built_on(new_document(ext=e)) for e in ({}, {"sightline": 3}, {"sightline": {"scene_in": 1}}))
