from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from act_hf.errors import ACTError
from act_hf.images import data_uri, prepared


def decoded(uri: str) -> Image.Image:
    head, data = uri.split(",")
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    assert head == f"data:image/{(image.format or '').lower()};base64"
    image.load()
    return image


def photo(width: int = 60, height: int = 40, mode: str = "RGB") -> Image.Image:
    """A gradient from black at the left to red at the right."""
    red = np.tile(np.linspace(0, 255, width, dtype=np.uint8), (height, 1))
    pixels = np.stack([red, np.zeros_like(red), np.zeros_like(red)], axis=-1)
    return Image.fromarray(pixels).convert(mode)


def test_a_photograph_is_a_jpeg():
    image = decoded(data_uri(photo()))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (60, 40))


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "CMYK", "YCbCr", "HSV", "LAB", "P", "RGBX"])
def test_every_opaque_mode_is_a_jpeg(mode):
    image = Image.new(mode, (20, 10)) if mode == "LAB" else photo(mode=mode)
    assert decoded(data_uri(image)).format == "JPEG"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
def test_what_is_transparent_is_a_png(mode):
    image = photo().convert("RGBA")
    image.putalpha(128)
    if mode in ("LA", "RGBa", "La"):
        image = image.convert("LA").convert(mode) if mode == "La" else image.convert(mode)
    elif mode == "PA":
        image = Image.new("PA", (20, 10))
    assert decoded(data_uri(image)).mode == "RGBA"


def test_a_transparent_palette():
    image = photo(mode="P")
    image.info["transparency"] = image.getpixel((0, 0))
    result = decoded(data_uri(image))
    assert result.mode == "RGBA"
    assert result.getpixel((0, 0))[3] == 0


def test_an_alpha_channel_that_hides_nothing_is_left_out():
    assert decoded(data_uri(photo(mode="RGBA"))).format == "JPEG"


def test_it_is_turned_upright():
    image = photo(60, 40)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    result = decoded(data_uri(Image.open(file)))
    assert result.size == (40, 60)
    assert result.getpixel((20, 3))[0] < 60 < 200 < result.getpixel((20, 56))[0]
    assert not result.getexif()


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_sixteen_bits_keep_their_grey(mode):
    values = np.tile(np.linspace(0, 65535, 64), (8, 1)).astype(np.uint16)
    image = Image.fromarray(values) if mode == "I;16" else Image.fromarray(values.astype(np.int32)).convert(mode)
    grey = np.asarray(decoded(data_uri(image)), dtype=int)
    assert abs(grey[4] - np.linspace(0, 255, 64)).max() < 6


@pytest.mark.parametrize("top", [1.0, 255.0, 1000.0])
def test_floats_keep_their_grey(top):
    image = Image.fromarray(np.tile(np.linspace(0, top, 64, dtype=np.float32), (8, 1)))
    grey = np.asarray(decoded(data_uri(image)), dtype=int)
    assert abs(grey[4] - np.linspace(0, 255, 64)).max() < 6


def test_prepared_is_a_copy_that_is_upright_and_eight_bits_deep():
    deep = Image.fromarray(np.tile(np.arange(256, dtype=np.uint16) * 257, (4, 1)))
    deep.getexif()[0x0112] = 6
    image = prepared(deep)
    assert (image.mode, image.size, deep.size) == ("L", (4, 256), (256, 4))
    assert np.asarray(image)[:, 0].tolist() == list(range(256))
    assert [prepared(photo(mode=mode)).mode for mode in ("RGB", "1", "CMYK", "RGBA")] == ["RGB", "L", "RGB", "RGB"]


def test_floats_that_are_none():
    assert decoded(data_uri(Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32)))).mode == "L"
    assert decoded(data_uri(Image.fromarray(np.zeros((4, 4), dtype=np.float32)))).getpixel((0, 0)) == 0


def test_a_large_one_is_made_smaller_and_a_small_one_is_not_made_larger():
    assert decoded(data_uri(photo(3000, 1500), side=1024)).size == (1024, 512)
    assert decoded(data_uri(photo(10, 5), side=1024)).size == (10, 5)


def test_one_row_of_pixels():
    assert decoded(data_uri(photo(5000, 1), side=100)).size == (100, 1)


def test_it_fits_into_its_bytes():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 4), dtype=np.uint8))
    uri = data_uri(noise, most=40_000)
    assert len(base64.b64decode(uri.split(",")[1])) <= 40_000
    with pytest.raises(ACTError, match="does not fit into 100 bytes"):
        data_uri(noise, most=100)


def test_the_same_bytes_every_time_and_no_metadata():
    image = photo()
    tagged = photo()
    tagged.info.update(icc_profile=b"profile", comment=b"secret", dpi=(72, 72))
    assert data_uri(image) == data_uri(image) == data_uri(tagged)


def test_the_image_itself_stays_as_it_is():
    image = photo(300, 200, mode="RGBA")
    before = image.mode, image.size, image.tobytes()
    data_uri(image, side=20)
    assert (image.mode, image.size, image.tobytes()) == before


def test_a_file_that_is_cut_off():
    file = io.BytesIO()
    photo(400, 300).save(file, "PNG")
    with pytest.raises(ACTError, match="the image cannot be read"):
        data_uri(Image.open(io.BytesIO(file.getvalue()[:200])))


def test_no_pixels():
    with pytest.raises(ACTError, match="has no pixels: it is 0 x 5"):
        data_uri(Image.new("RGB", (0, 5)))


def test_a_bomb(monkeypatch):
    file = io.BytesIO()
    photo(50, 50).save(file, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(file)  # Pillow refuses already here, so such a picture never becomes an image
