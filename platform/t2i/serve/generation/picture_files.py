"""Image files that hold the recipe of their picture, which changes none of their pixels.

PNG         iTXt chunk ``t2i`` with the recipe as JSON, and the text ``parameters``, by which galleries show the
            pictures of AUTOMATIC1111's web UI and of its successors
WEBP, JPEG  XMP with the recipe as JSON in the property ``recipe`` of the namespace ``urn:t2i:v1``
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from models.manifest import SHORT
from t2i.image_files import decode_rgb
from t2i.serve.generation.receipt import PictureRecipe, RecipeError, from_json, to_json

CHUNK = "t2i"
"""The keyword of the PNG's chunk."""

NAMESPACE = "urn:t2i:v1"
"""The XML namespace of the recipe in XMP."""

_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:t2i="{namespace}" t2i:recipe={recipe}/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
_NOT_XML = re.compile("[\x7f\ufffe\uffff]")
"""Characters that JSON has and XML has not, or not everywhere; JSON escapes the other control characters itself."""


def recipe_options(recipe: PictureRecipe) -> dict[str, Any]:
    """Return the options of ``Image.save`` that put a recipe into a file of its format."""
    if recipe.file_format != "png":
        return {"xmp": _to_xmp(recipe)}
    info = PngInfo()
    info.add_itxt(CHUNK, to_json(recipe))
    info.add_text("parameters", parameters_text(recipe))  # an iTXt where it has other characters than Latin-1
    return {"pnginfo": info}


def parameters_text(recipe: PictureRecipe) -> str:
    """Return a recipe as galleries read it: the caption, then settings in one line under the names of diffusion."""
    made = recipe.recipe
    settings = {
        "Steps": math.prod(recipe.grid),  # image tokens; without this word parsers do not know the line
        "Sampler": "autoregressive",
        "CFG scale": made.sampling.guidance,
        "Seed": made.seed,
        "Model hash": made.setup.prior.weights[:SHORT],
        "Model": made.model,
        **{name.capitalize().replace("_", " "): value for name, value in asdict(made.sampling).items()},
        "Candidate": recipe.candidate,
        "CLIP score": f"{recipe.score:.4f}",
        "Version": f"t2i-platform {made.setup.package}",
    }
    return f"{made.caption}\n" + ", ".join(f"{name}: {value}" for name, value in settings.items())


def read_picture(data: bytes) -> tuple[np.ndarray, PictureRecipe]:
    """Return the pixels uint8 [H, W, 3] of an image file, and its recipe.

    Raises:
        ImageError: it is no image.
        RecipeError: it has no recipe, or a damaged one.
    """
    pixels = decode_rgb(data)
    return pixels, from_json(PictureRecipe, _recipe_text(data))


def _recipe_text(data: bytes) -> str:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()  # what other programs have saved may have its texts behind the pixels
            info = dict(image.info)
    except Exception as error:  # as of damaged images, PIL raises nearly anything
        raise RecipeError(f"the recipe is damaged ({error}).") from error
    text = info[CHUNK] if CHUNK in info else _from_xmp(info.get("xmp", b""))
    if not text:
        raise RecipeError(
            "there is no recipe in it: it was not made by this service, or with metadata=false, or saved anew."
        )
    return str(text)


def _to_xmp(recipe: PictureRecipe) -> bytes:
    text = _NOT_XML.sub(lambda match: f"\\u{ord(match[0]):04x}", to_json(recipe))
    return _XMP.format(namespace=NAMESPACE, recipe=quoteattr(text)).encode()


def _from_xmp(xmp: bytes) -> str:
    """Return the recipe in XMP, as attribute or as element, as which other programs may have written it; else ""."""
    if b"<!" in xmp:  # a document type: XMP has none, and it may be made to expand without end
        raise RecipeError("the recipe is damaged (its XMP has a document type).")
    try:
        elements = list(ElementTree.fromstring(xmp).iter()) if xmp else []
    except (ElementTree.ParseError, ValueError) as error:
        raise RecipeError(f"the recipe is damaged (its XMP: {error}).") from error
    name = f"{{{NAMESPACE}}}recipe"
    found = [each.get(name) or (each.text if each.tag == name else None) for each in elements]
    return next((text for text in found if text), "")
