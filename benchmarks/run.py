"""All benchmarks that need nothing but this repository, one after the other: `make bench`.

They draw the sample dataset into a folder that goes afterwards. What needs an environment with
TF-Slim beside this one is run by hand; the commands stand in RESULTS.md.
"""

import subprocess
import sys
import tempfile


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        module = [sys.executable, "-m"]
        photographs, animals = f"{folder}/photographs", f"{folder}/animals"
        for command in (
            [*module, "datasets.sample", f"--output_dir={photographs}"],
            [
                *(sys.executable, "convert_data.py", f"--output_dir={animals}"),
                f"--image_dir={photographs}/images",
                f"--annotations_dir={photographs}/annotations",
            ],
            [*module, "benchmarks.input_pipeline", f"--dataset_dir={animals}"],
            [
                *(*module, "benchmarks.training_step", "--model_name=mobilenet_v1"),
                *("--image_size=160", "--precisions=float32"),
            ],
            [*module, "benchmarks.training_step", "--precisions=float32", "--steps=5"],
        ):
            print("$ python", *command[1:], flush=True)
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
