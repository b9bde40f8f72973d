"""Hypothesis without a deadline, since machines differ; the same examples every time in CI."""

import os
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("sparqless", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("sparqless")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Has one worker run all tests of the cluster, which is started once then.

    Not by xdist_group: xdist 3.8 sets a field for it that pytest 9.2 no longer has.
    """
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class OneCluster(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "cluster" if "test_cluster.py::" in nodeid else nodeid

    return OneCluster(config, log)
