"""Hypothesis without a deadline, since machines differ; the same examples every time in CI."""

import os

from hypothesis import settings

settings.register_profile("sparqless", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("sparqless")
