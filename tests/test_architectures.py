"""The table of architectures is complete and true, and only it says which architecture a model is."""

import ast

import pytest
import yaml
from transformers import AutoModel, AutoModelForVideoClassification

import modeling_finegym
from finegym.architectures import ARCHITECTURES, find_architecture
from tests.test_house import PUBLISHED, ROOT, SOURCES, name


ROWS = pytest.mark.parametrize("row", ARCHITECTURES.values(), ids=ARCHITECTURES)


@ROWS
def test_a_row_holds_what_the_auto_classes_give(row):
    assert row.model_class.config_class is row.classifier_class.config_class is row.config_class
    assert AutoModel._model_mapping[row.config_class] is row.model_class
    assert AutoModelForVideoClassification._model_mapping[row.config_class] is row.classifier_class
    assert find_architecture(row.config_class.model_type) is row


@ROWS
def test_the_code_file_defines_both_classes(row):
    tree = ast.parse((PUBLISHED / row.code_file).read_text())
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert {row.model_class.__name__, row.classifier_class.__name__} <= defined


def test_every_published_classifier_has_a_row():
    exported = {item for item in modeling_finegym.__all__ if item.endswith("ForVideoClassification")}
    assert exported == {row.classifier_class.__name__ for row in ARCHITECTURES.values()}


def test_every_recipe_names_a_row_and_every_row_has_a_recipe():
    recipes = [yaml.safe_load(path.read_text()) for path in (ROOT / "configuration").glob("*/*.yaml")]
    named = {recipe["model"]["architecture"] for recipe in recipes if "model" in recipe}
    assert named == ARCHITECTURES.keys()


@pytest.mark.parametrize("path", [path for path in SOURCES if "benchmarks" not in path.parts], ids=name)
def test_nothing_else_compares_names_of_architectures(path):
    names = ARCHITECTURES.keys() | {row.config_class.model_type for row in ARCHITECTURES.values()}
    for node in ast.walk(ast.parse(path.read_text())):
        compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        compared += [node.value] if isinstance(node, ast.MatchValue) else []
        for part in compared:
            assert not (isinstance(part, ast.Constant) and part.value in names), ast.unparse(node)
