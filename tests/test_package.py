"""What a user gets by `import act_hf`."""

import subprocess
import sys

import pytest

import act_hf


def test_importing_loads_no_heavy_library():
    script = "import sys, act_hf; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    heavy = (
        "torch",
        "transformers",
        "datasets",
        "numpy",
        "sklearn",
        "scipy",
        "matplotlib",
        "typer",
        "huggingface_hub",
    )
    assert [name for name in heavy if f"'{name}'" in loaded] == []


@pytest.mark.parametrize("name", act_hf.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(act_hf, name)
    assert callable(value), f"act_hf.{name} is {value!r}: is there a module of the same name?"
    assert value.__doc__


def test_a_public_name_stays_what_it_is_whatever_is_imported_first():
    script = (
        "import importlib, pkgutil, act_hf\n"
        "for module in pkgutil.walk_packages(act_hf.__path__, 'act_hf.'): importlib.import_module(module.name)\n"
        "print([name for name in act_hf.__all__ if not callable(getattr(act_hf, name))])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'anotate'"):
        act_hf.anotate  # noqa: B018


def test_the_version_is_the_packages():
    from importlib.metadata import version

    assert act_hf.__version__ == version("act_hf")
