"""tuning.html: a search on one page that needs no network, with Optuna's own plots."""

import html
from collections.abc import Sequence

from foundation import files

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; } td, th { border-bottom: 1px solid #ccc;
padding: .25rem .6rem; text-align: left; } tr.best { background: #e8f5e9; }
pre { background: #f4f4f4; padding: 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
"""


def write(path: str, title: str, command: str, rows: Sequence[Sequence[str]], study) -> None:
    """Writes the page.

    Args:
      path: of the file; it appears whole.
      title: its heading.
      command: that trains the winner anew.
      rows: cells of the table of trials, the heading first, then the best.
      study: an `optuna.Study` with at least one trial that ended.

    Raises:
      OSError: it can't be written.
    """
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        f"<p>The winner, trained anew:</p><pre>{html.escape(command)}</pre>",
        *_plots(study),
        f"<h2>All trials</h2><div class=wide><table>{_table(rows)}</table></div></html>",
    ]
    with files.whole(path) as file:
        file.write("\n".join(parts))


def _plots(study) -> list[str]:
    """History, importances and parallel coordinates, as far as the trials are enough for them."""
    from optuna import visualization
    from optuna.trial import TrialState

    done = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    figures = [visualization.plot_optimization_history(study, target_name="accuracy")]
    if len({trial.value for trial in done}) > 1:
        figures.append(visualization.plot_param_importances(study, target_name="accuracy"))
        figures.append(visualization.plot_parallel_coordinate(study, target_name="accuracy"))
        figures.append(visualization.plot_intermediate_values(study))
    # Plotly itself is in the page once, with the first plot; a button in its bar needs a network.
    config = {"displayModeBar": False}
    return [
        figure.to_html(full_html=False, include_plotlyjs=number == 0, config=config)
        for number, figure in enumerate(figures)
    ]


def _table(rows: Sequence[Sequence[str]]) -> str:
    kinds = ["th", *["td"] * (len(rows) - 1)]
    lines = []
    for number, (kind, row) in enumerate(zip(kinds, rows, strict=True)):
        cells = "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in row)
        lines.append(f"<tr{' class=best' if number == 1 else ''}>{cells}</tr>")
    return "\n".join(lines)
