"""Build mlops_nb from settings.ini, where the package's metadata stands."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

parser = ConfigParser(interpolation=None)
parser.read(Path(__file__).with_name("settings.ini"), encoding="utf-8")
package = parser["package"]


def lines(key: str) -> list[str]:
    return [line.strip() for line in package[key].splitlines() if line.strip()]


def groups(key: str) -> dict[str, list[str]]:
    """Read `group: entry` lines into a dictionary of lists."""
    found: dict[str, list[str]] = {}
    for line in lines(key):
        group, _, entry = line.partition(": ")
        found.setdefault(group, []).append(entry.strip())
    return found


extras = {name: " ".join(found).split() for name, found in groups("extras").items()}

setup(
    name=package["name"],
    version=package["version"],
    description=package["description"],
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=package["author"],
    license=package["license"],
    license_files=["LICENSE"],
    keywords=package["keywords"].split(),
    classifiers=[
        "Framework :: Jupyter",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=f">={package['min_python']}",
    install_requires=lines("requirements"),
    extras_require=extras | {"all": sorted({one for found in extras.values() for one in found})},
    entry_points=groups("entry_points") | {"console_scripts": lines("scripts")},
    packages=["mlops_nb", "mlops_nb.stages", "mlops_nb.apps", "mlops_nb.api"],
    package_dir={"mlops_nb": "mlops_nb", "mlops_nb.stages": "nbs/stages", "mlops_nb.apps": "nbs/apps",
                 "mlops_nb.api": "nbs/api"},
    package_data={
        "mlops_nb": ["py.typed", "*.js", "*.css", "templates/**/*"],
        "mlops_nb.stages": ["*.ipynb", "*.jsonl"],
        "mlops_nb.apps": ["*.ipynb"],
        "mlops_nb.api": ["232_flights.ipynb"],
    },
)
