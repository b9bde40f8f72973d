"""torchvision, also where its build and torch's don't match; import it from here before open_clip.

Package indexes give a CPU build of torch and a CUDA build of torchvision to whoever pins both
without a word of where from. Importing the latter fails then ("operator torchvision::nms does not
exist"), since its compiled operators can't be loaded, for the sake of two that detectors use and
CLIP doesn't. Where that happens they are declared, without anything that would run them; where
torchvision can be imported, nothing is done.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import torch

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _imported() -> Any:
    """What declares the operators as long as it lives, or None where torchvision has them."""
    try:
        import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return None
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half of them were imported
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for signature in _OPERATORS:
        library.define(signature)
    import_module("torchvision")
    return library


_declared = _imported()

#: Why others' programs, which don't import this, can't import open_clip here; "": they can.
WHY_NOT = (
    ""
    if _declared is None
    else (
        "torchvision's build isn't torch's, so outside sparqless `import open_clip` fails here "
        "(operator torchvision::nms does not exist): install both from one index."
    )
)
