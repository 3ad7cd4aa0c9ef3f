"""What pyproject.toml cannot say: conf/ lies beside the package in a checkout, and inside it in a wheel."""

from setuptools import find_namespace_packages, setup

GROUPS = [f"multitask_bert.conf.{group}" for group in find_namespace_packages("conf")]

setup(
    packages=[*find_namespace_packages(include=["multitask_bert*"]), "hydra_plugins", "multitask_bert.conf", *GROUPS],
    package_dir={"multitask_bert.conf": "conf"},
    package_data={"": ["*.yaml", "*.html", "*.js", "*.css"]},
)
