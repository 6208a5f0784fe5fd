"""Walks through JPEG's segments and PNG's chunks, inside a graph."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from serving.pictures import raw_bytes
from serving.pictures.kinds import JPEG, PNG

_HEAD_BYTES = 10
# More than photographs have: a file that is made to keep the walk busy ends here.
_MAX_STEPS = 20_000
_APP1, _APP14, _START_OF_SCAN, _END_OF_IMAGE = 0xFFE1, 0xFFEE, 0xFFDA, 0xFFD9
_IEND = (0x4945, 0x4E44)
_TABLES = (0xFFC4, 0xFFC8, 0xFFCC)  # among the markers of frames
_EXIF, _XMP, _ADOBE = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"Adobe"
_ADOBE_SEGMENT = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
_PNG_XMP = b"XML:com.adobe.xmp\0"
_GRAY, _WITH_ALPHA = 0, (4, 6)  # PNG's types of colour


class Headers(NamedTuple):
    """What the headers of N pictures say.

    Attributes:
      encoded: string [N], the pictures, with what a decoder needs to see them as Pillow does.
      exif: int64 [N, 2], beginning and end of EXIF's TIFF structure; equal where there is none.
      xmp: int64 [N, 2], the same of XMP.
      transparent: bool [N], PNG pictures that may have transparent pixels.
      deep: bool [N], PNG pictures of 16 bits a channel.
      num_pixels: int64 [N]; 0 for pictures that are neither JPEG nor PNG.
    """

    encoded: tf.Tensor
    exif: tf.Tensor
    xmp: tf.Tensor
    transparent: tf.Tensor
    deep: tf.Tensor
    num_pixels: tf.Tensor


class _Walk(NamedTuple):
    """K segments or chunks of N pictures, as numbers int64 [K, N] unless said otherwise.

    Behind the end of one picture all numbers of its first bytes are zero.

    Attributes:
      markers: a JPEG segment's.
      starts, ends: positions.
      names: string, the six bytes behind marker and length.
      numbers: [K, N, 10], the first bytes.
    """

    markers: tf.Tensor
    starts: tf.Tensor
    ends: tf.Tensor
    names: tf.Tensor
    numbers: tf.Tensor


@tf.autograph.experimental.do_not_convert
def read(encoded: tf.Tensor, kinds: tf.Tensor) -> Headers:
    """Reads the headers of pictures, string [N], of the kinds int32 [N]."""
    is_jpeg, is_png = tf.equal(kinds, JPEG), tf.equal(kinds, PNG)
    walk = _walk(encoded, is_jpeg, is_png)
    nothing = tf.zeros([tf.shape(encoded)[0], 2], tf.int64)
    exif, xmp = tf.cond(
        tf.reduce_any(is_png) | tf.reduce_any(walk.markers == _APP1),
        lambda: _metadata(encoded, is_jpeg, is_png, walk),
        lambda: (nothing, nothing),
    )
    numbers, markers = walk.numbers, walk.markers
    is_frame = is_jpeg & (markers >= 0xFFC0) & (markers <= 0xFFCF)
    is_frame &= ~raw_bytes.is_any(markers, _TABLES)
    sides = [numbers[..., at] * 256 + numbers[..., at + 1] for at in (5, 7)]
    num_pixels = tf.reduce_max(tf.where(is_frame, sides[0] * sides[1], 0), axis=0)
    # Pillow reads four components as Adobe writes them, inverted, whether Adobe signs them or not.
    has_four = tf.reduce_any(is_frame & (numbers[..., 9] == 4), axis=0)
    transparent, deep, num_pixels = tf.cond(
        tf.reduce_any(is_png),
        lambda: _png_header(encoded, is_png, walk, num_pixels),
        lambda: (tf.zeros_like(is_png), tf.zeros_like(is_png), num_pixels),
    )
    encoded = tf.cond(
        tf.reduce_any(has_four), lambda: _signed(encoded, has_four, walk), lambda: encoded
    )
    return Headers(encoded, exif, xmp, transparent, deep, num_pixels)


def _walk(encoded: tf.Tensor, is_jpeg: tf.Tensor, is_png: tf.Tensor) -> _Walk:
    """Goes through a JPEG's segments to its first scan, and through a PNG's chunks to the last."""
    sizes = raw_bytes.sizes(encoded)
    at = tf.where(is_jpeg, tf.minimum(sizes, 2), tf.where(is_png, tf.minimum(sizes, 8), sizes))
    lengths = tf.fill(tf.shape(at), np.int64(_HEAD_BYTES))
    frame = tf.where(is_png, np.int64(12), np.int64(2))
    high = tf.where(is_png, np.int64(65536), np.int64(0))
    heads = tf.TensorArray(tf.string, 1, dynamic_size=True, clear_after_read=False)
    starts = tf.TensorArray(tf.int64, 1, dynamic_size=True, clear_after_read=False)

    def is_inside(step, at, *_):
        # One step at least: an array of nothing can't be stacked.
        return (step == 0) | ((step < _MAX_STEPS) & tf.reduce_any(at < sizes))

    def go_on(step, at, heads, starts):
        head = tf.strings.substr(encoded, at, lengths)
        words = tf.io.decode_raw(head, tf.uint16, little_endian=False, fixed_length=8)
        first, second, third, fourth = tf.unstack(tf.cast(words, tf.int64), axis=1)
        # Fill bytes, and rubbish between segments, are skipped one by one.
        is_rubbish = is_jpeg & ((first <= 0xFF00) | (first == 0xFFFF))
        after = at + tf.where(is_rubbish, np.int64(1), frame + second + high * first)
        is_last = is_jpeg & ((first == _START_OF_SCAN) | (first == _END_OF_IMAGE))
        is_last |= is_png & (third == _IEND[0]) & (fourth == _IEND[1])
        after = tf.where(is_last, sizes, tf.minimum(after, sizes))
        return step + 1, after, heads.write(step, head), starts.write(step, at)

    *_, heads, starts = tf.while_loop(is_inside, go_on, [0, at, heads, starts])
    heads = tf.strings.join([heads.stack(), b"\0" * _HEAD_BYTES])
    numbers = tf.cast(tf.io.decode_raw(heads, tf.uint8, fixed_length=_HEAD_BYTES), tf.int64)
    high_word = numbers[..., 0] * 256 + numbers[..., 1]
    starts = starts.stack()
    ends = starts + frame + numbers[..., 2] * 256 + numbers[..., 3] + high * high_word
    return _Walk(
        high_word, starts, tf.minimum(ends, sizes), tf.strings.substr(heads, 4, 6), numbers
    )


def _metadata(
    encoded: tf.Tensor, is_jpeg: tf.Tensor, is_png: tf.Tensor, walk: _Walk
) -> tuple[tf.Tensor, tf.Tensor]:
    """Where EXIF and XMP are, int64 [N, 2] each, as of `Headers`."""
    markers, starts, ends, names = walk.markers, walk.starts, walk.ends, walk.names
    chunks = tf.strings.substr(names, 0, 4)
    exif = tf.where(
        is_jpeg[:, tf.newaxis],
        _first(is_jpeg & (markers == _APP1) & (names == _EXIF), starts + 10, ends),
        _last(is_png & (chunks == b"eXIf"), starts + 8, ends - 4),
    )
    may_be_xmp = is_jpeg & (markers == _APP1) & (names == _XMP[:6])
    may_be_xmp |= is_png & (chunks == b"iTXt")

    def named():
        shape = tf.shape(starts)
        pictures = tf.reshape(tf.tile(encoded[tf.newaxis], [shape[0], 1]), [-1])
        in_jpeg = raw_bytes.piece(pictures, tf.reshape(starts + 4, [-1]), len(_XMP)) == _XMP
        in_png = raw_bytes.piece(pictures, tf.reshape(starts + 8, [-1]), len(_PNG_XMP)) == _PNG_XMP
        fits = tf.where(is_jpeg, tf.reshape(in_jpeg, shape), tf.reshape(in_png, shape))
        return _last(may_be_xmp & fits, starts, ends)

    return exif, tf.cond(tf.reduce_any(may_be_xmp), named, lambda: tf.zeros_like(exif))


def _first(where: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
    """Of those of K pieces that are meant, bool [K, N], the first; zeros without one; [N, 2]."""
    nowhere = tf.int64.max
    start = tf.reduce_min(tf.where(where, starts, nowhere), axis=0, keepdims=True)
    end = tf.reduce_max(tf.where(where & (starts == start), ends, 0), axis=0)
    return tf.stack([tf.where(end > 0, start[0], 0), end], axis=1)


def _last(where: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
    """The same with the last."""
    pieces = [tf.reduce_max(tf.where(where, places, 0), axis=0) for places in (starts, ends)]
    return tf.stack(pieces, axis=1)


def _png_header(
    encoded: tf.Tensor, is_png: tf.Tensor, walk: _Walk, num_pixels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Whether PNG pictures may have transparent pixels, and 16 bits; how many pixels all have."""
    header = raw_bytes.numbers(encoded, tf.fill(tf.shape(encoded), np.int64(16)), 10)
    width, height = [
        tf.reduce_sum(header[:, at : at + 4] * [256**3, 256**2, 256, 1], axis=1) for at in (0, 4)
    ]
    depth, color = header[:, 8], header[:, 9]
    has_trns = tf.reduce_any(tf.strings.substr(walk.names, 0, 4) == b"tRNS", axis=0)
    # Pillow passes over the transparent colour of 16-bit grey.
    has_trns &= ~((depth == 16) & (color == _GRAY))
    transparent = is_png & (raw_bytes.is_any(color, _WITH_ALPHA) | has_trns)
    return transparent, is_png & (depth == 16), tf.where(is_png, width * height, num_pixels)


def _signed(encoded: tf.Tensor, has_four: tf.Tensor, walk: _Walk) -> tf.Tensor:
    """The JPEG pictures of four components, each with a segment that says that Adobe wrote it."""
    is_signed = (walk.markers == _APP14) & (tf.strings.substr(walk.names, 0, 5) == _ADOBE)
    wanted = has_four & ~tf.reduce_any(is_signed, axis=0)
    start = tf.fill(tf.shape(encoded), np.int64(2))
    return tf.where(wanted, raw_bytes.inserted(encoded, start, _ADOBE_SEGMENT), encoded)
