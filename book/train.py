"""Train the nets whose results the book shows, and store them. Called by `make nets`.

Killed and started again, it goes on where it was: each training has its checkpoint in `.nets`.
"""

import json
import sys
from pathlib import Path

import pandas as pd

from sitebook import nets
from sitebook.judging import splits
from sitebook.page import TESTBED
from sitetrace import __version__
from sitetrace.core.files import InputError, digest_of, read_json, replacing
from sitetrace.core.registry import data_dir, mirror, shipped_model
from sitetrace.power.modelfile import save_model

CHECKPOINTS, NETS = Path(__file__).resolve().parents[1] / ".nets", data_dir() / "nets"


def main() -> None:
    """Train what the data at hand allow; rows of data that are not stay as they were."""
    kinds = ("testbed", "measured") if mirror() else ("testbed",)
    if "measured" not in kinds:
        print("SITETRACE_DATA names no mirror: nets on measured runs stay as they are")
    CHECKPOINTS.mkdir(exist_ok=True)
    for name, parts in splits().items():
        if ("testbed" if parts.fit[0].run.startswith(TESTBED) else "measured") in kinds:
            model = nets.net_model(name, CHECKPOINTS / f"model_{name}.pt")
            save_model(model, data_dir() / "models" / f"{name}_bigru.json")
            print(f"{name}_bigru: best epoch {model.provenance['training']['best_epoch']}")
    points = [(data, index) for data in kinds for index in nets.learning_points(data)]
    curve = pd.DataFrame([nets.learning_curve(*point, CHECKPOINTS) for point in points])
    studies = [(data, epochs) for data in kinds for epochs in ("1", "trained")]
    store("learning_curve", curve, kinds)
    store("sufficiency", pd.concat([nets.sufficiency(*s, CHECKPOINTS) for s in studies]), kinds)
    told = read_json(NETS / "provenance.json")
    for data in kinds:
        model = shipped_model(nets.LABELS_FROM[data])
        told[data] = {"sitetrace": __version__, "runs": nets.sources(data)}
        told[data]["labels_from"] = {"name": model.stem, "sha256": digest_of([model])}
    with replacing(NETS / "provenance.json") as temporary:
        temporary.write_text(json.dumps(told, indent=1) + "\n")


def store(name: str, table: pd.DataFrame, kinds: tuple[str, ...]) -> None:
    """Write a table in place of the rows of these kinds of data."""
    old = nets.net_table(name)
    table = pd.concat([table, old[~old["data"].isin(kinds)]])
    with replacing(NETS / f"{name}.csv") as temporary:
        table[old.columns].to_csv(temporary, index=False, float_format="%.5f")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"Error: {error}")
