"""ONNX: the net alone, for the runtimes that read this exchange format."""

import numpy as np

from foundation.errors import InputError, missing_extra
from serving.frozen_graph import Net

_OPSET = 17


def require() -> None:
    """Raises InputError where the extra `onnx` is not installed, so that a job stops at once."""
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise missing_extra("onnx", "the format onnx") from error


def write(path: str, function) -> None:
    """Converts `frozen_graph.forward`'s function; writes the .onnx file `path`.

    Raises:
      InputError: the extra `onnx` is not installed.
    """
    require()
    import tf2onnx

    model, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=_OPSET
    )
    with open(path, "wb") as file:
        file.write(model.SerializeToString())


def load(path: str) -> tuple[Net, int | None]:
    """An .onnx file as a function.

    Returns:
      the function, and N where it is fixed, else None.

    Raises:
      InputError: the extra `onnx` is not installed; this is no ONNX file, or not one of
        export_model.py.
      OSError: can't be read.
    """
    require()
    import onnxruntime

    with open(path, "rb") as file:
        content = file.read()
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no public base class of their own.
        raise InputError(f"{path}: can't be loaded as an ONNX model: {error}") from error
    names = [output.name for output in session.get_outputs()]
    if set(names) != {"logits", "probabilities"}:
        raise InputError(f"{path}: other outputs than those of export_model.py.")
    (images_input,) = session.get_inputs()
    batch_size = images_input.shape[0]

    def run(images):
        feed = {images_input.name: np.asarray(images, np.float32)}
        return dict(zip(names, session.run(names, feed), strict=True))

    return run, batch_size if isinstance(batch_size, int) else None
