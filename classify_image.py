"""Names what is in pictures, with an export of any format or with a training folder.

python classify_image.py --model=exported photo.jpg
python classify_image.py --model=exported/frozen_graph.pb --top_k=1 --csv=answers.csv photos/*.jpg
python classify_image.py --model=train_dir --unsure_below=0.6 --html=page.html --explain photos
python classify_image.py --graph=net.pb --labels=labels.txt --input_layer=input \\
  --output_layer=InceptionV3/Predictions/Reshape_1 --preprocessing_name=inception_v3 photo.jpg
"""

from command_line import load_tensorflow, printer, run, say
from foundation.errors import InputError
from runs import checks, pictures
from runs.options import ClassifyImageOptions


def main(options: ClassifyImageOptions) -> None:
    found = pictures.find(options.classify.image)
    checks.classification(options, found.pictures)
    load_tensorflow()
    from runs.classify import classify

    answers = classify(options, say, printer.note, found)
    if answers.failures:
        count = len(answers.failures)
        total = count + len(answers.classes)
        raise InputError(f"{count} of {total} pictures could not be classified.")


if __name__ == "__main__":
    run(main, ClassifyImageOptions, words="image")
