"""The TensorFlow Lite file of an export: quantization, labels and metadata."""

import dataclasses
import os
import pathlib
import zipfile

import flatbuffers
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as litert_schema

from foundation.errors import InputError
from serving import (
    classifier,
    frozen_graph,
    tflite,
    tflite_metadata,
)
from tests.exports.tiny import (
    ABOUT,
    LABELS,
    export_folder,
    recipe_for,
)


def test_quantized_weights_are_smaller(export, subject, tmp_path):
    full = (export / "model.tflite").stat().st_size
    forward = frozen_graph.forward(subject.model, subject.nodes)
    for quantization, share in (("float16", 0.6), ("dynamic", 0.45)):
        path = tmp_path / f"{quantization}.tflite"
        wanted = tflite.Quantization(quantization)
        tflite.write(str(path), forward, subject.model, LABELS, ABOUT, wanted)
        assert path.stat().st_size < share * full


@pytest.mark.parametrize("options", [{}, {"tflite_uint8": True}, {"batch_size": 3}])
def test_int8_is_calibrated_on_pictures(subject, pictures, expected, tmp_path, options):
    config = export_folder(
        str(tmp_path / "x"), subject, ["tflite"], tflite_quantization="int8", **options
    )
    proof = config.check["formats"]["tflite"]
    assert (proof["numbers"], proof["accuracy"]) == ("int8", 0.75)
    path = str(tmp_path / "x" / "model.tflite")
    interpreter = litert.Interpreter(path)
    (taken,) = interpreter.get_input_details()
    outside = np.uint8 if options.get("tflite_uint8") else np.float32
    assert taken["dtype"] == outside
    assert {output["dtype"] for output in interpreter.get_output_details()} == {outside}
    weights = [x for x in interpreter.get_tensor_details() if x["dtype"] == np.int8]
    assert max(len(x["quantization_parameters"]["scales"]) for x in weights) == 64  # per channel
    found = classifier.load(path, recipe_for).outputs(pictures)["probabilities"]
    np.testing.assert_allclose(found, expected, atol=0.05)
    if outside == np.uint8:
        # Pictures as dark as those of the test: 0..255 of the input are not 0..255 of a pixel.
        content = pathlib.Path(path).read_bytes()
        image = metadata(content).tables(3)[0].tables(2)[0]
        assert image.table(3).byte(0) == FEATURES and "quantized" in image.text(1)
        scale, zero = taken["quantization"]
        about = dataclasses.replace(ABOUT, moments=((zero,), (1 / scale,)))
        image = metadata(tflite_metadata.added(content, about, 3)).tables(3)[0].tables(2)[0]
        assert image.table(3).byte(0) == IMAGE


FEATURES, IMAGE = 1, 2  # of the schema's ContentProperties


class Stored(flatbuffers.table.Table):
    """A table of a FlatBuffer by the numbers of its slots, which count the schema's fields."""

    def place(self, slot):
        offset = self.Offset(4 + 2 * slot)
        return offset and offset + self.Pos

    def text(self, slot):
        return self.String(self.place(slot)).decode()

    def byte(self, slot):
        return self.Bytes[self.place(slot)] if self.place(slot) else 0

    def table(self, slot):
        return Stored(self.Bytes, self.Indirect(self.place(slot)))

    def tables(self, slot):
        offset = self.place(slot) - self.Pos
        first, number = self.Vector(offset), self.VectorLen(offset)
        return [Stored(self.Bytes, self.Indirect(first + 4 * i)) for i in range(number)]

    def floats(self, slot):
        offset = self.place(slot) - self.Pos
        return np.frombuffer(self.Bytes, "<f4", self.VectorLen(offset), self.Vector(offset))


def metadata(content):
    """The last metadata of a .tflite file, a ModelMetadata."""
    model = litert_schema.Model.GetRootAs(content)
    names = [model.Metadata(i).Name() for i in range(model.MetadataLength())]
    (last,) = [i for i, name in enumerate(names) if name == b"TFLITE_METADATA"][-1:]
    stored = model.Buffers(model.Metadata(last).Buffer()).DataAsNumpy().tobytes()
    assert stored[4:8] == b"M001"
    return Stored(stored, int.from_bytes(stored[:4], "little"))


def test_a_tflite_file_brings_its_labels_and_says_how_it_is_fed(export):
    """The numbers are the slots of tflite-support's metadata_schema.fbs."""
    with zipfile.ZipFile(export / "model.tflite") as archive:
        (entry,) = archive.infolist()
        assert (entry.filename, entry.compress_type) == ("labels.txt", zipfile.ZIP_STORED)
        assert archive.read(entry).decode() == "cat\nchien ñ\nemu\n"
    content = (export / "model.tflite").read_bytes()
    said = metadata(content)
    assert (said.text(0), said.text(2), said.text(7)) == ("tiny", "model.ckpt-7", "1.0.0")
    assert said.text(1) == "Names what a picture shows: one of 3 classes."
    (graph,) = said.tables(3)
    (image,), outputs = graph.tables(2), graph.tables(3)
    shown = "32 x 32 pixels of an upright picture: the whole picture, stretched."
    assert (image.text(0), image.text(1)) == ("image", shown)
    assert image.table(3).byte(0) == IMAGE and image.table(3).table(1).byte(0) == 1  # RGB
    (unit,) = image.tables(4)
    assert unit.byte(0) == 1  # NormalizationOptions
    np.testing.assert_array_equal(
        [unit.table(1).floats(0), unit.table(1).floats(1)], [[127.5], [127.5]]
    )
    assert [output.text(0) for output in outputs] == ["probabilities", "logits"]
    for output in outputs:
        (file,) = output.tables(6)
        assert (file.text(0), file.byte(2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS
    # The order is that of the file's own outputs.
    interpreter = litert.Interpreter(model_content=content)
    first, _ = interpreter.get_output_details()
    assert (
        interpreter.get_signature_runner().get_output_details()["probabilities"]["index"]
        == first["index"]
    )


def test_pixels_that_no_mean_and_deviation_prepare_are_not_called_an_image(export):
    content = (export / "model.tflite").read_bytes()
    image = metadata(tflite_metadata.added(content, ABOUT, 3)).tables(3)[0].tables(2)[0]
    assert image.table(3).byte(0) == FEATURES and not image.place(4)
    assert image.text(1).endswith("They are not fed as (x - mean) / deviation.")
    about = dataclasses.replace(ABOUT, moments=((1, 2, 3), (4, 5, 6)))
    unit = metadata(tflite_metadata.added(content, about, 3)).tables(3)[0].tables(2)[0].tables(4)[0]
    assert unit.table(1).floats(0).tolist() == [1, 2, 3]
    assert unit.table(1).floats(1).tolist() == [4, 5, 6]


def test_what_int8_is_calibrated_on_decides_its_numbers(subject, expected, tmp_path):
    """Pictures of one grey show no range: what is beyond it is cut off, and the check notices."""
    grey = tf.io.encode_png(np.full((40, 40, 3), 128, np.uint8)).numpy()
    narrow = dataclasses.replace(subject, calibration=[grey])
    options = {"formats": ["tflite"], "tflite_quantization": "int8"}
    with pytest.raises(InputError, match=r"exported tflite does not give .* Nothing was exported"):
        export_folder(str(tmp_path / "x"), narrow, **options)
    assert os.listdir(tmp_path) == []
    config = export_folder(str(tmp_path / "x"), narrow, allow_mismatch=True, **options)
    assert "tflite does not give" in config.check["beyond_tolerance"][0]
