"""The scene document: boxes, cameras and words as versioned JSON (docs/layout-scene.md)."""

from .model import (
    Asset,
    Document,
    Environment,
    FileRef,
    Free,
    Gen,
    Group,
    Orbit,
    Output,
    Provenance,
    Render,
    SceneCamera,
    SceneObject,
    ScenePrompt,
    Units,
    Use,
)
from .presets import PRESETS, Preset, harmonise
from .problems import Fix, Problem, SceneError
from .schema import json_schema
from .text import document_to_json, document_to_text, fingerprint, new_document, parse_document, read_document
from .words import PromptParts, check_runnable, prompt_parts, run_problems

__all__ = [
    "Asset", "Document", "Environment", "FileRef", "Fix", "Free", "Gen", "Group", "Orbit", "Output", "PRESETS",
    "Preset", "Problem", "PromptParts", "Provenance", "Render", "SceneCamera", "SceneError", "SceneObject",
    "ScenePrompt", "Units", "Use", "check_runnable", "document_to_json", "document_to_text", "fingerprint",
    "harmonise", "json_schema", "new_document", "parse_document", "prompt_parts", "read_document", "run_problems",
]  # fmt: skip
