"""A picture as part of a request: upright, no larger than it needs to be, the same bytes every time."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError


if TYPE_CHECKING:
    from PIL.Image import Image

_SMALLEST = 64
"""Pixels: a picture that is too many bytes is made smaller, but not smaller than this."""


def data_uri(image: Image, *, side: int = 1024, quality: int = 90, most: int = 4_000_000) -> str:
    """
    The picture as a data URI: PNG where it is transparent anywhere, else JPEG. The image itself is left as it is.

    Args:
        image (`PIL.Image.Image`): in any mode; turned as its EXIF orientation says.
        side (`int`, *optional*, defaults to 1024): pixels of the longer side at most.
        quality (`int`, *optional*, defaults to 90): of the JPEG, 1 to 95.
        most (`int`, *optional*, defaults to 4,000,000): bytes at most, before base64. What is larger is made smaller.

    Returns:
        `str`: `data:image/jpeg;base64,...` or `data:image/png;base64,...`, without any metadata.

    Raises:
        ACTError: for a picture that cannot be decoded, has no pixels, or does not fit into `most`.
    """
    return as_uri(*encoded(image, side=side, quality=quality, most=most))


def as_uri(kind: str, data: bytes) -> str:
    """The file of a picture as a data URI; `kind` is `"jpeg"` or `"png"`."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def encoded(image: Image, *, side: int, quality: int = 90, most: int = 4_000_000) -> tuple[str, bytes]:
    """
    The picture as a file: PNG where it is transparent anywhere, else JPEG. Arguments and errors are those
    of [`data_uri`].

    Returns:
        `tuple` of `str` and `bytes`: `"jpeg"` or `"png"`, and the file, without any metadata.
    """
    from PIL import Image

    picture = prepared(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    while True:
        kind, data = _encode(picture, quality)
        if len(data) <= most:
            return kind, data
        if max(picture.size) <= _SMALLEST:
            raise ACTError(f"the image does not fit into {most:,} bytes")
        smaller = [max(1, pixels * 3 // 4) for pixels in picture.size]
        picture = picture.resize((smaller[0], smaller[1]), Image.Resampling.LANCZOS)


def prepared(image: Image) -> Image:
    """
    A copy of the picture as a person sees it: turned as its EXIF orientation says, 8 bits deep, in mode L, RGB or,
    where it is transparent anywhere, RGBA.

    Raises:
        ACTError: for a picture that cannot be decoded, or has no pixels.
    """
    from PIL import ImageOps

    try:
        return _eight_bit(ImageOps.exif_transpose(image))
    except ACTError:
        raise
    except Exception as error:  # whatever a broken file makes of itself
        raise ACTError(f"the image cannot be read: {type(error).__name__}") from error


def _eight_bit(image: Image) -> Image:
    if not all(image.size):
        raise ACTError(f"the image has no pixels: it is {image.width} x {image.height}")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        whole = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        opaque = whole.getchannel("A").getextrema() == (255, 255)
        return whole.convert("RGB") if opaque else whole
    if image.mode.startswith(("I", "F")):
        return _from_deep(image)
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _from_deep(image: Image) -> Image:
    """Grey of more than 8 bits in 8. Pillow's own conversion cuts off what is above 255, which leaves mostly white."""
    import numpy as np
    from PIL import Image

    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    top = float(values.max())
    # Integers fill 8 or 16 bits, floats 0 to 1 or 0 to 255. What goes beyond is taken by its largest value.
    bounds = {"F": (1.0, 255.0), "I": (255.0, 65535.0)}.get(image.mode, (65535.0,))
    scale = next((bound for bound in bounds if top <= bound), top)
    return Image.fromarray(np.clip(values * 255.0 / scale, 0, 255).astype(np.uint8))


def _encode(picture: Image, quality: int) -> tuple[str, bytes]:
    kind = "png" if picture.mode == "RGBA" else "jpeg"
    options: dict[str, Any] = {} if kind == "png" else {"quality": quality}
    file = io.BytesIO()
    picture.info = {}  # a colour profile or a comment would be written too
    picture.save(file, format=kind, **options)
    return kind, file.getvalue()
