"""Photographs in records that their EXIF turns, which a conversion elsewhere left as they lie."""

import itertools
from collections.abc import Sequence

from datasets import class_names, schema
from datasets.frames import BrokenFrame, compression_of, frames

# How many files are looked into, and records of each.
_FILES, _RECORDS = 8, 32


def remark(files: Sequence[str]) -> str:
    """A line for the screen where the first records of some files hold such photographs; else "".

    TensorFlow's decoders ignore EXIF: training and evaluation see these as they lie in the record,
    while a served model and classify_image.py turn what they are sent. Records of convert_data.py
    hold upright photographs, and are not looked into.
    """
    if class_names.is_converted_here(files[0]):
        return ""
    count, found = 0, []
    for path in files[:: max(1, len(files) // _FILES)]:
        try:
            for i, (_, record, _) in enumerate(
                itertools.islice(frames(path, compression_of(path)), _RECORDS)
            ):
                count += 1
                if _is_turned(schema.encoded_image(record)):
                    found.append(f"record {i} of {path}")
        except BrokenFrame:
            continue  # it is reported where the records are counted
    if not found:
        return ""
    return (
        f"Warning: {len(found)} of {count} records looked into hold photographs that their EXIF "
        f"turns ({found[0]}, …). Training and evaluation see them as they lie, but "
        "classify_image.py and an exported model turn what they are given. convert_data.py makes "
        "records that hold them upright."
    )


def _is_turned(encoded: bytes) -> bool:
    from datasets.conversion.image_bytes import Photograph  # here: Pillow takes a moment

    try:
        return Photograph(encoded).orientation != 1
    except ValueError:
        return False
