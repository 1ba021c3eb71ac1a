"""The simulated PLC and belt as a stage of a demonstration line."""

import threading

from pipeline.bus import Bus
from pipeline.config import LineConfig
from pipeline.devices import conveyor_settings
from pipeline.plcs.simulated.conveyor import Conveyor
from pipeline.stage import Life

TURN_S = 0.1


def main(config: LineConfig, part: str, life: Life, bus: Bus) -> None:
    """Convey until told to stop; after the last panel it says so and keeps answering."""
    finished, stop, failed = threading.Event(), threading.Event(), []
    conveyor = Conveyor(conveyor_settings(config), finished=finished.set, stop=stop)

    def run() -> None:
        try:
            conveyor.run()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="conveyor")
    thread.start()
    while not life.stopping and thread.is_alive():
        life.tell("finished" if finished.is_set() else "ready")
        thread.join(TURN_S)
    stop.set()
    thread.join()
    if failed:
        raise failed[0]
