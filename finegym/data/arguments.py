"""Command lines and recipes hold plain values. Import this before jsonargparse parses what a stranger wrote.

By itself jsonargparse imports whatever `class_path` a YAML file names, and builds it where a value may be anything;
and PyYAML unfolds aliases until the memory is full.
"""

import jsonargparse
import yaml

from .text import parse_yaml


_load_yaml = jsonargparse.get_loader("yaml")


def _load_plain(text: str):
    parse_yaml(text)
    return _load_yaml(text)


jsonargparse.set_loader("yaml", _load_plain, exceptions=(yaml.YAMLError, ValueError))
jsonargparse.set_parsing_settings(import_path_denylist=["*"], instantiate_subclass_spec_in_any=False)
