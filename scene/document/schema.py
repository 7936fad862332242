"""The JSON Schema of the scene document, made from the document classes.

`scene/document/schema/scene-v1.schema.json` is this, checked in for the editor and for other programs; a test fails if
the two differ. Rewrite it with `FILE.write_text(schema_text(), encoding="utf-8")`.
"""

from __future__ import annotations

import json
from pathlib import Path

from .fields import part_schema
from .model import FORMAT, VERSION, Document

FILE = Path(__file__).parent / "schema" / f"scene-v{VERSION}.schema.json"


def json_schema() -> dict:
    """The schema, draft 2020-12; unknown keys are allowed everywhere, since readers keep them."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{FORMAT}:v{VERSION}",
        "title": "Sightline scene document",
        **part_schema(Document),
    }


def schema_text() -> str:
    """The text of the checked-in file."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"
