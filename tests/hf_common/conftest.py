"""Make the common tests of the installed Transformers importable as the package `transformers_tests`."""

from pathlib import Path

from tests.hf_common.common_tests import make_common_tests_importable
from tests.hf_common.not_applicable import why_not


def pytest_configure(config):
    for marker in ("accelerate_tests", "generate", "torch_compile_test", "flash_attn_test", "flash_attn_3_test"):
        config.addinivalue_line("markers", f"{marker}: set by Transformers' common tests")
    for marker in ("flash_attn_4_test", "torch_export_test", "slow"):
        config.addinivalue_line("markers", f"{marker}: set by Transformers' common tests")


def pytest_collection_modifyitems(config, items):
    not_applicable = [
        item
        for item in items
        if item.path.parent == Path(__file__).parent and why_not(item.cls.__name__, item.name) is not None
    ]
    config.hook.pytest_deselected(items=not_applicable)
    items[:] = [item for item in items if item not in set(not_applicable)]


make_common_tests_importable()
