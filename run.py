"""The command line: `python run.py [action=…] tasks=a+b key=value …`; see `python run.py --help`."""

import hydra
from omegaconf import DictConfig

from multitask_bert import cli


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(tree: DictConfig) -> object:
    return cli.run_job(tree)


if __name__ == "__main__":
    cli.start(main)
