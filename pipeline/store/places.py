"""The store of a line."""

from pipeline.config import LineConfig
from pipeline.store.connecting import Place, checked_url


def place_of(config: LineConfig) -> Place:
    """As its line file says.

    Raises:
        ConfigError: what it says is no address.
    """
    url = config.store.url
    return Place(config.state, checked_url(url, f"{config.source}: store.url") if url else None)
