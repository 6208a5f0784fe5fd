"""The code of a registered model: MLflow copies this file into it and runs it by itself."""

from collections.abc import Iterator

import mlflow
import pandas as pd
import tensorflow as tf

# Pictures that the net sees at once.
_BATCH_SIZE = 32


class PictureClassifier(mlflow.pyfunc.PythonModel):
    """A SavedModel of export_model.py that takes and gives tables."""

    def load_context(self, context) -> None:
        """Loads the artifact `saved_model`."""
        self._model = tf.saved_model.load(context.artifacts["saved_model"])

    def predict(self, context, model_input: pd.DataFrame, params=None) -> pd.DataFrame:
        """Names what is in pictures.

        Args:
          context: of MLflow; not used.
          model_input: its column `image` holds the bytes of JPEG, PNG, GIF or BMP files. In JSON
            these are base64.
          params: not used.

        Returns:
          a row a picture: `label` and `probability` of its most probable class; `labels` and
          `probabilities` of the five most probable, best first; `valid`, and `status`, which is
          empty or says what is wrong with a picture that can't be read. Such a picture has an empty
          label and probabilities of 0.
        """
        answers = [self._answer(part) for part in _batches(list(model_input["image"]))]
        return pd.concat(answers, ignore_index=True)

    def _answer(self, images: list[bytes]) -> pd.DataFrame:
        classify = self._model.signatures["serving_default"]
        found = classify(encoded_images=tf.constant(images, tf.string))
        labels = [[name.decode() for name in row] for row in found["labels"].numpy()]
        scores = found["scores"].numpy().astype(float).tolist()
        return pd.DataFrame(
            {
                "label": [row[0] for row in labels],
                "probability": [row[0] for row in scores],
                "labels": labels,
                "probabilities": scores,
                "valid": found["valid"].numpy(),
                "status": [text.decode() for text in found["status"].numpy()],
            }
        )


def _batches(images: list[bytes]) -> Iterator[list[bytes]]:
    """Of an empty table one empty batch, so that the answer has its columns."""
    for start in range(0, max(len(images), 1), _BATCH_SIZE):
        yield images[start : start + _BATCH_SIZE]


mlflow.models.set_model(PictureClassifier())
