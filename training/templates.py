"""Sentences that a class's name is put into, where ``{}`` stands."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from etl.errors import UserError

#: The 80 of CLIP's paper for ImageNet, in their order: github.com/openai/CLIP,
#: notebooks/Prompt_Engineering_for_ImageNet.ipynb.
OPENAI: Final = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)

#: The name alone.
NONE: Final = ("{}",)

_SHIPPED: Final = {"openai": OPENAI, "none": NONE}


def templates(name: str) -> tuple[str, ...]:
    """``openai``, ``none``, or those of a file, one a line.

    Raises UserError for a file that isn't there, is empty, or has a line without ``{}``.
    """
    if name in _SHIPPED:
        return _SHIPPED[name]
    try:
        lines = Path(name).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--templates {name}: can't be read ({error}); give openai, none or a text file with "
            "a template a line."
        ) from error
    found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise UserError(f"{name} has no template: write one a line, with {{}} for the name.")
    for line in found:
        if line.count("{}") != 1:
            raise UserError(
                f"{name}: {line!r} has {line.count('{}')} places for a name; write {{}} once."
            )
    return found


def filled(template: str, name: str, natural_type: str = "") -> str:
    """The sentence; with a natural type "a photo of a lion, a type of mammal.".

    The clause goes before the full stop, as in CLIP's own prompts for finer classes ("a photo of a
    {}, a type of pet.").
    """
    sentence = template.replace("{}", name)
    if not natural_type:
        return sentence
    end = "." if sentence.endswith(".") else ""
    return f"{sentence.removesuffix('.')}, a type of {natural_type}{end}"
