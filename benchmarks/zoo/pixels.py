"""Colours, augmentation and losses over pixels: images of 3 channels, last, as JAX has them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.zoo.images import Network

SIZE = 96
GREY = np.array([0.299, 0.587, 0.114], np.float32)
YUV = np.array([[0.299, 0.587, 0.114], [-0.147, -0.289, 0.436], [0.615, -0.515, -0.1]], np.float32)


def pictures(count: int) -> tuple[np.ndarray, ...]:
    """As many batches of two images from 0 to 1."""
    random = np.random.default_rng(0)
    return tuple(random.random((2, SIZE, SIZE, 3), np.float32) for _ in range(count))


def rgb_to_hsv(rgb: jax.Array) -> jax.Array:
    """Hue from 0 to 1, saturation, value."""
    r, g, b = rgb[..., 0:1], rgb[..., 1:2], rgb[..., 2:3]
    value, least = rgb.max(-1, keepdims=True), rgb.min(-1, keepdims=True)
    span = value - least
    safe = jnp.where(span == 0, 1.0, span)
    hue = jnp.where(
        value == r,
        (g - b) / safe % 6,
        jnp.where(value == g, (b - r) / safe + 2, (r - g) / safe + 4),
    )
    saturation = jnp.where(value == 0, 0.0, span / jnp.where(value == 0, 1.0, value))
    return jnp.concatenate([jnp.where(span == 0, 0.0, hue / 6), saturation, value], -1)


def hsv_to_rgb(hsv: jax.Array) -> jax.Array:
    """The inverse, without branches."""
    h, s, v = hsv[..., 0:1], hsv[..., 1:2], hsv[..., 2:3]
    places = jnp.array([5.0, 3.0, 1.0])
    k = (places + h * 6) % 6
    return v - v * s * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)


def hsv_by_sectors(hsv: jax.Array) -> jax.Array:
    """The inverse, with a choice between six."""
    h, s, v = jnp.split(hsv, 3, -1)
    sector = jnp.floor(h * 6)
    f = h * 6 - sector
    p, q, t = v * (1 - s), v * (1 - f * s), v * (1 - (1 - f) * s)
    r, g, b = v, t, p
    each = ((q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q))
    for number, colours in enumerate(each, 1):
        here = sector == number
        r, g, b = (jnp.where(here, new, old) for new, old in zip(colours, (r, g, b), strict=True))
    return jnp.concatenate([r, g, b], -1)


def turned_hue(rgb: jax.Array) -> jax.Array:
    hsv = rgb_to_hsv(rgb)
    hue = (hsv[..., :1] + 0.1) % 1.0
    return hsv_to_rgb(jnp.concatenate([hue, hsv[..., 1:]], -1))


def grey(rgb: jax.Array) -> jax.Array:
    return (rgb * GREY).sum(-1, keepdims=True)


def saturated(rgb: jax.Array) -> jax.Array:
    plain = grey(rgb)
    return jnp.clip(plain + 1.4 * (rgb - plain), 0, 1)


def contrasted(rgb: jax.Array) -> jax.Array:
    mean = grey(rgb).mean((1, 2), keepdims=True)
    return jnp.clip(mean + 1.3 * (rgb - mean) + 0.05, 0, 1)


def linear_light(rgb: jax.Array) -> jax.Array:
    return jnp.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def normalized(rgb: jax.Array) -> jax.Array:
    mean, deviation = jnp.array([0.485, 0.456, 0.406]), jnp.array([0.229, 0.224, 0.225])
    return (rgb - mean) / deviation


def solarized(rgb: jax.Array) -> jax.Array:
    few = jnp.floor(rgb * 8) / 8
    return jnp.where(few >= 0.5, 1 - few, few)


def cut_out(rgb: jax.Array, corner: jax.Array) -> jax.Array:
    rows, columns = jnp.arange(SIZE)[:, None], jnp.arange(SIZE)[None]
    inside = (rows >= corner[0]) & (rows < corner[0] + 24)
    inside = inside & (columns >= corner[1]) & (columns < corner[1] + 24)
    return jnp.where(inside[None, :, :, None], 0.5, rgb)


def mixed(a: jax.Array, b: jax.Array) -> jax.Array:
    weight = jax.nn.sigmoid(grey(a) - grey(b))
    return jnp.flip(weight * a + (1 - weight) * b, 2)


def with_vignette(rgb: jax.Array) -> jax.Array:
    axis = jnp.linspace(-1, 1, SIZE)
    far = axis[:, None] ** 2 + axis[None] ** 2
    return rgb * jnp.exp(-far)[None, :, :, None]


def in_yuv(rgb: jax.Array) -> jax.Array:
    yuv = jnp.einsum("nhwc,dc->nhwd", rgb, YUV)
    return yuv + jnp.array([0.0, 0.5, 0.5])


def sobel(rgb: jax.Array) -> jax.Array:
    x = jnp.pad(grey(rgb), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    across = x[:, 1:-1, 2:] - x[:, 1:-1, :-2]
    down = x[:, 2:, 1:-1] - x[:, :-2, 1:-1]
    return jnp.sqrt(across**2 + down**2 + 1e-6)


def blended(front: jax.Array, back: jax.Array, alpha: jax.Array) -> jax.Array:
    kept = jnp.clip(alpha[..., :1], 0, 1)
    return jnp.where(back < 0.5, 2 * front * back, 1 - 2 * (1 - front) * (1 - back)) * kept + (
        back * (1 - kept)
    )


def charbonnier(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sqrt((a - b) ** 2 + 1e-6).mean((1, 2, 3))


def masked_loss(a: jax.Array, b: jax.Array, mask: jax.Array) -> jax.Array:
    seen = (mask[..., :1] > 0.3).astype(a.dtype)
    error = jnp.where(jnp.abs(a - b) < 0.5, 0.5 * (a - b) ** 2, jnp.abs(a - b) - 0.25)
    return (error * seen).sum() / (seen.sum() * 3 + 1e-6)


def variation(a: jax.Array) -> jax.Array:
    return jnp.abs(a[:, 1:] - a[:, :-1]).mean() + jnp.abs(a[:, :, 1:] - a[:, :, :-1]).mean()


def likeness(a: jax.Array, b: jax.Array) -> jax.Array:
    """Structural similarity of grey images over windows of 8 x 8."""

    def mean(x: jax.Array) -> jax.Array:
        window = (1, 8, 8, 1)
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1, 4, 4, 1), "VALID") / 64

    x, y = grey(a), grey(b)
    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    above = (2 * mx * my + 1e-4) * (2 * both + 9e-4)
    return (above / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))).mean()


def function(call: Callable[..., Any], *inputs: np.ndarray) -> Callable[[], Network]:
    """A function without parameters, as an entry."""
    return lambda: ({}, lambda _, *args: call(*args), inputs)


ONE, TWO, THREE = pictures(1), pictures(2), pictures(3)
PIXELS: dict[str, Callable[[], Network]] = {
    "RGB to HSV": function(rgb_to_hsv, *ONE),
    "HSV to RGB": function(hsv_to_rgb, *ONE),
    "HSV, sectors": function(hsv_by_sectors, *ONE),
    "hue": function(turned_hue, *ONE),
    "saturation": function(saturated, *ONE),
    "contrast": function(contrasted, *ONE),
    "linear light": function(linear_light, *ONE),
    "normalized": function(normalized, *ONE),
    "solarized": function(solarized, *ONE),
    "cutout": function(cut_out, *ONE, np.array([11, 40], np.int32)),
    "mixup": function(mixed, *TWO),
    "vignette": function(with_vignette, *ONE),
    "YUV": function(in_yuv, *ONE),
    "Sobel": function(sobel, *ONE),
    "overlay": function(blended, *THREE),
    "Charbonnier": function(charbonnier, *TWO),
    "masked Huber": function(masked_loss, *THREE),
    "variation": function(variation, *ONE),
    "SSIM": function(likeness, *TWO),
}
