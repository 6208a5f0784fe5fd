"""A page in the browser that names what is in pictures, to try a model on.

python web_demo.py --model=exported
python web_demo.py --model=train_dir --examples=photographs --report=eval/report.html \\
  --feedback_dir=feedback
python convert_data.py --image_dir=feedback/images --csv_file=feedback/labels.csv --output_dir=more

It answers on this machine alone unless --host says otherwise, and calls nobody. Needs the extra
`demo`: pip install -c constraints.txt ".[demo]"
"""

from command_line import load_tensorflow, run, say
from runs import checks
from runs.options import WebDemoOptions


def main(options: WebDemoOptions) -> None:
    checks.web_demo(options)
    load_tensorflow()
    from runs import web_demo

    web_demo.serve(options, say)


if __name__ == "__main__":
    run(main, WebDemoOptions)
