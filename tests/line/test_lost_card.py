"""A card that stops answering: the batch under way is rejects, nothing more is asked of it, and the process ends."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_evidence_last import _trigger
from test_evidence_of_faults import Rig, rig

from engines.device_errors import device_error
from engines.errors import LostDeviceError
from pipeline import inspector
from pipeline.bus import Bus
from pipeline.messages import Fault, Outcome, Verdict

__all__ = ["rig"]


def lose_the_card(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(batch: object) -> Any:
        raise device_error("inspecting a batch of 2", 719)

    for detector in rig.inspector.detectors.values():
        monkeypatch.setattr(detector._feed, "start", lost)


def test_its_panels_are_rejects_and_the_stage_is_over(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_the_card(rig, monkeypatch)
    trigger = _trigger(rig.config, 1, next(iter(rig.inspector.detectors))).model_copy(update={"cameras": ("top",)})
    assert rig.control.send("triggers", trigger, to="inspector")
    rig.set_of(trigger)
    found: list[Verdict] = []
    while not found:
        rig.turn()
        found += [each.message for each in rig.control.drain() if isinstance(each.message, Verdict)]
    assert (found[0].outcome, found[0].fault) == (Outcome.REJECT, Fault.ENGINE) and np.isnan(found[0].score)
    assert isinstance(rig.inspector.lost, LostDeviceError) and "start anew" in rig.inspector.sick

    told: list[tuple[Any, ...]] = []
    life = SimpleNamespace(name="inspector", metrics=rig.inspector.metrics, stopping=False)
    life.tell = lambda *state: told.append(state)
    monkeypatch.setattr(inspector, "Inspector", lambda *made: rig.inspector)
    with Bus("other") as bus, pytest.raises(LostDeviceError, match="start anew") as raised:
        inspector.main(rig.config, "inspector", life, bus)  # type: ignore[arg-type]
    assert raised.value.exit_status == 3  # with which the supervisor starts it anew
    assert told[-1][:2] == ("error", rig.inspector.sick)
