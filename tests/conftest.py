from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--reference", default=str(Path(__file__).parent / "reference"), metavar="DIR",
                     help="folder with the numbers of the official code (default: tests/reference)")


@pytest.fixture(scope="session")
def reference(request):
    "The folder with the numbers of the official code."
    folder = Path(request.config.getoption("--reference"))
    assert folder.is_dir(), f"--reference {folder} is no folder"
    return folder
