"""Train the nets whose results the book shows, and store them. Called by `make nets`.

Killed and started again, it goes on where it was: each training has its checkpoint in `.nets`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

from sitebook.old.judging.comparison import TESTBED
from sitebook.old.judging.splits import splits
from sitebook.old.nets import gru_study
from sitebook.old.nets.nets import read_net_table
from sitetrace import __version__
from sitetrace.core.files import InputError, digest_of, replacing
from sitetrace.core.registry import data_dir, mirror, shipped_model
from sitetrace.power.modelfile import save_model

CHECKPOINTS = Path(__file__).resolve().parents[1] / ".nets"
NETS = data_dir() / "nets"


def train_models(kinds: tuple[str, ...]) -> None:
    """Fit each split's model with the net as its transitions."""
    for name, part in splits().items():
        if ("testbed" if part.fit[0].run.startswith(TESTBED) else "measured") not in kinds:
            continue
        model = gru_study.net_model(name, CHECKPOINTS / f"model_{name}.pt")
        save_model(model, data_dir() / "models" / f"{name}_bigru.json")
        print(f"{name}_bigru: best epoch {model.provenance['training']['best_epoch']}")


def train_tables(kinds: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    """Make both tables for the kinds of data that are at hand."""
    curve, features = [], []
    for data in kinds:
        for index in gru_study.learning_points(data):
            curve.append(gru_study.learning_curve(data, index, CHECKPOINTS))
            print(curve[-1])
        for epochs in ("1", "trained"):
            features.append(gru_study.sufficiency(data, epochs, CHECKPOINTS))
            print(features[-1].to_string())
    return {"learning_curve": pd.DataFrame(curve), "sufficiency": pd.concat(features)}


def store(tables: dict[str, pd.DataFrame], kinds: tuple[str, ...]) -> None:
    """Write the tables; rows of data that are not at hand stay as they were."""
    NETS.mkdir(exist_ok=True)
    for name, table in tables.items():
        if (NETS / f"{name}.csv").is_file():
            old = read_net_table(name)
            kept = old[~old["data"].isin(kinds)]
            table = table if kept.empty else pd.concat([table, kept])
        first = [column for column in ("data", "features", "epochs") if column in table]
        table = table[[*first, *(column for column in table if column not in first)]]
        with replacing(NETS / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.5f")
    path = NETS / "provenance.json"
    told = json.loads(path.read_text()) if path.is_file() else {}
    for data in kinds:
        label_model = shipped_model(gru_study.LABELS_FROM[data])
        told[data] = {
            "sitetrace": __version__,
            "labels_from": {"name": label_model.stem, "sha256": digest_of([label_model])},
            "runs": gru_study.sources(data),
        }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(told, indent=1) + "\n")


def main() -> None:
    """Train what the data at hand allow."""
    kinds = ("testbed", "measured") if mirror() else ("testbed",)
    if "measured" not in kinds:
        print("SITETRACE_DATA names no mirror: nets on measured runs stay as they are")
    CHECKPOINTS.mkdir(exist_ok=True)
    train_models(kinds)
    store(train_tables(kinds), kinds)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"Error: {error}")
