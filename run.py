"""The door: `python run.py [action=…] tasks=a+b key=value …`. `python run.py --help` lists what there is."""

import hydra
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from multitask_bert import composition
from multitask_bert.config import InputError, from_tree


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(tree: DictConfig) -> object:
    """Run one job. Torch and its friends are imported inside, so that help and completion stay quick."""
    try:
        config = from_tree(tree)
        from multitask_bert import actions

        return actions.run(config)
    except InputError as error:
        raise CompactHydraException(f"error: {error}") from error


if __name__ == "__main__":
    composition.register()
    main()
