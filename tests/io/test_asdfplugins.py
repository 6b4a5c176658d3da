"""asdf's extensions, loaded with the YAML loader in C: the same extensions, and nothing left changed."""

import subprocess
import sys

import yaml

from tso3.io.asdfplugins import load_plugins

SHOW = """
import asdf
{before}
print(sorted((e.extension_uri or "", len(e.tags), len(e.converters)) for e in asdf.get_config().extensions))
"""


def extensions(before: str) -> str:
    code = SHOW.format(before=before)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_same_extensions_as_without():
    ours = extensions("from tso3.io.asdfplugins import load_plugins; load_plugins()")
    assert ours == extensions("")
    assert "gwcs" in ours
    assert "transform" in ours


def test_yaml_is_left_as_it_was():
    before = yaml.safe_load
    load_plugins()
    assert yaml.safe_load is before
