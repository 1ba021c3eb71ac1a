"""What is told of a recipe that is finished, and of one that cannot be."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [teach]")

from test_reliance import DEFECTS, lone, of, scored, usual

from calibration.seal import Finished
from calibration.suspects import suspects
from engines.errors import PanelError


def finished(good: np.ndarray) -> Finished:
    return Finished(None, suspects(scored(good).names, good), of(good, DEFECTS), None)


def test_an_error_that_doubtful_panels_may_have_caused_names_them() -> None:
    with pytest.raises(PanelError, match=r"^no defects$"), finished(usual()).blamed():
        raise PanelError("no defects")
    with pytest.raises(PanelError, match=r"^no defects; train/good: the limit rests on p7"), finished(lone()).blamed():
        raise PanelError("no defects")


def test_one_panel_is_doubted_once() -> None:
    good = usual()
    good[7] = 90.0
    assert len(finished(good).doubts()) == 1
    with pytest.raises(PanelError, match=r"^no defects; train/good: p7"), finished(good).blamed():
        raise PanelError("no defects")
