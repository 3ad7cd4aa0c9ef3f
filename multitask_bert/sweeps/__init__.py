"""A sweep: an Optuna study whose trials are jobs of Hydra.

1. sweeper.py and space.py: the typed `hydra.sweeper`, and the search space from it and the command line.
2. spec.py: everything that is known before the first trial, checked; conf_files.py, samplers_and_pruners.py (with
   rank_pruner.py) and cost_estimate.py belong to it.
3. study.py and trials.py: the study in its storage; which trials count, how one is asked for, and how one whose process
   died (processes.py) is retried.
4. controller.py launches jobs; job.py runs one trial inside its job and tells the study its result.
5. progress.py and results.py: what is printed, and the files that a sweep leaves. Its report is in `reports/`.
"""
