"""Exports a trained classifier: SavedModel, frozen graph, TensorFlow Lite, ONNX.

python export_model.py --checkpoint_path=output --output_dir=exported

Takes the place of TF-Slim's export_inference_graph.py and of TensorFlow's freeze_graph.py: with
--output_file=graph.pb it writes one frozen graph, weights included; with --freeze_graph it adds the
weights to a graph that TF-Slim wrote.
"""

import os

from command_line import load_tensorflow, run, say
from runs import checks
from runs.options import ExportModelOptions


def main(options: ExportModelOptions) -> None:
    if not options.export.freeze_graph:
        checks.export(options)
    # On the processor: a training may be running on the GPU, whose rounding is its own, too.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    load_tensorflow()
    if options.export.freeze_graph:
        from runs.freeze import freeze

        freeze(options, say)
    else:
        from runs.export import export

        export(options, say)


if __name__ == "__main__":
    run(main, ExportModelOptions)
