"""What the tests on a real broker share: one harness, so that a fault is a line of test data.

``broker`` starts Kafka, ``client`` is a plain client of it, ``load`` makes seeded events,
``worker`` starts and harms worker processes, ``background`` does things meanwhile, ``stream`` ties
one test's topics and workers together, ``reference`` says in the plainest Python what should come
out, ``vectors`` asks the stub encoder, and ``checks`` compares.
"""

import pytest

pytest.register_assert_rewrite("tests.harness.checks")  # a failed check shows its values
