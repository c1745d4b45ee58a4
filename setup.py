"Packaging from settings.ini, the file that nbdev reads too, so that version and requirements are written once."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

config = ConfigParser(delimiters=["="], interpolation=None)
config.read("settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]


def lines(key):
    "One requirement a line (environment markers contain spaces)."
    return [line.strip() for line in cfg.get(key, "").splitlines() if line.strip()]


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    license="MIT",
    keywords=cfg["keywords"].split(),
    packages=find_packages(include=["bike_nb", "bike_nb.*"]),
    include_package_data=False,  # package_data says it: folders of data are no packages
    package_data={"bike_nb": ["models/*/*", "lexicons/*", "labels/*", "static/*"]},
    python_requires=">=" + cfg["min_python"],
    install_requires=lines("requirements"),
    extras_require={"dev": lines("dev_requirements")},
    entry_points={"console_scripts": lines("console_scripts"), "nbdev": [f"{cfg['lib_name']}={cfg['lib_path']}._modidx:d"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Intended Audience :: Science/Research",
        "Intended Audience :: Education",
    ],
    zip_safe=False,
)
