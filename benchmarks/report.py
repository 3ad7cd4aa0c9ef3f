"""The records of `benchmarks/peers.py` as Markdown tables and a plot: medians over rounds, and ratios pair by pair.

A pair is what two contestants reached in the same round, one soon after the other; the ratio given is the median over
the pairs, and in brackets the least and the greatest.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
OURS = "ours"
PASSES = 6  # operations per parameter and piece: a product and a sum, once forward and twice backward
INFERENCE = (
    ("evaluate the test sets", "evaluate", "trainer_evaluate", "`Trainer.predict` and scoring"),
    ("predict with all heads", "predictor", "pipelines", "a `transformers.pipeline` per head"),
    ("encode texts", "encoder", "datasets_map", "`datasets.Dataset.map(batched=True)`"),
)


def write_report(raw: dict[str, Any], plot: str | None) -> str:
    """Everything. `plot`: the file of the plot, beside the report; None: there is none."""
    records: list[Record] = raw["records"]
    ceilings = select(records, part="ceiling")
    setting = f"Commit {raw['commit']}, {raw['model']}, seeds from {raw['seed']}.{machine(ceilings)}"
    parts = [f"# Ours beside its peers\n\n{setting}"]
    for bundle in dict.fromkeys(record["bundle"] for record in records if "bundle" in record):
        of_bundle = select(records, bundle=bundle)
        parts.append(f"## `{bundle}`")
        if trained := select(of_bundle, part="training"):
            parts += [training_table(trained, select(of_bundle, part="ceiling")), score_table(trained)]
        if compared := [r for r in of_bundle if r["part"] in ("inference", "encoding")]:
            parts.append(inference_table(compared))
    if grown := select(records, part="growth"):
        parts.append("## Cost as the work grows\n\nBatches of 16 random texts of the given length, without padding.")
        parts += [f"![Cost by tasks and by length]({plot})"] if plot is not None else []
        parts.append(growth_table(grown))
    return "\n\n".join(parts) + "\n"


def machine(ceilings: Sequence[Record]) -> str:
    """What was measured on, and its ceiling."""
    if not ceilings:
        return ""
    first = ceilings[0]
    rate = median(ceilings, "operations_per_second") / 1e9
    return (
        f" {first['device']}, {first['threads']} thread(s), torch {first['torch']}, transformers "
        f"{first['transformers']}. Ceiling: {rate:,.1f} thousand million operations per second in 2048 x 2048 float32 "
        f"products. A share of it is 6 x {first['encoder_parameters']:,} encoder parameters outside embeddings and "
        f"pooler x real tokens per second over the rate of the same round."
    )


def training_table(records: Sequence[Record], ceilings: Sequence[Record]) -> str:
    ours = select(records, contestant=OURS)
    rows = []
    for name in contestants(records):
        theirs = select(records, contestant=name)
        shares = shares_of_ceiling(theirs, ceilings)
        rows.append(
            [
                name,
                f"{median(theirs, 'tokens_per_second'):,.0f}",
                "" if name == OURS else show_ratios(ratios(ours, theirs, "tokens_per_second")),
                f"{median(theirs, 'examples_per_second'):,.1f}",
                f"{statistics.median(shares):.0%}" if shares else "",
                f"{median(theirs, 'peak_memory_mib'):,.0f}",
                f"{median(theirs, 'command_seconds'):,.1f}",
                "" if name == OURS else show_ratios(ratios(ours, theirs, "command_seconds")),
            ]
        )
    header = [
        "training", "real tokens/s", "ours / theirs", "examples/s", "share of ceiling", "peak memory, MiB",
        "whole command, s", "ours / theirs",
    ]  # fmt: skip
    return f"Medians of {num_rounds(records)} round(s).\n\n" + table(header, rows)


def score_table(records: Sequence[Record]) -> str:
    """Scores on test that all contestants have: the mean, and that of each round, which has a seed of its own."""
    names = contestants(records)
    found = {name: [record["test"] for record in select(records, contestant=name)] for name in names}
    keys = [key for key in found[names[0]][0] if all(key in scores for runs in found.values() for scores in runs)]
    rows = [[f"`{key.removeprefix('test_')}`", *(show_scores(found[name], key) for name in names)] for key in keys]
    return table(["score on test, %", *names], rows)


def show_scores(runs: Sequence[dict[str, float]], key: str) -> str:
    """`61.9 (61.4 62.5 61.7)`."""
    scores = [100 * run[key] for run in runs]
    each = f" ({' '.join(f'{score:.1f}' for score in scores)})" if len(scores) > 1 else ""
    return f"{statistics.mean(scores):.1f}{each}"


def inference_table(records: Sequence[Record]) -> str:
    rows = []
    for what, way, peer, peer_name in INFERENCE:
        ours, theirs = select(records, contestant=way), select(records, contestant=peer)
        if ours and theirs:
            rows.append(
                [
                    what,
                    f"{median(ours, 'examples_per_second'):,.0f}",
                    peer_name,
                    f"{median(theirs, 'examples_per_second'):,.0f}",
                    show_ratios(ratios(ours, theirs, "examples_per_second")),
                    f"{median(ours, 'peak_memory_mib'):,.0f} / {median(theirs, 'peak_memory_mib'):,.0f}",
                    agreement(ours[0], theirs[0]),
                ]
            )
    header = [
        "what", "ours, texts/s", "peer", "peer, texts/s", "ours / theirs", "peak memory, MiB", "same results"
    ]  # fmt: skip
    return table(header, rows)


def growth_table(records: Sequence[Record]) -> str:
    rows = []
    for num_tasks, length in sorted({(record["num_tasks"], record["length"]) for record in records}):
        point = select(records, num_tasks=num_tasks, length=length)
        ours, plain = select(point, contestant=OURS), select(point, contestant="plain")
        rows.append(
            [
                str(num_tasks),
                str(length),
                *(f"{median(of_one, 'seconds_per_batch'):.2f}" for of_one in (ours, plain)),
                *(f"{median(of_one, 'tokens_per_second'):,.0f}" for of_one in (ours, plain)),
                show_ratios(ratios(ours, plain, "tokens_per_second")),
                *(f"{median(of_one, 'peak_memory_mib'):,.0f}" for of_one in (ours, plain)),
            ]
        )
    header = [
        "tasks", "length", "ours, s/batch", "plain loop, s/batch", "ours, tokens/s", "plain loop, tokens/s",
        "ours / theirs", "ours, MiB", "plain loop, MiB",
    ]  # fmt: skip
    return table(header, rows)


def draw_growth(records: Sequence[Record], path: Path) -> bool:
    """Seconds per batch by number of tasks and by length; False where there is nothing to draw, or no matplotlib."""
    grown = select(records, part="growth")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    if not grown:
        return False
    length = next(record["length"] for record in grown if record["num_tasks"] == max(r["num_tasks"] for r in grown))
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, x_name, fixed in ((left, "num_tasks", {"length": length}), (right, "length", {"num_tasks": 1})):
        of_axes = select(grown, **fixed)
        for name, label in ((OURS, "ours"), ("plain", "plain loop")):
            places = sorted({record[x_name] for record in of_axes})
            found = [select(of_axes, contestant=name, **{x_name: place}) for place in places]
            axes.plot(places, [median(point, "seconds_per_batch") for point in found], marker="o", label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(places, [str(place) for place in places])
        axes.set_ylim(bottom=0)
        axes.set_ylabel("seconds per batch of 16")
        axes.legend()
    left.set_xlabel(f"tasks (texts of {length} pieces)")
    right.set_xlabel("pieces per text (one task)")
    figure.savefig(path)
    return True


def result_of_ours(results: dict[str, Any]) -> dict[str, Any]:
    """`results.json` of a run in the words that the others use (`recipe.Result`)."""
    return {
        "train_seconds": results["train_seconds"],
        "real_tokens": results["train_tokens"],
        "examples": results["train_examples"],
        "steps": results["steps"],
        "test": {key.replace("eval_", "test_", 1): score for key, score in results["metrics"].get("test", {}).items()},
    }


def line_of(record: Record) -> str:
    """A record in short, to show that it goes on."""
    place = [f"round {record['round'] + 1}", record["part"], record.get("bundle"), record.get("contestant")]
    place += [f"{record['num_tasks']} tasks of length {record['length']}"] if record["part"] == "growth" else []
    speeds = {name: record[name] for name in ("tokens_per_second", "examples_per_second") if name in record}
    shown = ", ".join(f"{value:,.0f} {name.replace('_', ' ')}" for name, value in speeds.items())
    return "  ".join(str(part) for part in [*place, shown] if part)


def shares_of_ceiling(records: Iterable[Record], ceilings: Iterable[Record]) -> list[float]:
    """Operations that the encoder's layers need for the real tokens, over those that the machine could do meanwhile."""
    by_round = {ceiling["round"]: ceiling for ceiling in ceilings}
    return [
        PASSES * ceiling["encoder_parameters"] * record["tokens_per_second"] / ceiling["operations_per_second"]
        for record in records
        if (ceiling := by_round.get(record["round"])) is not None
    ]


def ratios(ours: Iterable[Record], theirs: Iterable[Record], key: str) -> list[float]:
    """Ours over theirs in each round that has both."""
    by_round = {record["round"]: record[key] for record in theirs}
    return [record[key] / by_round[record["round"]] for record in ours if record["round"] in by_round]


def show_ratios(found: Sequence[float]) -> str:
    """`1.06 x (1.01 to 1.15)`."""
    if not found:
        return ""
    spread = f" ({min(found):.2f} to {max(found):.2f})" if len(found) > 1 else ""
    return f"{statistics.median(found):.2f} x{spread}"


def agreement(ours: Record, theirs: Record) -> str:
    """Whether two ways over the same weights came to the same: scores to four places, or counts of labels."""
    for key, are_equal in (("test", _are_close), ("labels", lambda one, other: one == other)):
        if key in ours and key in theirs:
            return "yes" if are_equal(ours[key], theirs[key]) else "no"
    return ""


def _are_close(ours: dict[str, float], theirs: dict[str, float]) -> bool:
    shared = ours.keys() & theirs.keys()
    return bool(shared) and all(abs(ours[key] - theirs[key]) < 5e-5 for key in shared)


def select(records: Iterable[Record], **wanted: Any) -> list[Record]:
    """Those with these values."""
    return [record for record in records if all(record.get(key) == value for key, value in wanted.items())]


def median(records: Iterable[Record], key: str) -> float:
    return float(statistics.median(record[key] for record in records))


def contestants(records: Sequence[Record]) -> list[str]:
    """Ours first, the others in the order of the first round."""
    names = list(dict.fromkeys(record["contestant"] for record in records))
    return sorted(names, key=lambda name: name != OURS)


def num_rounds(records: Iterable[Record]) -> int:
    return len({record["round"] for record in records})


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
