"""The plots of a sweep, which Optuna draws from a copy of the study."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import optuna
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from multitask_bert.reports import sweep_plots
from multitask_bert.reports.sweep import read_sweep
from multitask_bert.reports.sweep_copy import drawable_copy, label_of
from multitask_bert.reports.sweep_page import write_sweep_report
from multitask_bert.reports.sweep_plots import contour_parameters, draw_plots
from tests.reports.sweep_studies import (
    LR,
    SPACE,
    WARMUP,
    busy_study,
    check_page,
    make_study,
    make_trial,
    plots,
    read_page,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn during the test, in their order."""
    drawn: list[Figure] = []
    original = sweep_plots.png_of
    monkeypatch.setattr(sweep_plots, "png_of", lambda figure: (drawn.append(figure), original(figure))[1])
    return drawn


def figure_of(figures: list[Figure], study: optuna.Study, name: str) -> Figure:
    names = [plot.name for plot in draw_plots(study, read_sweep(study))]
    return figures[names.index(name)]


def ticks_of(figure: Figure, panel: int) -> list[str]:
    return [label.get_text() for label in figure.axes[panel].get_xticklabels()]


def test_the_contour_is_of_learning_rate_and_warmup_else_of_two_numbers_that_varied() -> None:
    assert contour_parameters(read_sweep(busy_study())) == (LR, WARMUP)
    other = make_study()
    params = [{LR: 1e-4, WARMUP: 0.01 * number, "adapter.rank": 4 + number} for number in range(12)]
    other.add_trials([make_trial(number, params=given) for number, given in enumerate(params)])
    assert contour_parameters(read_sweep(other)) == (WARMUP, "adapter.rank")
    few = make_study()
    few.add_trials([make_trial(number) for number in range(9)])
    assert contour_parameters(read_sweep(few)) is None
    one = make_study()
    one.add_trials([make_trial(number, params={WARMUP: 0.01 * number}) for number in range(12)])
    assert contour_parameters(read_sweep(one)) is None


def test_trials_on_a_line_have_a_contour_too() -> None:
    study = make_study()
    study.add_trials([make_trial(n, params={LR: 1e-5 * (n + 1), WARMUP: 0.02 * n}) for n in range(12)])
    assert "contour" in {plot.name for plot in draw_plots(study, read_sweep(study))}


def test_a_rate_searched_on_a_logarithmic_scale_has_a_logarithmic_axis_with_plain_ticks(figures: list[Figure]) -> None:
    figure = figure_of(figures, busy_study(), "slices")
    (panel,) = [number for number, axes in enumerate(figure.axes) if axes.get_xlabel() == LR]
    assert figure.axes[panel].get_xscale() == "log"
    low, high = figure.axes[panel].get_xlim()
    ticks = [tick for tick in map(float, ticks_of(figure, panel)) if low <= tick <= high]
    assert ticks == [3e-5, 1e-4, 3e-4, 1e-3]


def test_choices_stand_apart_even_where_they_are_equal_as_numbers_or_begin_alike(figures: list[Figure]) -> None:
    choices = [1, 1.0, True, "z" * 400, "z" * 401, None]
    study = make_study()
    for number in range(len(choices)):
        distribution = CategoricalDistribution(choices)
        trial = create_trial(value=0.1 * number, params={"x": choices[number]}, distributions={"x": distribution})
        study.add_trial(trial)
    shown = ticks_of(figure_of(figures, study, "slices"), 0)
    assert len(set(shown)) == len(choices)
    assert "'true'" in shown
    assert "'null'" in shown


def test_a_parameter_that_only_some_trials_have_is_drawn_for_those(figures: list[Figure]) -> None:
    study = make_study()
    study.add_trials([make_trial(number, params={WARMUP: 0.01 * number}) for number in range(3)])
    study.add_trials([make_trial(number, params={"adapter.rank": 4 + number}) for number in range(3, 5)])
    figure = figure_of(figures, study, "slices")
    num_dots = {axes.get_xlabel(): len(axes.collections[0].get_offsets()) for axes in figure.axes[:2]}
    assert num_dots == {WARMUP: 3, "adapter.rank": 2}


def test_an_outlier_does_not_flatten_a_plot_and_the_caption_counts_it(figures: list[Figure]) -> None:
    study = make_study()
    study.add_trials([*busy_study().trials, make_trial(24, value=-1e6, intermediate_values={50: -1e6})])
    plots_by_name = {plot.name: plot for plot in draw_plots(study, read_sweep(study))}
    drawn = dict(zip(plots_by_name, figures, strict=True))
    for name in ("history", "curves", "slices"):
        assert drawn[name].axes[0].get_ylim()[0] > 0
    for name in ("history", "slices"):
        assert "drawn as the worst of them: 1" in plots_by_name[name].caption


def test_the_history_has_a_bar_over_the_seeds_of_each_trial(figures: list[Figure]) -> None:
    study = make_study(seeds=2)
    study.add_trial(make_trial(0, value=0.75, user_attrs={"seed_scores": {"1": 0.8, "2": 0.7}}))
    (bar,) = figure_of(figures, study, "history").axes[0].containers
    ((low, high),) = [segment[:, 1] for segment in bar[2][0].get_segments()]
    assert (high - low) / 2 == pytest.approx(0.1 / math.sqrt(2))


def test_curves_are_coloured_by_how_their_trial_ended(figures: list[Figure]) -> None:
    figure = figure_of(figures, busy_study(), "curves")
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["best (trial 0)", "complete", "pruned", "running"]
    colors = [line.get_color() for line in figure.axes[0].get_lines()]
    assert [colors.count(sweep_plots.COLORS[state]) for state in ("best", "complete", "pruned")] == [1, 17, 3]


def test_the_numbers_of_trials_stay_where_one_was_retried() -> None:
    study = make_study()
    study.add_trials([make_trial(0, TrialState.FAIL), make_trial(1, user_attrs={"retry_of": 0}), make_trial(2)])
    copy = drawable_copy(study, read_sweep(study))
    assert [(trial.number, trial.state.name) for trial in copy.trials] == [
        (0, "FAIL"),
        (1, "COMPLETE"),
        (2, "COMPLETE"),
    ]
    assert copy.trials[2].datetime_start == study.trials[2].datetime_start


def test_text_in_a_plot_is_one_short_line_without_control_characters() -> None:
    assert label_of("a\n$b$ 中") == r"a\n$b$ 中"
    assert label_of("z" * 400) == "z" * 29 + "…"
    assert label_of("\x1b[31m\u202e") == r"\x1b[31m\u202e"


def test_dollar_signs_in_a_name_are_no_formula(figures: list[Figure]) -> None:
    study = make_study(metrics=["$\\frac{$"])
    study.add_trials([make_trial(n, value=0.1 * n, params={"$x^{_%": 0.1 * n}) for n in range(3)])
    texts = {text.get_text() for text in figure_of(figures, study, "slices").findobj(Text)}
    assert {"$x^{_%", "$\\frac{$\n(higher is better)"} <= texts


def test_a_plot_that_fails_costs_nothing_but_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*given: Any, **options: Any) -> Any:
        raise RuntimeError("out of ink")

    monkeypatch.setattr(sweep_plots.optuna_plots, "plot_slice", fail)
    study = make_study()
    study.add_trial(make_trial(0))
    with caplog.at_level(logging.WARNING):
        write_sweep_report(study, tmp_path)
    assert plots(tmp_path) == {"history", "timeline"}
    check_page(read_page(tmp_path))
    assert "the plots of slices could not be drawn (out of ink)" in caplog.text


def test_drawing_leaves_pyplot_as_it_was() -> None:
    figure = plt.figure()
    before = plt.get_backend(), plt.rcParams["axes.facecolor"], plt.rcParams["text.parse_math"], plt.get_fignums()
    study = make_study()
    study.add_trial(make_trial(0))
    draw_plots(study, read_sweep(study))
    after = plt.get_backend(), plt.rcParams["axes.facecolor"], plt.rcParams["text.parse_math"], plt.get_fignums()
    assert before == after
    plt.close(figure)


def test_every_parameter_has_a_slice() -> None:
    study = make_study()
    study.add_trials([make_trial(n, params={name: _value(name) for name in SPACE}) for n in range(2)])
    titles = [plot.title for plot in draw_plots(study, read_sweep(study)) if plot.name.startswith("slices")]
    assert len(titles) == 2
    assert all(any(name in title for title in titles) for name in SPACE)


def _value(name: str) -> Any:
    distribution = SPACE[name]
    return distribution.choices[0] if isinstance(distribution, CategoricalDistribution) else distribution.low  # type: ignore[attr-defined]
