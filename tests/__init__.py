import pytest

# what these modules assert is shown with its values, as in a test file
pytest.register_assert_rewrite(
    "tests.tasks.embedding.steps", "tests.tasks.numbered", "tests.train.runs"
)
