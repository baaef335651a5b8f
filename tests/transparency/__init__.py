"""Evidence that a program cannot tell that it is recorded, and that what a recording claims is true."""

import pytest

pytest.register_assert_rewrite(f"{__name__}.sameness")
