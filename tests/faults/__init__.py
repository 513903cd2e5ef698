"""One test for each fault that the archive must survive, named by its number."""

import pytest

pytest.register_assert_rewrite("tests.faults.archives")
